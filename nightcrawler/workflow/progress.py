"""Estimate of the time that a pipeline still takes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import DONE, TaskState

# Kinds that take seconds where a training takes hours: without a measured time they count as 0.
QUICK_KINDS = ("data", "label", "vote")


def estimate_seconds_left(
    tasks: Iterable[Task],
    states: Mapping[str, TaskState | None],
    open_names: Iterable[str],
    running: Mapping[str, float],
    jobs: int,
) -> float | None:
    """Estimate the time left from the mean time of finished tasks of the same kind.

    Args:
        tasks: All tasks.
        states: Name to the state of the last run, of this or of earlier runs of the pipeline.
        open_names: Names of the tasks that wait or run.
        running: Name to the seconds since the start, of running tasks.
        jobs: Number of tasks that run at a time.

    Returns:
        Seconds, or `None` if no task of an open task's kind has finished yet.
    """
    kinds: dict[str, str] = {}
    times: dict[str, list[float]] = {}
    for task in tasks:
        kinds[task.name] = task.kind
        state = states[task.name]
        if state is not None and state.status == DONE and state.seconds > 0:
            times.setdefault(task.kind, []).append(state.seconds)
    left = 0.0
    for name in open_names:
        kind = kinds[name]
        if kind in times:
            mean = sum(times[kind]) / len(times[kind])
        elif kind in QUICK_KINDS:
            mean = 0.0
        else:
            return None
        left += max(mean - running.get(name, 0.0), 0.0)
    return left / jobs
