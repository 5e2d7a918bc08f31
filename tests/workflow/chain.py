"""Chains of fake tasks: a small one with every kind, real recipes with fake programs, and ways to run them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from nightcrawler.workflow.console import Screen
from nightcrawler.workflow.job_queue import Executor, JobQueue
from nightcrawler.workflow.local_jobs import LocalExecutor
from nightcrawler.workflow.run import Runner
from nightcrawler.workflow.run_options import RunOptions
from nightcrawler.workflow.slurm import SlurmExecutor
from nightcrawler.workflow.task import Task, dependencies
from tests.paths import ROOT

FAKE = Path(__file__).resolve().parent / "fake_task.py"
MODELS = ("a", "b")


def faked(tasks: Sequence[Task], journal: Path, seconds: float = 0.0) -> list[Task]:
    """The same tasks with the fake program as their command."""
    found = []
    for task in tasks:
        files = [*map(str, task.outputs), ":", *map(str, task.inputs.values())]
        command = (
            sys.executable,
            "-S",
            "-E",
            str(FAKE),
            str(journal),
            task.name,
            str(seconds),
            *files,
        )
        found.append(replace(task, command=command, writes={}))
    return found


def small_chain(folder: Path, seconds: float = 0.0, signature: str = "") -> list[Task]:
    """Two models, one round, a vote; they read `folder/list.csv` and `folder/recipe.txt`."""
    tasks: list[Task] = []

    def add(name: str, inputs: dict[str, Path], *outputs: Path) -> None:
        kind = name.split("/")[0]
        where = outputs[0].parent
        leftovers = ("checkpoints/latest",) if kind == "train" else ()
        tasks.append(Task(name, kind, (), signature, inputs, outputs, where, leftovers=leftovers))

    for stage in ("first", "second"):
        for model in MODELS:
            here = folder / stage / model
            inputs = {"list": folder / "list.csv"}
            if stage == "second":
                inputs |= {
                    "start": folder / "first" / model / "best.pyth",
                    "pseudo": folder / "pseudo/second.csv",
                }
            add(f"train/{stage}/{model}", inputs, here / "best.pyth")
            add(
                f"test/{stage}/{model}",
                {"weights": here / "best.pyth"},
                here / "1.pkl",
                here / "2.pkl",
            )
        if stage == "first":
            inputs = {model: folder / stage / model / "1.pkl" for model in MODELS}
            add(
                "label/second",
                {**inputs, "recipe": folder / "recipe.txt"},
                folder / "pseudo/second.csv",
            )
    add(
        "vote",
        {model: folder / "second" / model / "2.pkl" for model in MODELS},
        folder / "vote/arid_pred.csv",
    )
    return faked(tasks, folder / "journal", seconds)


def prepare(folder: Path) -> Path:
    """The files that a small chain reads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "list.csv").write_text("clip.mp4,0\n")
    (folder / "recipe.txt").write_text("equal\n")
    return folder


def run(
    folder: Path,
    tasks: Sequence[Task],
    jobs: int = 1,
    selected: set[str] | None = None,
    found: str = "refuse",
    redo: bool = False,
) -> tuple[int, Runner]:
    """Run tasks; returns the exit code and the runner."""
    runner = Runner(
        tasks, RunOptions(ROOT, folder, jobs, found=found, redo=redo), selected, Screen(quiet=True)
    )
    return runner.run(), runner


def journal(folder: Path) -> list[str]:
    """What tasks said since the journal was last read."""
    path = folder / "journal"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def started(folder: Path) -> list[str]:
    """Names of tasks that were started since the journal was last read, in order."""
    return [line.removeprefix("start ") for line in journal(folder) if line.startswith("start ")]


def outputs(folder: Path, tasks: Sequence[Task]) -> dict[str, bytes]:
    """Contents of all outputs."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for task in tasks for path in task.outputs
    }


def job_command_of(folder: Path, seconds: float = 0.0) -> Callable[[Task], list[str]]:
    """Function that gives the command which does one task of the small chain, as `--only` does."""
    start = [sys.executable, "-m", "tests.workflow.chain", "only", str(folder), str(seconds)]
    return lambda task: [*start, task.name]


@contextlib.contextmanager
def in_thread(function: Callable[[], None]) -> Iterator[None]:
    """Run a function beside the block, and raise what it raised."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(function)
        yield
        future.result(60)


def main(way: str, folder: Path, seconds: float, *rest: str) -> int:
    """Run the small chain: `here FOLDER SECONDS JOBS`, `jobs ...` (local ones), `slurm ...`, `only ... TASK`."""
    tasks = small_chain(folder, seconds)
    if way == "only":
        return run(folder, tasks, selected={rest[0]})[0]
    if way in ("jobs", "slurm"):
        executor: Executor
        if way == "jobs":
            executor = LocalExecutor(ROOT, folder / "jobs", int(rest[0]))
        else:
            executor = SlurmExecutor(ROOT, folder / "jobs", [])
        command = job_command_of(folder, seconds)
        return JobQueue(tasks, dependencies(tasks), executor, command, Screen()).run()
    return run(folder, tasks, int(rest[0]))[0]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2]), float(sys.argv[3]), *sys.argv[4:]))
