"""Console output of a pipeline: a line for each event, a progress bar, the table of the plan."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.utils.progress import format_seconds
from nightcrawler.workflow.pipeline_file import TaskRow
from nightcrawler.workflow.task import Task, dependencies
from nightcrawler.workflow.task_state import TaskCheck, check_task

# Statuses of the plan.
PLAN_DONE = "done"
PLAN_TO_DO = "to do"
PLAN_LEFT_OUT = "left out"


class Progress(NamedTuple):
    """Number of finished tasks, number of tasks, and estimate of the seconds left (if any)."""

    done: int
    total: int
    seconds_left: float | None = None


class Screen:
    """Progress of a pipeline: a line for each task that starts or ends, and a bar on a terminal.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._started = time.monotonic()
        self._bar: Any = None

    def open(self, total: int) -> None:
        """Start the clock and the bar of a number of tasks."""
        self._started = time.monotonic()
        if not self._quiet and sys.stderr.isatty():
            layout = "{bar:30} {n_fmt}/{total_fmt} tasks, {elapsed}{postfix}"
            self._bar = tqdm(total=total, bar_format=layout)

    def up_to_date(self, name: str, progress: Progress) -> None:
        """Show a task that was up to date, by the bar alone if there is one."""
        # A resumed pipeline may have hundreds of these: they would hide the tasks that run.
        if self._bar is None:
            self._write_event("up to date", name, progress)

    def event(
        self, name: str, status: str, progress: Progress, reason: str = "", seconds: float = 0.0
    ) -> None:
        """Show a task's new status.

        Args:
            name: Name of the task.
            status: Its status.
            progress: Progress of the pipeline.
            reason: Reason of the status, if any.
            seconds: Time that the task took.
        """
        text = name
        if seconds:
            text += f" in {format_seconds(seconds)}"
        if status == "done" and progress.seconds_left is not None:
            text += f", about {format_seconds(progress.seconds_left)} left"
        if reason:
            text += f": {reason}"
        self._write_event(status, text, progress)

    def _write_event(self, word: str, text: str, progress: Progress) -> None:
        # A fixed width aligns the names below one another.
        elapsed = format_seconds(time.monotonic() - self._started)
        self.note(f"[{progress.done:>3}/{progress.total}] {elapsed} {word:<11}{text}")

    def note(self, text: str) -> None:
        """Show a line of text."""
        if self._quiet:
            return
        try:
            if self._bar is None:
                sys.stdout.write(f"{text}\n")
                sys.stdout.flush()
            else:
                self._bar.write(text)
        except OSError:
            # The terminal was closed: tasks have to be stopped and recorded all the same.
            self._quiet = True
            self._bar = None

    def tick(self, progress: Progress) -> None:
        """Update the bar."""
        if self._bar is None:
            return
        left = ""
        if progress.seconds_left is not None:
            left = f"about {format_seconds(progress.seconds_left)} left"
        # Setting `n` and updating by 0 also moves the clock while no task ends.
        self._bar.n = progress.done
        self._bar.set_postfix_str(left, refresh=False)
        try:
            self._bar.update(0)
        except OSError:
            self._quiet = True
            self._bar = None

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def plan_rows(
    tasks: Sequence[Task], hashes: FileHashes, again: set[str], selected: set[str]
) -> list[TaskRow]:
    """Return the plan: a row for each task with the status `done`, `to do` or `left out`.

    A task whose inputs will be made again may turn out to be up to date, if the same bytes result.

    Args:
        tasks: Tasks in order.
        hashes: Hashes of files.
        again: Names of tasks that are to be done again.
        selected: Names of tasks that may run.
    """
    needed = dependencies(tasks)
    # Tasks that will run, and may change the inputs of those after them.
    open_tasks: set[str] = set()
    rows: list[TaskRow] = []
    for task in tasks:
        check = check_task(task, hashes)
        open_inputs = [name for name in needed[task.name] if name in open_tasks]
        if task.name not in selected:
            row = TaskRow(task, PLAN_LEFT_OUT, check.reason, check.state)
        elif task.name in again:
            row = TaskRow(task, PLAN_TO_DO, "to be done again", check.state)
        elif open_inputs or not check.up_to_date:
            reason = _reason(check, open_inputs)
            row = TaskRow(task, PLAN_TO_DO, reason, check.state, may_stay=check.up_to_date)
        else:
            row = TaskRow(task, PLAN_DONE, "", check.state)
        if row.status == PLAN_TO_DO:
            open_tasks.add(task.name)
        rows.append(row)
    return rows


def _reason(check: TaskCheck, open_inputs: Sequence[str]) -> str:
    if not open_inputs:
        return check.reason
    if check.up_to_date:
        return f"if {open_inputs[0]} changes"
    return f"after {open_inputs[0]}"


def table(rows: Iterable[TaskRow], labels: str) -> Iterator[str]:
    """Format the plan as a table.

    Args:
        rows: The plan.
        labels: `label-free` or `oracle`: use of labels of dark clips.

    Yields:
        A line for each task, then one with totals.
    """
    rows = list(rows)
    width = max(len(row.task.name) for row in rows) + 2
    for row in rows:
        took = ""
        if row.status == PLAN_DONE and row.state is not None:
            took = format_seconds(row.state.seconds)
        yield f"{row.task.name:<{width}}{row.status:<9}{took:>8}  {row.reason}".rstrip()
    statuses = [row.status for row in rows]
    done = statuses.count(PLAN_DONE)
    to_do = statuses.count(PLAN_TO_DO)
    at_most = "at most " if any(row.may_stay for row in rows) else ""
    yield f"{len(rows)} tasks, {done} done, {at_most}{to_do} to do, choices are {labels}"
