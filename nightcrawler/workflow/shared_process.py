"""One process for several tasks of a kind: tests of one model import torch once.

A task keeps its own command, log, lock and state. The process runs the commands one after the other
(`nightcrawler several`) and reports each exit code when it is known, so that tasks which wait for
the first need not wait for the last.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import open_own
from nightcrawler.workflow.commands import program
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_process import (
    TaskProcess,
    accuracy_told,
    error_line,
    note_start,
)

# Exit code of a task that its process did not come to.
NOT_BEGUN = -1000
COMMAND = "several"
# Words before those of `nightcrawler`: interpreter, `-m` and the package.
NUM_PROGRAM_WORDS = 3


class RunningProcess(Protocol):
    """Process of a task, alone or shared."""

    task: Task
    log: Path
    lock: int

    @property
    def seconds(self) -> float:
        """Return the time that the task has run."""

    def poll(self) -> int | None:
        """Return the task's exit code, or `None` while it runs."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to all processes that it started."""

    def last_line(self) -> str:
        """Return the last `error:` line of the task's output, or else the last line."""

    def accuracy(self) -> str:
        """Return the accuracy that the task's output tells, empty for none."""


class _Report:
    """Report of a shared process: `[exit code, seconds]` of each task that has ended, as lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.unlink(missing_ok=True)

    def read(self) -> list[tuple[int, float]]:
        """Return the complete lines."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        # The last line may be half written.
        return [tuple(json.loads(line)) for line in text.splitlines(keepends=True) if "\n" in line]


class ProcessShare:
    """Share of a task in a process that runs several.

    Args:
        process: the process.
        report: its report.
        place: index of the task among those of the process.
        task: the task.
        log: its log.
        offset: length of the log before.
        lock: its lock, which the process has inherited.
    """

    def __init__(
        self,
        process: TaskProcess,
        report: _Report,
        place: int,
        task: Task,
        log: Path,
        offset: int,
        lock: int,
    ) -> None:
        self.task = task
        self.log = log
        self.lock = lock
        self._process = process
        self._report = report
        self._place = place
        self._offset = offset

    @property
    def seconds(self) -> float:
        """Return the time that the task has run, without that of those before it."""
        rows = self._report.read()
        if self._place < len(rows):
            return rows[self._place][1]
        if self._place > len(rows):
            return 0.0
        return self._process.seconds - sum(seconds for _, seconds in rows)

    def poll(self) -> int | None:
        """Return the task's exit code, `NOT_BEGUN` if its process ended before its turn."""
        # In this order: a process may report and end between the two.
        ended = self._process.poll()
        rows = self._report.read()
        if self._place < len(rows):
            return rows[self._place][0]
        if ended is None:
            return None
        if self._place > len(rows):
            return NOT_BEGUN
        # It ended without a report, which no exit code makes a success.
        return ended or 1

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and to all processes that it started."""
        self._process.signal(number)

    def last_line(self) -> str:
        """Return the last `error:` line of the task's output, or else the last line."""
        return error_line(self.log, self._offset)

    def accuracy(self) -> str:
        """Return the accuracy that the task's output tells, empty for none."""
        return accuracy_told(self.log, self._offset)


def can_share(task: Task, other: Task) -> bool:
    """Return whether two tasks may run in one process."""
    first = task.command[:NUM_PROGRAM_WORDS]
    program_words = program(first[0], "")[:NUM_PROGRAM_WORDS] if first else None
    return (
        bool(task.group)
        and task.group == other.group
        and list(first) == program_words
        and first == other.command[:NUM_PROGRAM_WORDS]
    )


def start_processes(
    tasks: Sequence[Task], cwd: Path, logs: Path, env: Mapping[str, str], locks: Sequence[int]
) -> Sequence[RunningProcess]:
    """Start the process of a task, or one for several tasks.

    Args:
        tasks: one, or several that can share.
        cwd: folder in which it runs.
        logs: folder of the tasks' logs.
        env: its environment variables.
        locks: the tasks' locks. Where the program cannot be started, all but the first are closed.

    Returns:
        The process of each task.

    Raises:
        OSError: if the program cannot be started.
    """
    try:
        if len(tasks) == 1:
            return [TaskProcess(tasks[0], cwd, logs / f"{tasks[0].slug}.log", env, locks[0])]
        return _start_shared(tasks, cwd, logs, env, locks)
    except (UserError, OSError):
        # The others wait for their own turn.
        for lock in locks[1:]:
            os.close(lock)
        raise


def _start_shared(
    tasks: Sequence[Task], cwd: Path, logs: Path, env: Mapping[str, str], locks: Sequence[int]
) -> list[ProcessShare]:
    paths = [logs / f"{task.slug}.log" for task in tasks]
    parts = []
    for task, path in zip(tasks, paths, strict=True):
        parts.append({"words": list(task.command[NUM_PROGRAM_WORDS:]), "log": str(path)})
    logs.mkdir(parents=True, exist_ok=True)
    report = _Report(logs / f"{tasks[0].slug}.report")
    # Logs of all are opened before the process starts: it may end at once.
    offsets = []
    for task, path in zip(tasks, paths, strict=True):
        with open_own(path, "ab") as file:
            offsets.append(note_start(file, task.command))
    words = program(tasks[0].command[0], COMMAND, [json.dumps(parts), str(report.path)])
    leader = replace(tasks[0], command=tuple(words))
    # What the process says before its first command and after its last one.
    own_log = logs / f"{tasks[0].slug}.shared.log"
    process = TaskProcess(leader, cwd, own_log, env, locks[0], locks[1:])
    rows = zip(tasks, paths, offsets, locks, strict=True)
    return [
        ProcessShare(process, report, place, task, path, offset, lock)
        for place, (task, path, offset, lock) in enumerate(rows)
    ]
