"""Jobs on this machine: a process for each, as many at a time as there is room for."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.utils.io import open_own
from nightcrawler.utils.process import terminate_with_parent
from nightcrawler.workflow.job_queue import Job
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_process import note_start, task_environment

# Kinds of tasks that use a GPU where their recipe does not say how many.
KINDS_ON_GPU = ("train", "test")


@dataclass
class LocalJob:
    """Process of a job, and the GPUs that it holds."""

    process: subprocess.Popen[bytes]
    log: str
    gpus: tuple[str, ...]

    @property
    def label(self) -> str:
        """Return its process id."""
        return str(self.process.pid)

    def poll(self) -> int | None:
        """Return its exit code, `None` while it runs."""
        return self.process.poll()


class LocalExecutor:
    """Run jobs on this machine.

    Args:
        root: Folder in which commands run.
        logs: Folder of the jobs' logs.
        jobs: Number of jobs at a time.
        gpus: GPUs of this machine, shared out among the jobs.
        threads: CPU threads of a job whose recipe asks for none.
    """

    holds_order = False
    outlives = False

    def __init__(
        self, root: Path, logs: Path, jobs: int, gpus: Sequence[str] = (), threads: int = 1
    ) -> None:
        self.root = root
        self.logs = logs
        self.jobs = jobs
        self.gpus = tuple(gpus)
        self.threads = threads
        self._running: list[LocalJob] = []

    def has_room(self, task: Task) -> bool:
        """Return whether a process and its GPUs are free."""
        self._running = [job for job in self._running if job.poll() is None]
        free = len(self._running) < self.jobs
        return free and len(self._free_gpus()) >= self._num_gpus(task)

    def submit(self, task: Task, command: Sequence[str], before: Sequence[Job]) -> LocalJob:
        """Start the process of a task, for which there is room."""
        gpus = self._free_gpus()[: self._num_gpus(task)]
        shown = ",".join(gpus) if self.gpus else None
        env = task_environment(task.resources.cpus or self.threads, shown)
        log = self.logs / f"{task.slug}.log"
        self.logs.mkdir(parents=True, exist_ok=True)
        parent = os.getpid()
        with open_own(log, "ab") as file:
            note_start(file, command)
            process = subprocess.Popen(
                list(command),
                cwd=self.root,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                # Ctrl-C of a terminal must reach the queue alone, which then asks its jobs.
                start_new_session=True,
                preexec_fn=lambda: terminate_with_parent(parent),
            )
        job = LocalJob(process, str(log), gpus)
        self._running.append(job)
        return job

    def stop(self) -> None:
        """Ask the processes to save their state and end."""
        for job in self._running:
            if job.poll() is None:
                job.process.send_signal(signal.SIGTERM)

    def _free_gpus(self) -> tuple[str, ...]:
        taken = {gpu for job in self._running if job.poll() is None for gpu in job.gpus}
        return tuple(gpu for gpu in self.gpus if gpu not in taken)

    def _num_gpus(self, task: Task) -> int:
        wanted = task.resources.gpus
        if wanted is None:
            wanted = int(task.kind in KINDS_ON_GPU)
        # A task that wants more than there are gets all of them.
        return min(wanted, len(self.gpus))
