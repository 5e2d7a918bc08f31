"""Jobs as tasks of Ray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightcrawler.utils import ray_tasks
from nightcrawler.utils.errors import UserError
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
        tasks: Tasks that will become jobs.

    Raises:
        UserError: If Ray is not installed, its cluster cannot be reached, or none of its machines
            is large enough for a task, which would wait without an end.
    """

    holds_order = False
    outlives = False

    def __init__(self, root: Path, logs: Path, tasks: Sequence[Task] = ()) -> None:
        self.root = root
        self.logs = logs
        ray = ray_tasks.connect("--executor ray")
        self._gpus = int(ray.cluster_resources().get("GPU", 0))
        self._jobs: list[RayJob] = []
        machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for task in tasks:
            wanted = {"CPU": task.resources.cpus, "GPU": task.resources.gpus}
            if task.resources.memory_gb is not None:
                wanted["memory"] = int(task.resources.memory_gb * 2**30)
            if not any(_holds(machine, wanted) for machine in machines):
                raise UserError(
                    f"{task.name}: no machine of Ray has what RESOURCES asks for "
                    f"({_shown(wanted)}); the first has {_shown(machines[0])}"
                )

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


def _holds(machine: Mapping[str, float], wanted: Mapping[str, int | None]) -> bool:
    """Return whether a machine, when it is free, has all that is wanted."""
    return all(machine.get(name, 0) >= (amount or 0) for name, amount in wanted.items())


def _shown(resources: Mapping[str, Any]) -> str:
    """Return processors, GPUs and bytes of memory as text."""
    names = ("CPU", "GPU", "memory")
    return ", ".join(f"{name} {resources[name]:g}" for name in names if resources.get(name))
