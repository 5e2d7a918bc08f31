"""Queue of jobs: each task that is out of date becomes a job of an executor.

A job runs the pipeline command for its task alone. That command checks again whether the task is
up to date, runs it and records its state, so that the queue needs no other news than the job's end.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import Protocol

from nightcrawler.utils.signals import signal_handler
from nightcrawler.workflow.console import Progress, Screen
from nightcrawler.workflow.run_options import (
    BLOCKED,
    DONE,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_STOPPED,
    FAILED,
    RUNNING,
    STOP_SIGNALS,
    STOPPED,
    WAITING,
)
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import TaskState, read_state

POLL_SEC = 0.1
# Times that a job which was stopped is queued again. A bound, since a task may stop at once.
MAX_RESTARTS = 100


class Job(Protocol):
    """Job of one task."""

    @property
    def label(self) -> str:
        """Return its number, by which people look for it."""

    @property
    def log(self) -> str:
        """Return the file of its output."""

    def poll(self) -> int | None:
        """Return its exit code, `None` while it waits or runs. 75 asks for another start."""


class Executor(Protocol):
    """Place where jobs run.

    Attributes:
        holds_order: A job may be submitted before those that it needs have ended.
        outlives: Jobs go on when this command ends.
    """

    holds_order: bool
    outlives: bool

    def has_room(self, task: Task) -> bool:
        """Return whether a job of this task may be submitted now."""

    def submit(self, task: Task, command: Sequence[str], before: Sequence[Job]) -> Job:
        """Submit a job that starts when all jobs `before` have succeeded."""

    def stop(self) -> None:
        """Ask the jobs that run to save their state and end."""


class JobQueue:
    """Run tasks as jobs.

    Args:
        tasks: Tasks that are out of date, in order.
        needed: Name of a task to the names of the tasks that it needs.
        executor: Place where the jobs run.
        command: Function of a task that returns the command line that runs it alone.
        screen: Display of progress.

    Example:
        executor = LocalExecutor(root, root / "logs", jobs=2)
        code = JobQueue(tasks, dependencies(tasks), executor, command, Screen()).run()
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        needed: Mapping[str, Sequence[str]],
        executor: Executor,
        command: Callable[[Task], Sequence[str]],
        screen: Screen,
    ) -> None:
        self.tasks = {task.name: task for task in tasks}
        self.needed = {
            name: [before for before in needed[name] if before in self.tasks] for name in self.tasks
        }
        self.executor = executor
        self.command = command
        self.screen = screen
        self.status = dict.fromkeys(self.tasks, WAITING)
        self.jobs: dict[str, Job] = {}
        # States before the jobs: a job that recorded none of its own did not come to its task.
        self._before: dict[str, TaskState | None] = {}
        self._starts = dict.fromkeys(self.tasks, 0)
        self._stop: signal.Signals | None = None

    def run(self) -> int:
        """Run until all tasks are settled.

        Returns:
            0, 1 if a task failed, 75 or 130 if this command was asked to stop.
        """
        # A scheduler's jobs go on without this command, which any signal ends as usual.
        numbers = () if self.executor.outlives else STOP_SIGNALS
        with signal_handler(numbers, self._request_stop):
            while self._open_names():
                if not self._collect_ended() and not self._submit_ready():
                    time.sleep(POLL_SEC)
        if self._stop is not None:
            return EXIT_INTERRUPTED if self._stop == signal.SIGINT else EXIT_STOPPED
        statuses = set(self.status.values())
        if FAILED in statuses:
            return EXIT_FAILED
        return EXIT_STOPPED if statuses & {BLOCKED, STOPPED} else 0

    def _open_names(self) -> list[str]:
        return [name for name, status in self.status.items() if status in (WAITING, RUNNING)]

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop = self._stop or signal.Signals(number)
        self.executor.stop()

    # Start

    def _submit_ready(self) -> bool:
        """Submit the jobs that may be submitted, and return whether a task changed its status."""
        changed = False
        for name in self._open_names():
            if self.status[name] == WAITING and self._submit_or_block(name):
                changed = True
        return changed

    def _submit_or_block(self, name: str) -> bool:
        statuses = {before: self.status[before] for before in self.needed[name]}
        if self._stop is not None:
            self._settle(name, STOPPED, "not started")
            return True
        lost = [before for before, status in statuses.items() if _is_lost(status)]
        if lost:
            self._settle(name, BLOCKED, f"needs {lost[0]}")
            return True
        held = [before for before, status in statuses.items() if status != DONE]
        if held and not (self.executor.holds_order and all(before in self.jobs for before in held)):
            return False
        task = self.tasks[name]
        if not self.executor.has_room(task):
            return False
        self._before[name] = read_state(task.state_file)
        jobs = [self.jobs[before] for before in held]
        self.jobs[name] = self.executor.submit(task, self.command(task), jobs)
        self._starts[name] += 1
        self.status[name] = RUNNING
        self.screen.event(name, RUNNING, self._progress(), f"job {self.jobs[name].label}")
        return True

    # End

    def _collect_ended(self) -> bool:
        """Settle the tasks whose jobs have ended, and return whether there was one."""
        changed = False
        for name in self._open_names():
            code = self.jobs[name].poll() if self.status[name] == RUNNING else None
            if code is not None:
                self._finish(name, code)
                changed = True
        return changed

    def _finish(self, name: str, code: int) -> None:
        """Settle a task whose job has ended, or make it wait for another start."""
        state = read_state(self.tasks[name].state_file)
        log = f"log: {self.jobs[name].log}"
        lost = [before for before in self.needed[name] if _is_lost(self.status[before])]
        if code == 0:
            self._settle(name, DONE, "", state)
        elif lost:
            # A scheduler cancels the jobs after one that failed.
            self._settle(name, BLOCKED, f"needs {lost[0]}")
        elif code == EXIT_STOPPED and self._stop is None and self._starts[name] < MAX_RESTARTS:
            self.status[name] = WAITING
            self.screen.event(name, WAITING, self._progress(), "stopped: queued again")
        elif code == EXIT_STOPPED or self._stop is not None:
            self._settle(name, STOPPED, "asked to stop; resumes next time")
        elif state is None or state == self._before[name]:
            self._settle(name, FAILED, f"its job ended before the task began ({log})")
        else:
            reason = state.error or "its job ended before the task did; start again to resume"
            self._settle(name, FAILED, f"{reason} ({log})")

    def _settle(self, name: str, status: str, reason: str, state: TaskState | None = None) -> None:
        self.status[name] = status
        seconds = state.seconds if state is not None else 0.0
        self.screen.event(name, status, self._progress(), reason, seconds)

    def _progress(self) -> Progress:
        done = sum(status == DONE for status in self.status.values())
        return Progress(done, len(self.status))


def _is_lost(status: str) -> bool:
    """Return whether the outputs of a task of this status will not come."""
    return status in (FAILED, BLOCKED, STOPPED)
