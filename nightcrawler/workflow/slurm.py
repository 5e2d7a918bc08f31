"""Jobs of a scheduler: one for each task, submitted with its dependencies through submitit.

submitit is an optional dependency (extra `slurm`). A job runs the pipeline command for one task on
its machine: that command checks again whether the task is up to date, and records its state.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nightcrawler.utils.errors import UserError, missing_extra
from nightcrawler.workflow.console import Progress, Screen
from nightcrawler.workflow.run_options import BLOCKED, DONE, FAILED, RUNNING
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import TaskState, read_state

POLL_SEC = 0.2
# Time that a task gets to save itself before a preemption.
GRACE_SEC = 300.0
# Time limit of a job, unless another is asked for.
TIMEOUT_MIN = 24 * 60
# Without this, a job whose inputs will never exist waits in the queue for ever.
SLURM_DEFAULTS = {"kill-on-invalid-dep": "yes"}
SETTING = re.compile(r"([a-z][a-z0-9_]*)=(.*)")


class TaskJob:
    """Callable that runs a task on another machine, and is queued again after a preemption.

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
            RuntimeError: If it fails, so that the scheduler marks the job as failed.
        """
        self._process = subprocess.Popen(self.command, cwd=self.root)
        # Polling instead of waiting lets the signal handler of submitit run in between.
        while (code := self._process.poll()) is None:
            time.sleep(POLL_SEC)
        if code:
            raise RuntimeError(f"exit code {code}")

    def checkpoint(self) -> Any:
        """Let the task save itself and return its replacement in the queue.

        submitit calls it ahead of a preemption.
        """
        import submitit

        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + GRACE_SEC
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(POLL_SEC)
        return submitit.helpers.DelayedSubmission(TaskJob(self.command, self.root))


def make_executor(cluster: str, folder: Path, settings: Sequence[str]) -> Any:
    """Return an executor of submitit.

    Args:
        cluster: `slurm` or `local`.
        folder: Folder of the jobs' logs.
        settings: `KEY=VALUE` pairs of submitit, such as `slurm_partition=gpu`, `timeout_min=600`.

    Raises:
        UserError: If submitit is not installed, or does not accept a setting.
    """
    try:
        import submitit
    except ImportError:
        raise missing_extra(f"--executor {cluster}", "slurm") from None
    parameters: dict[str, Any] = {"timeout_min": TIMEOUT_MIN}
    for text in settings:
        found = SETTING.fullmatch(text)
        if not found:
            raise UserError(f"--slurm {text!r}: expected KEY=VALUE such as slurm_partition=gpu")
        parameters[found[1]] = int(found[2]) if found[2].isdecimal() else found[2]
    if cluster == "slurm":
        parameters.setdefault("slurm_additional_parameters", SLURM_DEFAULTS)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**parameters)
    except (RuntimeError, NameError, TypeError, AssertionError, ValueError) as error:
        raise UserError(f"--executor {cluster}: {error}") from None
    return executor


def submit(
    make: Callable[[], Any],
    tasks: Sequence[Task],
    needed: Mapping[str, Sequence[str]],
    command: Callable[[Task], Sequence[str]],
    root: Path,
) -> dict[str, Any]:
    """Submit a job for each task, in order.

    Slurm gets the dependencies: jobs that must succeed first. The local executor of submitit has
    none, so earlier jobs are awaited.

    Args:
        make: Function that makes an executor. Each job needs its own, since a dependency cannot
            be removed from an executor.
        tasks: Tasks in order.
        needed: Name of a task to the names of the tasks that it needs.
        command: Function of a task that returns the command line that runs it alone.
        root: Folder in which commands run.

    Returns:
        Jobs by the names of their tasks.
    """
    jobs: dict[str, Any] = {}
    for task in tasks:
        executor = make()
        before = [jobs[name] for name in needed[task.name] if name in jobs]
        if executor.cluster != "slurm":
            for job in before:
                job.wait()
        elif before:
            ids = ":".join(str(job.job_id) for job in before)
            executor.update_parameters(slurm_dependency=f"afterok:{ids}")
        executor.update_parameters(name=task.slug)
        jobs[task.name] = executor.submit(TaskJob(command(task), root))
    return jobs


def wait(tasks: Sequence[Task], jobs: Mapping[str, Any], screen: Screen) -> int:
    """Wait for all jobs and show the result of each. Return 0, or 1 if one failed."""
    waiting = {task.name: task for task in tasks if task.name in jobs}
    done = 0
    failed = False
    while waiting:
        ended = [name for name in waiting if jobs[name].done()]
        for name in ended:
            # The job itself recorded the state, on its machine.
            state = read_state(waiting.pop(name).state_file)
            status, reason = _result(jobs[name], state)
            if status == DONE:
                done += 1
            else:
                failed = True
            seconds = state.seconds if state is not None else 0.0
            screen.event(name, status, Progress(done, len(jobs)), reason, seconds)
        time.sleep(POLL_SEC)
    return int(failed)


def _result(job: Any, state: TaskState | None) -> tuple[str, str]:
    """Return the status of a task whose job has ended, and the reason."""
    log = f"log: {job.paths.stderr}"
    if state is None or state.status not in (FAILED, DONE):
        # The job was cancelled before its task ran: another that it needs has failed.
        return BLOCKED, log
    if state.status == DONE and job.exception() is None:
        return DONE, ""
    return FAILED, state.error or log


def announce(jobs: Mapping[str, Any], screen: Screen) -> None:
    """Show the number of each task's job."""
    for name, job in jobs.items():
        screen.event(name, RUNNING, Progress(0, len(jobs)), f"job {job.job_id}")
