"""Run the chain of a recipe: trainings, tests, pseudo-labels, the vote. What is done stands; start again to go on."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nightcrawler.utils.cli import at_least, make_parser
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.project import project_root

if TYPE_CHECKING:
    from nightcrawler.workflow.recipe import Recipe
    from nightcrawler.workflow.run import RunOptions
    from nightcrawler.workflow.task import Task

EXAMPLES = """\
  {command} configs/pipeline/ug2_2022.yaml --dry-run
  {command} configs/pipeline/demo.yaml --out demo/run --jobs 2 --control
  {command} configs/pipeline/own.yaml --bright ~/videos --dark ~/night --data data/own --out runs/own
  {command} configs/pipeline/ug2_2022.yaml --only exp_adapt_bn TRAIN.BATCH_SIZE 16
  {command} configs/pipeline/ug2_2022.yaml --executor slurm --slurm slurm_partition=gpu

Videos are taken to stay as they are; lists, weights, configurations, recipes and what links write are looked at.
exit codes: 0 done, 1 a link failed (the others that could run did), 2 an error that the line names,
75 or 130 stopped by SIGTERM or Ctrl-C after the running links saved (start again to go on)"""


def parse(argv: Sequence[str]) -> Any:
    """The command line."""
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument(
        "recipe", type=Path, metavar="RECIPE", help="such as configs/pipeline/ug2_2022.yaml"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY VALUE", help="configuration of every experiment"
    )
    parser.add_argument(
        "--overlay",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="merge FILE on top (repeatable)",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder of all that is made (default: the experiments' own folders)",
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="data folder (default: the recipe's)"
    )
    parser.add_argument(
        "--bright", type=Path, metavar="DIR", help="own videos: folder of class folders"
    )
    parser.add_argument(
        "--dark", type=Path, metavar="DIR", help="own videos: folder of unlabelled dark clips"
    )
    parser.add_argument("--dry-run", action="store_true", help="print what would be done")
    parser.add_argument(
        "--commands", action="store_true", help="with --dry-run: print each link's command too"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="LINK",
        help="run these (a name, a part of it, *; repeatable)",
    )
    parser.add_argument(
        "--from",
        dest="start",
        action="append",
        default=[],
        metavar="LINK",
        help="do these and what follows again",
    )
    parser.add_argument(
        "--control", action="store_true", help="train the recipe's equal-step controls too"
    )
    parser.add_argument(
        "--control-of",
        action="append",
        default=[],
        metavar="MODEL",
        help="such a control of this model (repeatable)",
    )
    parser.add_argument(
        "--oracle",
        action="store_true",
        help="choose checkpoints and thresholds by labels of dark clips (split arid)",
    )
    parser.add_argument(
        "--jobs", type=at_least(1), default=1, metavar="N", help="links at a time (default 1)"
    )
    parser.add_argument(
        "--nproc",
        type=at_least(1),
        default=os.environ.get("NPROC") or None,
        metavar="N",
        help="processes of a link (default: NPROC, or one a GPU)",
    )
    parser.add_argument(
        "--found",
        choices=("refuse", "adopt", "replace"),
        default="refuse",
        help="what to do with outputs that this command did not make (default refuse)",
    )
    parser.add_argument(
        "--executor",
        choices=("here", "slurm", "local"),
        default="here",
        help="slurm: a job for each link, through submitit; local: such jobs on this machine (default: here)",
    )
    parser.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of a job, as submitit names it: slurm_partition, timeout_min, ... (repeatable)",
    )
    return parser.parse_intermixed_args(argv)


def visible_gpus() -> list[str]:
    """The GPUs that links may use."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [gpu for gpu in chosen.split(",") if gpu.strip()]
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False
        ).stdout
    except OSError:
        return []
    return [str(number) for number in range(len(listed.splitlines()))]


def choose_controls(recipe: Recipe, arguments: Any) -> tuple[str, ...]:
    """Models that get a control: the recipe's, or those named."""
    unknown = [name for name in arguments.control_of if name not in recipe.models]
    if unknown:
        raise UserError(f"--control-of {unknown[0]}: expected one of {', '.join(recipe.models)}")
    return tuple(
        dict.fromkeys([*(recipe.control if arguments.control else ()), *arguments.control_of])
    )


def load(arguments: Any) -> tuple[list[Task], RunOptions]:
    """The links of the recipe, and how they are run; from here on, the current folder is the project's root."""
    from nightcrawler.workflow.jobs import Options
    from nightcrawler.workflow.plan import make_plan
    from nightcrawler.workflow.recipe import Places, read_recipe
    from nightcrawler.workflow.run import RunOptions

    for name in ("recipe", "out", "data", "bright", "dark"):
        path = getattr(arguments, name)
        setattr(arguments, name, path and path.resolve())
    arguments.overlay = [path.resolve() for path in arguments.overlay]
    os.chdir(project_root())
    out = arguments.out or project_root()
    state = arguments.out or project_root() / "runs" / arguments.recipe.stem
    places = Places(arguments.data, arguments.bright, arguments.dark)
    gpus = visible_gpus()
    alone = arguments.jobs == 1
    nproc = arguments.nproc or (max(len(gpus), 1) if alone else 1)
    recipe = read_recipe(arguments.recipe, project_root(), places)
    options = Options(
        project_root(),
        out,
        state,
        tuple(arguments.overlay),
        tuple(arguments.overrides),
        choose_controls(recipe, arguments),
        arguments.oracle,
        nproc,
        sys.executable,
    )
    links, about = make_plan(recipe, options)
    threads = max((os.cpu_count() or 1) // (arguments.jobs * nproc), 1)
    return links, RunOptions(
        project_root(),
        state,
        arguments.jobs,
        () if alone else tuple(gpus),
        threads,
        arguments.found,
        about,
    )


def show(
    arguments: Any, links: Sequence[Task], settings: RunOptions, again: set[str], selected: set[str]
) -> None:
    """Print the plan."""
    from nightcrawler.workflow.console import plan_rows, table
    from nightcrawler.workflow.run import HASHES
    from nightcrawler.workflow.task_state import FileHashes

    for line in table(
        plan_rows(links, FileHashes(settings.state / HASHES), again, selected),
        settings.about["labels"],
    ):
        print(line)
    if arguments.commands:
        import shlex

        for link in links:
            print(f"\n# {link.name}\n{shlex.join(link.command)}")


def job_command(arguments: Any, link: Task) -> list[str]:
    """The command line that does one link alone."""
    command = [
        sys.executable,
        str(project_root() / "tools/run_pipeline.py"),
        str(arguments.recipe),
        "--only",
        link.name,
    ]
    for name in ("out", "data", "bright", "dark", "nproc", "found"):
        value = getattr(arguments, name)
        command += [f"--{name}", str(value)] if value is not None else []
    for name, given in (("overlay", arguments.overlay), ("control-of", arguments.control_of)):
        command += [word for one in given for word in (f"--{name}", str(one))]
    command += [f"--{name}" for name in ("control", "oracle") if getattr(arguments, name)]
    return [*command, *arguments.overrides]


def hand_in(arguments: Any, links: Sequence[Task], settings: RunOptions, selected: set[str]) -> int:
    """Hand a job for each link that does not stand to a scheduler, and wait for all."""
    from nightcrawler.workflow import slurm
    from nightcrawler.workflow.console import Screen, plan_rows
    from nightcrawler.workflow.run import HASHES, Runner
    from nightcrawler.workflow.task import dependencies
    from nightcrawler.workflow.task_state import FileHashes

    make = functools.partial(
        slurm.make_executor, arguments.executor, settings.state / "jobs", arguments.slurm
    )
    make()  # settings that are none are refused before anything is handed in
    rows = plan_rows(links, FileHashes(settings.state / HASHES), set(), selected)
    chosen = [link for link, status, _, _ in rows if status == "to do"]
    screen, after = Screen(), dependencies(links)
    jobs = slurm.submit(
        make, chosen, after, lambda link: job_command(arguments, link), project_root()
    )
    slurm.announce(jobs, screen)
    try:
        return slurm.wait(chosen, jobs, screen)
    except KeyboardInterrupt:
        screen.note("jobs go on without this; start again when they have ended to see what is left")
        raise
    finally:
        Runner(links, settings, set(), screen).record()


def main(argv: Sequence[str]) -> int:
    """Make the plan, then show it or run it."""
    arguments = parse(argv)
    links, settings = load(arguments)
    from nightcrawler.workflow.run import Runner
    from nightcrawler.workflow.task import dependencies, downstream, match
    from nightcrawler.workflow.task_state import mark_redo

    selected = match(links, arguments.only) if arguments.only else {link.name for link in links}
    again = (
        downstream(match(links, arguments.start), dependencies(links)) if arguments.start else set()
    )
    again &= selected
    if arguments.dry_run:
        show(arguments, links, settings, again, selected)
        return 0
    mark_redo([link for link in links if link.name in again])
    if arguments.executor != "here":
        return hand_in(arguments, links, settings, selected)
    return Runner(links, settings, selected).run()
