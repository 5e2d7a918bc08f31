"""A job for each link, handed to a scheduler through submitit (the optional extra `slurm`), with its dependencies.

A job is `tools/run_pipeline.py ... --only LINK` on its machine: it looks again whether the link stands, and stamps it.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.console import Screen
from nightcrawler.workflow.run import BLOCKED, DONE, FAILED, RUNNING
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import read_stamp

POLL_SEC = 0.2
SAVING_SEC = 300.0
# A job's time, where nothing else is asked for.
TIMEOUT_MIN = 24 * 60
# A job whose inputs will never be there goes away instead of waiting for ever.
NEVER = {"kill-on-invalid-dep": "yes"}
SETTING = re.compile(r"([a-z][a-z0-9_]*)=(.*)")


class LinkJob:
    """What runs on the other machine; after a preemption the job is queued again and goes on.

    Args:
        command: to run from `root`.
        root: the project.
    """

    def __init__(self, command: Sequence[str], root: Path) -> None:
        self.command, self.root = list(command), root
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Run the command to its end.

        Raises:
            RuntimeError: if it fails, so that the scheduler takes the job as failed.
        """
        self._process = subprocess.Popen(self.command, cwd=self.root)
        while (code := self._process.poll()) is None:
            time.sleep(POLL_SEC)
        if code:
            raise RuntimeError(f"exit code {code}")

    def checkpoint(self) -> Any:
        """Called ahead of a preemption: lets the link save itself; returns what is queued instead."""
        import submitit

        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + SAVING_SEC
            while self._process.poll() is None and time.monotonic() < deadline:
                time.sleep(POLL_SEC)
        return submitit.helpers.DelayedSubmission(LinkJob(self.command, self.root))


def make_executor(cluster: str, folder: Path, settings: Sequence[str]) -> Any:
    """An executor of submitit.

    Args:
        cluster: `slurm` or `local`.
        folder: of its logs.
        settings: `KEY=VALUE`, such as `slurm_partition=gpu`, `timeout_min=600`.

    Raises:
        UserError: if submitit is not installed, or a setting is not one of its.
    """
    try:
        import submitit
    except ImportError:
        raise UserError("--executor needs submitit: python -m pip install submitit") from None
    parameters: dict[str, Any] = {"timeout_min": TIMEOUT_MIN}
    for text in settings:
        found = SETTING.fullmatch(text)
        if not found:
            raise UserError(f"--slurm {text!r}: expected KEY=VALUE such as slurm_partition=gpu")
        parameters[found[1]] = int(found[2]) if found[2].isdecimal() else found[2]
    if cluster == "slurm":
        parameters.setdefault("slurm_additional_parameters", NEVER)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**parameters)
    except (RuntimeError, NameError, TypeError, AssertionError, ValueError) as error:
        raise UserError(f"--executor {cluster}: {error}") from None
    return executor


def submit(
    make: Callable[[], Any],
    links: Sequence[Task],
    after: Mapping[str, Sequence[str]],
    command: Callable[[Task], Sequence[str]],
    root: Path,
) -> dict[str, Any]:
    """Hand in a job for each link, in order; returns jobs by the links' names.

    Slurm is told which jobs must end well first. Submitit's local executor knows no dependencies: these are awaited.

    Args:
        make: makes an executor; each job gets its own, as a dependency cannot be taken back from one.
        links: to hand in.
        after: name of a link to the names of those that it needs.
        command: a link to the command that does it alone.
        root: the folder to run it in.
    """
    jobs: dict[str, Any] = {}
    for link in links:
        executor = make()
        before = [jobs[name] for name in after[link.name] if name in jobs]
        if executor.cluster == "slurm":
            ids = ":".join(str(job.job_id) for job in before)
            executor.update_parameters(**({"slurm_dependency": f"afterok:{ids}"} if ids else {}))
        else:
            for job in before:
                job.wait()
        executor.update_parameters(name=link.slug)
        jobs[link.name] = executor.submit(LinkJob(command(link), root))
    return jobs


def wait(links: Sequence[Task], jobs: Mapping[str, Any], screen: Screen) -> int:
    """Wait for all jobs and show what became of each; returns 0, or 1 if one failed."""
    waiting, done = {link.name: link for link in links if link.name in jobs}, 0
    failed = False
    while waiting:
        for name in [name for name in waiting if jobs[name].done()]:
            link, job = waiting.pop(name), jobs[name]
            stamp = read_stamp(link.stamp)
            ended_well = stamp is not None and stamp.status == DONE and job.exception() is None
            done, failed = done + ended_well, failed or not ended_well
            ran = stamp is not None and stamp.status in (FAILED, DONE)
            reason = (
                ""
                if ended_well
                else (stamp.error if stamp and ran else "") or f"log: {job.paths.stderr}"
            )
            status = DONE if ended_well else FAILED if ran else BLOCKED
            screen.line(
                name,
                status,
                reason,
                done,
                len(jobs),
                None,
                stamp.seconds if stamp is not None else 0.0,
            )
        time.sleep(POLL_SEC)
    return int(failed)


def announce(jobs: Mapping[str, Any], screen: Screen) -> None:
    """Say which job is which link."""
    for name, job in jobs.items():
        screen.line(name, RUNNING, f"job {job.job_id}", 0, len(jobs), None)
