"""File `pipeline.json`: the state of a whole pipeline, for reports."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nightcrawler import __version__
from nightcrawler.utils.io import atomic_write
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import TaskState

PIPELINE_FILE = "pipeline.json"


class TaskRow(NamedTuple):
    """Task with its status, the reason of the status, and the state of its last run."""

    task: Task
    status: str
    reason: str
    state: TaskState | None
    # Up to date unless a task before it changes its inputs.
    may_stay: bool = False


def write_pipeline_file(
    path: Path, root: Path, about: Mapping[str, Any], rows: Iterable[TaskRow]
) -> None:
    """Write `pipeline.json` atomically.

    Args:
        path: The file.
        root: The project's root, to which paths are relative where possible.
        about: Facts about the whole pipeline.
        rows: Its tasks.
    """
    # The key `links` dates from version 0.1, whose files reports still read.
    content = {"version": __version__, **about, "links": [_entry(row, root) for row in rows]}
    # Reports may read it at any moment, also while the pipeline runs.
    with atomic_write(path, "w") as file:
        json.dump(content, file, indent=1)
        file.write("\n")


def _entry(row: TaskRow, root: Path) -> dict[str, Any]:
    task = row.task
    seconds = None
    if row.state is not None:
        seconds = row.state.seconds
    exit_code = None
    # A waiting or running task keeps the state of an earlier run, whose exit code would mislead.
    if row.state is not None and row.status in ("done", "failed"):
        exit_code = row.state.exit_code
    return {
        "name": task.name,
        "kind": task.kind,
        **task.about,
        "folder": relative_to_root(task.folder, root),
        "inputs": {name: relative_to_root(path, root) for name, path in task.inputs.items()},
        "outputs": [relative_to_root(path, root) for path in task.outputs],
        "status": row.status,
        "reason": row.reason,
        "seconds": seconds,
        "exit_code": exit_code,
        "command": list(task.command),
    }


def relative_to_root(path: Path, root: Path) -> str:
    """Return a path as text, relative to the project's root if it is inside."""
    return str(path.relative_to(root)) if path.is_relative_to(root) else str(path)
