"""Jobs of Slurm: one for each task, submitted with its dependencies through submitit.

submitit is an optional dependency (extra `slurm`). It writes the batch scripts. What becomes of the
jobs is asked of `squeue`, since `sacct`, which submitit asks, needs an accounting database.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightcrawler.utils.errors import UserError, missing_extra
from nightcrawler.workflow.job_queue import MAX_RESTARTS, Job
from nightcrawler.workflow.recipe_file import Resources
from nightcrawler.workflow.run_options import EXIT_STOPPED
from nightcrawler.workflow.task import Task, digest
from nightcrawler.workflow.task_state import DONE, read_state

POLL_SEC = 0.2
# Time between two questions to Slurm, which many users share.
QUEUE_SEC = 2.0
# Time that a task gets to save itself before its time limit.
GRACE_SEC = 300
# Time limit of a job, unless another is asked for.
TIMEOUT_MIN = 24 * 60
SLURM_DEFAULTS = {
    # Without this, a job whose inputs will never exist waits in the queue for ever.
    "kill-on-invalid-dep": "yes",
    # A cluster may refuse to queue jobs again that do not ask for it.
    "requeue": True,
}
# States in which a job waits, runs, or is about to be queued again.
OPEN_STATES = (
    "PENDING",
    "CONFIGURING",
    "RUNNING",
    "SUSPENDED",
    "STOPPED",
    "SIGNALING",
    "STAGE_OUT",
    "RESIZING",
    "COMPLETING",
    "REQUEUED",
    "REQUEUE_FED",
    "REQUEUE_HOLD",
    "SPECIAL_EXIT",
    "RESV_DEL_HOLD",
)
COMPLETED = "COMPLETED"
SETTING = re.compile(r"([a-z][a-z0-9_]*)=(.*)")


class TaskJob:
    """Callable that runs a task on another machine, and is queued again if the task was stopped.

    Args:
        command: Command line.
        root: Folder in which it runs.
    """

    def __init__(self, command: Sequence[str], root: Path) -> None:
        self.command = list(command)
        self.root = root
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run the command to its end.

        Raises:
            RuntimeError: If it fails, so that Slurm marks the job as failed.
            SystemExit: If the job was queued again: submitit then records no result.
        """
        self._process = subprocess.Popen(self.command, cwd=self.root)
        # Polling instead of waiting lets the signal handler of submitit run in between.
        while (code := self._process.poll()) is None:
            time.sleep(POLL_SEC)
        if code == EXIT_STOPPED and queue_again():
            sys.exit(EXIT_STOPPED)
        if code:
            raise RuntimeError(f"exit code {code}")

    def checkpoint(self) -> Any:
        """Let the task save itself and return its replacement in the queue.

        submitit calls it ahead of the time limit, or of a preemption.

        Returns:
            The replacement, or `None` if the task did not end as one that can be resumed.
        """
        import submitit

        code = None
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SEC
            while (code := self._process.poll()) is None and time.monotonic() < deadline:
                time.sleep(POLL_SEC)
        if code not in (None, EXIT_STOPPED):
            return None
        return submitit.helpers.DelayedSubmission(TaskJob(self.command, self.root))


def queue_again() -> bool:
    """Queue the job of this process again, and return whether it was."""
    job = os.environ["SLURM_JOB_ID"]
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= MAX_RESTARTS:
        return False
    # A job that Slurm itself is ending was cancelled, and must not come back, or was preempted, and
    # is queued again by Slurm.
    state = _ask("squeue", "--noheader", "--jobs", job, "--format", "%T")
    if state is None or state.strip() != "RUNNING":
        return False
    return _ask("scontrol", "requeue", job) is not None


@dataclass
class SlurmJob:
    """Job in Slurm's queue."""

    executor: SlurmExecutor
    task: Task
    label: str
    log: str

    def poll(self) -> int | None:
        """Return 0 if it succeeded, 1 if it ended otherwise, `None` while it waits or runs."""
        return self.executor.poll(self)


class SlurmExecutor:
    """Submit jobs to Slurm.

    Jobs of an earlier command that still wait or run are watched, not submitted again.

    Args:
        root: Folder in which commands run.
        folder: Folder of batch scripts and logs, which all machines see.
        settings: `KEY=VALUE` pairs of submitit, such as `slurm_partition=gpu`. They replace those
            of the recipe.

    Raises:
        UserError: If submitit is not installed, or does not accept a setting.
    """

    holds_order = True
    outlives = True

    def __init__(self, root: Path, folder: Path, settings: Sequence[str]) -> None:
        self.root = root
        self.folder = folder
        self.settings = parse_settings(settings)
        # Wrong settings must be refused before the first job is submitted.
        self._make_executor({})
        self._states: dict[str, str] = {}
        self._asked = -QUEUE_SEC
        # Key of a job that waits or runs, to its number.
        self._found: dict[str, str] = {}
        for line in self._ask_queue("%A|%T|%k") or ():
            number, state, comment = line.split("|", 2)
            if state in OPEN_STATES:
                self._found[comment] = number

    def has_room(self, task: Task) -> bool:
        """Return `True`: jobs wait in Slurm's queue."""
        return True

    def submit(self, task: Task, command: Sequence[str], before: Sequence[Job]) -> SlurmJob:
        """Submit a job after those of `before`, or find it in the queue."""
        key = digest([str(self.folder), list(command), task.signature])
        number = self._found.pop(key, "")
        if not number:
            parameters = {"name": task.slug, "slurm_comment": key}
            if before:
                ids = ":".join(job.label for job in before)
                parameters["slurm_dependency"] = f"afterok:{ids}"
            executor = self._make_executor({**task_parameters(task.resources), **parameters})
            number = _submit(executor, TaskJob(command, self.root), task)
        self._states[number] = "PENDING"
        return SlurmJob(self, task, number, str(self.folder / f"{number}_0_log.err"))

    def stop(self) -> None:
        """Do nothing: jobs go on without this command."""

    def poll(self, job: SlurmJob) -> int | None:
        """Return the exit code of a job, `None` while it waits or runs."""
        if time.monotonic() - self._asked > QUEUE_SEC:
            self._asked = time.monotonic()
            lines = self._ask_queue("%A|%T")
            # Without an answer, nothing is known to have changed.
            if lines is not None:
                known = dict(line.split("|") for line in lines)
                # Slurm forgets a job some minutes after its end.
                self._states = {number: known.get(number, "") for number in self._states}
        state = self._states[job.label]
        if state in OPEN_STATES:
            return None
        if state:
            return int(state != COMPLETED)
        recorded = read_state(job.task.state_file)
        return int(recorded is None or recorded.status != DONE)

    def _ask_queue(self, layout: str) -> list[str] | None:
        asked = _ask("squeue", "--me", "--noheader", "--states=all", "--format", layout)
        return asked.splitlines() if asked is not None else None

    def _make_executor(self, parameters: Mapping[str, Any]) -> Any:
        """Return an executor of submitit. Each job needs its own, since it keeps dependencies."""
        try:
            import submitit
        except ImportError:
            raise missing_extra("--executor slurm", "slurm") from None
        given = {**parameters, **self.settings}
        given.setdefault("timeout_min", TIMEOUT_MIN)
        given.setdefault("slurm_additional_parameters", SLURM_DEFAULTS)
        try:
            # A short limit leaves half of its time.
            grace = min(GRACE_SEC, int(given["timeout_min"]) * 30)
            given.setdefault("slurm_signal_delay_s", grace)
            executor = submitit.AutoExecutor(
                self.folder, cluster="slurm", slurm_max_num_timeout=MAX_RESTARTS
            )
            executor.update_parameters(**given)
        except (RuntimeError, NameError, TypeError, AssertionError, ValueError) as error:
            raise UserError(f"--executor slurm: {error}") from None
        return executor


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return `KEY=VALUE` pairs as a mapping, in which whole numbers are numbers.

    Raises:
        UserError: If one is no such pair, or the time limit is not in minutes.
    """
    parsed: dict[str, Any] = {}
    for text in settings:
        found = SETTING.fullmatch(text)
        if not found:
            raise UserError(f"--slurm {text!r}: expected KEY=VALUE such as slurm_partition=gpu")
        parsed[found[1]] = int(found[2]) if found[2].isdecimal() else found[2]
    if not isinstance(parsed.get("timeout_min", 0), int):
        raise UserError(
            f"--slurm timeout_min={parsed['timeout_min']}: expected whole minutes, a day is 1440"
        )
    return parsed


def task_parameters(resources: Resources) -> dict[str, Any]:
    """Return the resources of a task in the spelling of submitit."""
    parameters: dict[str, Any] = {
        "cpus_per_task": resources.cpus,
        "mem_gb": resources.memory_gb,
        "gpus_per_node": resources.gpus,
        "timeout_min": resources.minutes,
        "slurm_partition": resources.partition,
    }
    return {name: value for name, value in parameters.items() if value is not None}


def _submit(executor: Any, job: TaskJob, task: Task) -> str:
    """Submit a job and return its number.

    Raises:
        UserError: If Slurm refuses it.
    """
    from submitit.core import utils

    try:
        return str(executor.submit(job).job_id)
    except (utils.FailedJobError, utils.FailedSubmissionError, OSError) as error:
        raise UserError(f"{task.name}: Slurm refuses its job: {error}") from None


def _ask(*command: str) -> str | None:
    """Return the output of a command of Slurm, `None` if it failed."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
