"""What cannot be compared, or differs, of tasks that count as up to date."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from nightcrawler.utils.versions import compare_versions
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import (
    TaskCheck,
    TaskState,
    read_state,
    record_fingerprints,
)

# Kinds of tasks whose numbers depend on libraries.
COMPUTED = ("train", "test")


class Comparison:
    """Count of the tasks that are up to date as far as their records tell."""

    def __init__(self) -> None:
        self._uncompared = 0
        # Differences of versions to numbers of tasks.
        self._versions: Counter[str] = Counter()

    def add(self, task: Task, check: TaskCheck) -> TaskState | None:
        """Count a task that is up to date, and return its state.

        A state of a version without fingerprints gets those of now: from then on, other videos
        make the task out of date.
        """
        if check.uncompared:
            self._uncompared += 1
            record_fingerprints(task, check)
        state = read_state(task.state_file)
        if state is not None and task.kind in COMPUTED:
            differences = compare_versions(state.versions)
            if differences:
                self._versions[differences] += 1
        return state

    def notes(self) -> Iterator[str]:
        """Yield a line for each thing that a user should know."""
        if self._uncompared:
            yield (
                f"{self._uncompared} tasks were finished by version 0.1, which recorded no "
                "fingerprint of the videos: whether these are the same cannot be compared, so they "
                "are taken as they are now"
            )
        for differences, count in self._versions.items():
            yield (
                f"warning: {count} tasks that are up to date were made with {differences}: numbers "
                "made now may differ (--from TASK makes a task and those after it again)"
            )
