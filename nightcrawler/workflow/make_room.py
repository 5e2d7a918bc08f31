"""Room for a run that starts from scratch: what goes, what is kept aside, and what is refused."""

from __future__ import annotations

import os

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.workflow.own_files import (
    find_own_files,
    move_own_files_aside,
    remove_own_files,
)
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import DONE, REDO, TaskCheck, TaskState

# Ending of the files that a training is lost with.
WEIGHTS = ".pyth"


def make_room(
    task: Task, check: TaskCheck, earlier: TaskState | None, asked: bool, hashes: FileHashes
) -> str:
    """Clear the files of a task's earlier runs away.

    A training takes days, so its weights are never removed unless the user asks for it: one of
    another configuration is refused, one of other inputs is moved aside. So are files that someone
    changed after the task had written them.

    Args:
        task: The task.
        check: Its check.
        earlier: State of its last run, if any.
        asked: The user asked for it to be done again, or for its files to be replaced.
        hashes: Hashes of files.

    Returns:
        A line for the user, empty if nothing was moved aside.

    Raises:
        UserError: If a training of another configuration would be discarded, or files lie behind a
            link.
    """
    recorded = list(earlier.outputs) if earlier is not None else []
    if asked or (earlier is not None and earlier.status == REDO):
        remove_own_files(task, recorded)
        return ""
    if not _holds_work(task, check, earlier, recorded, hashes):
        remove_own_files(task, recorded)
        return ""
    if task.kind == "train" and check.reconfigured:
        raise UserError(
            f"{task.folder}: holds a training of another configuration ({check.reason}), which "
            "would be discarded: give the settings that it was made with, --out DIR to work "
            "elsewhere, or --redo to train again"
        )
    return f"{task.name}: files of the run before are in {move_own_files_aside(task, recorded)}"


def _holds_work(
    task: Task,
    check: TaskCheck,
    earlier: TaskState | None,
    recorded: list[str],
    hashes: FileHashes,
) -> bool:
    """Return whether a task's own files hold what no other run of it would bring back."""
    paths = find_own_files(task, recorded)
    if task.kind == "train":
        return any(path.suffix == WEIGHTS for path in paths)
    if earlier is None:
        return False
    # A setting that is forgotten must not cost the results of the right one, which are small.
    if task.kind == "test" and check.reconfigured:
        return bool(paths)
    # Tests and labels are made again in minutes, but not what the user made of them.
    if earlier.imported:
        return bool(paths)
    if earlier.status != DONE:
        return False
    for path in paths:
        written = earlier.outputs.get(os.path.relpath(path, task.folder))
        if written and hashes.of(path) != written:
            return True
    return False
