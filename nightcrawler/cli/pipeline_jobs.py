"""Tasks of a pipeline as jobs: options, the command line of each job, and the queue."""

from __future__ import annotations

import argparse
import functools
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nightcrawler.utils.errors import UserError

# Imported where they are used: `--help` must not wait for libraries.
if TYPE_CHECKING:
    from nightcrawler.workflow.job_queue import Executor
    from nightcrawler.workflow.run_options import RunOptions
    from nightcrawler.workflow.task import Task

HERE = "here"
LOCAL = "local"
SLURM = "slurm"
RAY = "ray"


def add_executor_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose where tasks run."""
    parser.add_argument(
        "--executor",
        choices=(HERE, LOCAL, SLURM, RAY),
        default=HERE,
        help="here (default); local: a job for each task, on this machine; slurm: such jobs in "
        "Slurm's queue, through submitit; ray: such jobs as tasks of Ray, at RAY_ADDRESS or on "
        "this machine",
    )
    parser.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="setting of a job in the spelling of submitit: slurm_partition, timeout_min, ... "
        "(repeatable; default: RESOURCES of the recipe)",
    )


def add_snakemake_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that writes a workflow instead of running the tasks."""
    parser.add_argument(
        "--snakemake",
        type=Path,
        metavar="FILE",
        help="write a workflow of Snakemake that runs these tasks, and run none",
    )


def default_jobs(executor: str) -> int:
    """Return the number of tasks at a time where none is asked for."""
    return (os.cpu_count() or 1) if executor == LOCAL else 1


def job_command(arguments: argparse.Namespace, task: Task) -> list[str]:
    """Return the command line that runs one task alone."""
    from nightcrawler.workflow.commands import program

    command = [str(arguments.recipe), "--only", task.name]
    for name in ("out", "data", "bright", "dark", "ceiling", "nproc", "found"):
        value = getattr(arguments, name)
        if value is not None:
            command += [f"--{name}", str(value)]
    for path in arguments.overlay:
        command += ["--overlay", str(path)]
    for model in arguments.control_of:
        command += ["--control-of", model]
    for name in ("control", "oracle", "redo"):
        if getattr(arguments, name):
            command.append(f"--{name}")
    return program(sys.executable, "pipeline", [*command, *arguments.overrides])


def write_workflow(
    arguments: argparse.Namespace,
    tasks: Sequence[Task],
    options: RunOptions,
    again: set[str],
    selected: set[str],
) -> None:
    """Write the workflow that the command line asks for.

    Raises:
        UserError: If the chain decides while it runs which of its tasks run.
    """
    from nightcrawler.utils.file_hashes import CACHE_NAME, FileHashes
    from nightcrawler.workflow.console import plan_rows
    from nightcrawler.workflow.snakemake_file import write_snakefile
    from nightcrawler.workflow.task import dependencies

    if options.about["stop_below"]:
        raise UserError(
            f"--snakemake: STOP_BELOW {options.about['stop_below']:g} of {arguments.recipe} ends "
            "the chain while it runs: set STOP_BELOW: 0, or run it without Snakemake"
        )
    rows = plan_rows(tasks, FileHashes(options.state / CACHE_NAME), again, selected)
    write_snakefile(
        arguments.snakemake,
        [row for row in rows if row.task.name in selected],
        dependencies(tasks),
        functools.partial(job_command, arguments),
        options.root,
        options.state / "snakemake",
    )
    run = ["snakemake", "--snakefile", str(arguments.snakemake), "--cores", "all"]
    print(f"next: {shlex.join([*run, '--rerun-incomplete'])}")


def build_executor(
    arguments: argparse.Namespace, options: RunOptions, tasks: Sequence[Task]
) -> Executor:
    """Return the executor that the command line asks for, for some tasks."""
    from nightcrawler.workflow.local_jobs import LocalExecutor
    from nightcrawler.workflow.ray_jobs import RayExecutor
    from nightcrawler.workflow.slurm import SlurmExecutor

    logs = options.state / "jobs"
    if arguments.executor == SLURM:
        return SlurmExecutor(options.root, logs, arguments.slurm)
    if arguments.executor == RAY:
        return RayExecutor(options.root, logs, tasks)
    return LocalExecutor(options.root, logs, options.jobs, options.gpus, options.threads)


def run_jobs(
    arguments: argparse.Namespace, tasks: Sequence[Task], options: RunOptions, selected: set[str]
) -> int:
    """Run a job for each task that is out of date, wait for all jobs, and return the exit code."""
    from nightcrawler.utils.file_hashes import CACHE_NAME, FileHashes
    from nightcrawler.workflow.console import PLAN_TO_DO, Screen, plan_rows
    from nightcrawler.workflow.job_queue import JobQueue
    from nightcrawler.workflow.run import Runner
    from nightcrawler.workflow.task import dependencies

    rows = plan_rows(tasks, FileHashes(options.state / CACHE_NAME), set(), selected)
    chosen = [row.task for row in rows if row.status == PLAN_TO_DO]
    executor = build_executor(arguments, options, chosen)
    screen = Screen()
    command = functools.partial(job_command, arguments)
    queue = JobQueue(chosen, dependencies(tasks), executor, command, screen)
    try:
        return queue.run()
    except KeyboardInterrupt:
        screen.note("the jobs continue; start again to see their end")
        raise
    finally:
        Runner(tasks, options, set(), screen).record()
