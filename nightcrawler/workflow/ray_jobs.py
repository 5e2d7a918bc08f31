"""Jobs as tasks of Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightcrawler.utils import ray_tasks
from nightcrawler.workflow.job_queue import Job
from nightcrawler.workflow.local_jobs import KINDS_ON_GPU
from nightcrawler.workflow.task import Task


@dataclass
class RayJob:
    """Job of Ray: its number among those of this command, log, and reference to its exit code."""

    label: str
    log: str
    reference: Any

    def poll(self) -> int | None:
        """Return its exit code, `None` while it waits or runs."""
        return ray_tasks.exit_code(self.reference)


class RayExecutor:
    """Run jobs as tasks of Ray, which starts them when a machine has room.

    Args:
        root: Folder in which commands run, which all machines see.
        logs: Folder of the jobs' logs.

    Raises:
        UserError: If Ray is not installed, or its cluster cannot be reached.
    """

    holds_order = False
    outlives = False

    def __init__(self, root: Path, logs: Path) -> None:
        self.root = root
        self.logs = logs
        ray = ray_tasks.connect("--executor ray")
        self._gpus = int(ray.cluster_resources().get("GPU", 0))
        self._jobs: list[RayJob] = []

    def has_room(self, task: Task) -> bool:
        """Return `True`: jobs wait in Ray."""
        return True

    def submit(self, task: Task, command: Sequence[str], before: Sequence[Job]) -> RayJob:
        """Submit a job."""
        wanted = task.resources
        gpus = wanted.gpus
        if gpus is None:
            gpus = int(self._gpus > 0 and task.kind in KINDS_ON_GPU)
        log = self.logs / f"{task.slug}.log"
        self.logs.mkdir(parents=True, exist_ok=True)
        reference = ray_tasks.start(
            command, self.root, log, wanted.cpus or 1, gpus, wanted.memory_gb
        )
        job = RayJob(str(len(self._jobs) + 1), str(log), reference)
        self._jobs.append(job)
        return job

    def stop(self) -> None:
        """Ask the jobs to save their state and end."""
        for job in self._jobs:
            ray_tasks.cancel(job.reference)
