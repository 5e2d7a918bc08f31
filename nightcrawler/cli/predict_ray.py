"""Prediction of a list by workers that are tasks of Ray."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from nightcrawler.utils.command_line import at_least

POLL_SEC = 0.5


def add_ray_option(group: argparse._ArgumentGroup) -> None:
    """Add the option that asks for workers of Ray."""
    group.add_argument(
        "--ray",
        type=at_least(1),
        metavar="N",
        help="predict by N workers that are tasks of Ray (needs --out)",
    )


def ray_fault(arguments: argparse.Namespace) -> str:
    """Return the first fault of the option, empty where there is none."""
    if arguments.ray and arguments.out is None:
        return "--ray needs --out"
    if arguments.ray and arguments.shard is not None:
        return "--ray numbers its workers itself: it does not go with --shard"
    return ""


def worker_commands(argv: Sequence[str], count: int) -> list[list[str]]:
    """Return the command line of each worker: the same with a shard in the place of `--ray`."""
    from nightcrawler.workflow.commands import program

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--ray")
    _, words = parser.parse_known_args(argv)
    return [
        program(sys.executable, "predict", ["--shard", f"{number}/{count}", *words])
        for number in range(count)
    ]


def predict_by_ray(argv: Sequence[str], arguments: argparse.Namespace) -> int:
    """Run the workers to their end and return the highest of their exit codes.

    Args:
        argv: Command line.
        arguments: The same, parsed.
    """
    from nightcrawler.utils import ray_tasks

    ray = ray_tasks.connect("--ray")
    gpus = int(ray.cluster_resources().get("GPU", 0) > 0)
    logs = arguments.out.resolve() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    running = {}
    for number, command in enumerate(worker_commands(argv, arguments.ray)):
        log = logs / f"worker{number}.log"
        running[log] = ray_tasks.start(command, Path.cwd(), log, gpus=gpus)
    codes: list[int] = []
    try:
        while running:
            for log, reference in list(running.items()):
                code = ray_tasks.exit_code(reference)
                if code is not None:
                    del running[log]
                    codes.append(code)
                    print(f"{log.stem} ended with {code}, log: {log}", file=sys.stderr)
            time.sleep(POLL_SEC)
    finally:
        for reference in running.values():
            ray_tasks.cancel(reference)
    if max(codes) in (0, 3):
        sources = [os.fspath(source) for source in arguments.sources]
        merge = ["nightcrawler", "predict", "merge", "--out", str(arguments.out), *sources]
        print(f"next: {shlex.join(merge)}")
    return max(codes)
