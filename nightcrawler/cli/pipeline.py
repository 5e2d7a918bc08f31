"""Run a pipeline: trainings, tests, pseudo-labels and the vote of a recipe.

Only tasks that are out of date run. Start the same command again to resume.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nightcrawler.cli.pipeline_jobs import (
    add_executor_options,
    add_snakemake_option,
    default_jobs,
    run_jobs,
    write_workflow,
)
from nightcrawler.utils.command_line import at_least, invocation, make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.gpus import visible_gpus
from nightcrawler.utils.project import project_root

# Imported where they are used: `--help` must not wait for libraries.
if TYPE_CHECKING:
    from nightcrawler.workflow.recipe import Recipe
    from nightcrawler.workflow.run_options import RunOptions
    from nightcrawler.workflow.task import Task

EXAMPLES = """\
  {command} configs/pipeline/ug2_2022.yaml --dry-run
  {command} configs/pipeline/demo.yaml --out demo/run --jobs 2 --control
  {command} configs/pipeline/own.yaml --bright ~/videos --dark ~/night \\
      --data data/own --out runs/own
  {command} configs/pipeline/ug2_2022.yaml \\
      --only exp_adapt_bn TRAIN.BATCH_SIZE 16
  {command} configs/pipeline/ug2_2022.yaml --executor slurm \\
      --slurm slurm_partition=gpu

A task is out of date if a list, a video, weights, a configuration, a recipe or an output of a task
has changed. A training of another configuration is refused, not discarded, unless --redo is given;
one of other data is moved to .superseded in its folder.
exit codes: 0 done; 1 a task failed (all others that could run have run); 2 an error, with a line;
75 or 130 stopped by SIGTERM or Ctrl-C after the running tasks saved their state (start again to
resume)"""
# `adopt` is the spelling of version 0.1.
FOUND = {"refuse": "refuse", "import": "import", "adopt": "import", "replace": "replace"}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "recipe", type=Path, metavar="RECIPE", help="such as configs/pipeline/ug2_2022.yaml"
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        type=str,
        metavar="KEY VALUE",
        help="configuration of every experiment",
    )
    parser.add_argument(
        "--overlay",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="configuration file merged on every experiment (repeatable)",
    )
    _add_folders(parser)
    _add_choice_of_tasks(parser)
    _add_ways_to_run(parser)
    arguments = parser.parse_intermixed_args(argv)
    arguments.jobs = arguments.jobs or default_jobs(arguments.executor)
    return arguments


def _add_folders(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of all outputs (default: the experiments' own folders)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="data folder (default: the recipe's)"
    )
    parser.add_argument(
        "--bright",
        type=Path,
        metavar="DIR",
        help="own videos: folder of class folders (default: the recipe's)",
    )
    parser.add_argument(
        "--dark",
        type=Path,
        metavar="DIR",
        help="own videos: folder of unlabelled dark clips (default: the recipe's)",
    )


def _add_choice_of_tasks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="print the tasks that would run, and run none"
    )
    parser.add_argument(
        "--commands", action="store_true", help="with --dry-run: also print each task's command"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="TASK",
        help="run only these tasks (a name, a part of one, or a pattern with *; repeatable)",
    )
    parser.add_argument(
        "--from",
        dest="start",
        action="append",
        default=[],
        metavar="TASK",
        help="run these tasks and all after them again (repeatable)",
    )
    parser.add_argument(
        "--redo",
        action="store_true",
        help="discard trainings of another configuration, and train again (default: refuse)",
    )
    parser.add_argument(
        "--control", action="store_true", help="also train the recipe's equal-step controls"
    )
    parser.add_argument(
        "--control-of",
        action="append",
        default=[],
        metavar="MODEL",
        help="also train an equal-step control of this model (repeatable)",
    )
    parser.add_argument(
        "--ceiling",
        type=Path,
        metavar="CSV",
        help="also train the models of the last round on true labels of the unlabelled clips (rows "
        "path,label): a figure of the report, which nothing is made from",
    )
    parser.add_argument(
        "--oracle",
        action="store_true",
        help="choose checkpoints and thresholds by labels of dark clips (split arid)",
    )


def _add_ways_to_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs",
        type=at_least(1),
        metavar="N",
        help="number of tasks at a time (default: 1; with --executor local one per processor)",
    )
    parser.add_argument(
        "--nproc",
        type=at_least(1),
        default=os.environ.get("NPROC") or None,
        metavar="N",
        help="processes of a task (default: NPROC, or one for each GPU)",
    )
    parser.add_argument(
        "--found",
        choices=tuple(FOUND),
        default="refuse",
        help="outputs that exist and were not made by this command: refuse them (default), import "
        "(or adopt) them as results, or replace them",
    )
    add_executor_options(parser)
    add_snakemake_option(parser)


def choose_controls(recipe: Recipe, arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return the models that get a control: the recipe's, and those named.

    Raises:
        UserError: For a model that the recipe does not have.
    """
    for name in arguments.control_of:
        if name not in recipe.models:
            raise UserError(f"--control-of {name}: expected one of {', '.join(recipe.models)}")
    chosen = [*recipe.control] if arguments.control else []
    return tuple(dict.fromkeys([*chosen, *arguments.control_of]))


def load(
    arguments: argparse.Namespace, num_compared: int | None = None
) -> tuple[list[Task], RunOptions]:
    """Plan the recipe, and make the project's root the current folder.

    Args:
        arguments: Command line.
        num_compared: See `PlanOptions`.

    Returns:
        The tasks, and the options of the run.
    """
    from nightcrawler.utils.outputs import check_targets
    from nightcrawler.workflow.jobs import PlanOptions
    from nightcrawler.workflow.plan import make_plan
    from nightcrawler.workflow.recipe import Places, read_recipe
    from nightcrawler.workflow.run_options import RunOptions

    # Paths of the command line are relative to the folder of the caller.
    for name in ("recipe", "out", "data", "bright", "dark", "ceiling", "snakemake"):
        path = getattr(arguments, name)
        setattr(arguments, name, path and path.resolve())
    check_targets([arguments.snakemake], [arguments.out, arguments.data])
    arguments.overlay = [path.resolve() for path in arguments.overlay]
    root = project_root()
    os.chdir(root)
    gpus = visible_gpus()
    # A single job has all GPUs, one process on each; several jobs share them out.
    alone = arguments.jobs == 1
    nproc = arguments.nproc or (max(len(gpus), 1) if alone else 1)
    recipe = read_recipe(
        arguments.recipe, root, Places(arguments.data, arguments.bright, arguments.dark)
    )
    state = arguments.out or root / "runs" / arguments.recipe.stem
    options = PlanOptions(
        root=root,
        out=arguments.out or root,
        state=state,
        overlays=tuple(arguments.overlay),
        overrides=tuple(arguments.overrides),
        control=choose_controls(recipe, arguments),
        oracle=arguments.oracle,
        nproc=nproc,
        python=sys.executable,
        download=not arguments.dry_run,
        num_compared=num_compared,
        ceiling=arguments.ceiling,
    )
    tasks, about = make_plan(recipe, options)
    return tasks, RunOptions(
        root=root,
        state=state,
        jobs=arguments.jobs,
        gpus=() if alone else tuple(gpus),
        threads=max((os.cpu_count() or 1) // (arguments.jobs * nproc), 1),
        found=FOUND[arguments.found],
        redo=arguments.redo,
        about=about,
    )


def show(
    tasks: Sequence[Task],
    options: RunOptions,
    again: set[str],
    selected: set[str],
    commands: bool,
) -> None:
    """Print the plan, and with `commands` each task's command line."""
    from nightcrawler.utils.file_hashes import CACHE_NAME, FileHashes
    from nightcrawler.workflow.console import plan_rows, table

    rows = plan_rows(tasks, FileHashes(options.state / CACHE_NAME), again, selected)
    for line in table(rows, options.about["labels"]):
        print(line)
    if commands:
        for task in tasks:
            print(f"\n# {task.name}\n{shlex.join(task.command)}")


def run_tasks(
    arguments: argparse.Namespace, tasks: Sequence[Task], options: RunOptions, selected: set[str]
) -> int:
    """Run tasks here or as jobs of a scheduler, and return the exit code."""
    from nightcrawler.workflow.run import Runner

    if arguments.executor != "here":
        return run_jobs(arguments, tasks, options, selected)
    return Runner(tasks, options, selected).run()


def run_until_settled(arguments: argparse.Namespace) -> int:
    """Run round after round, until the pseudo-labels hardly move, and return the exit code.

    Whether a round is the last is known when the labels of the next one are made. So the tasks up
    to them run first, and what is left is planned anew.
    """
    seen: set[str] = set()
    num_compared = 1
    while True:
        tasks, options = load(arguments, num_compared)
        labels = [place for place, task in enumerate(tasks) if task.kind == "label"]
        stopped = options.about["stopped"]
        end = len(tasks)
        if not stopped and num_compared < len(labels):
            end = labels[num_compared] + 1
        names = {task.name for task in tasks[:end]}
        if stopped:
            print(stopped)
        code = run_tasks(arguments, tasks, options, names - seen)
        if code or end == len(tasks):
            return code
        seen = names
        num_compared += 1


def main(argv: Sequence[str]) -> int:
    """Plan the recipe, then show the plan or run it."""
    arguments = parse(argv)
    tasks, options = load(arguments)
    from nightcrawler.workflow.task import dependencies, downstream, match
    from nightcrawler.workflow.task_state import mark_redo

    # Without --only, every task is selected; those that are up to date are skipped later.
    selected = {task.name for task in tasks}
    if arguments.only:
        selected = match(tasks, arguments.only)
    again: set[str] = set()
    if arguments.start:
        # Outputs after a repeated task were made from its old output, so they are made again, too.
        again = downstream(match(tasks, arguments.start), dependencies(tasks)) & selected
    if arguments.dry_run:
        show(tasks, options, again, selected, arguments.commands)
    for note in options.about["notes"]:
        print(f"warning: {note}")
    if arguments.dry_run:
        return 0
    # Written down before the run: a run that is stopped must not forget what was to be redone.
    mark_redo([task for task in tasks if task.name in again])
    if arguments.snakemake:
        write_workflow(arguments, tasks, options, again, selected)
        return 0
    if options.about["stop_below"] and not arguments.only:
        code = run_until_settled(arguments)
    else:
        code = run_tasks(arguments, tasks, options, selected)
    if code == 0 and arguments.executor == "here":
        print(f"next: {next_command(options.state)}")
    return code


def next_command(state: Path) -> str:
    """Return the command that reports on a run, in the spelling that the user started this one.

    Args:
        state: folder of the run.
    """
    program = "nightcrawler report"
    if invocation().endswith("run_pipeline.py"):
        program = invocation().replace("run_pipeline.py", "report.py")
    return f"{program} {shlex.quote(str(state))}"
