"""Start of a task: existing files are imported, refused or removed, and the start is recorded."""

from __future__ import annotations

from collections.abc import Callable

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.versions import library_versions
from nightcrawler.workflow import task_state
from nightcrawler.workflow.import_outputs import import_outputs
from nightcrawler.workflow.make_room import make_room
from nightcrawler.workflow.run_options import IMPORT, REPLACE, RunOptions
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import TaskCheck, TaskState


def take_outputs(
    task: Task,
    check: TaskCheck,
    options: RunOptions,
    hashes: FileHashes,
    note: Callable[[str], None],
) -> bool:
    """Treat outputs that no run of this command made.

    Args:
        task: The task.
        check: Its check, with unknown outputs.
        options: Options of the run.
        hashes: Hashes of files.
        note: Function that shows a line to the user.

    Returns:
        `True` if the task is up to date with them.

    Raises:
        UserError: If they are neither to be imported nor to be replaced.
    """
    if options.found == IMPORT:
        return import_outputs(task, check, hashes, note)
    if options.found == REPLACE:
        return False
    raise UserError(
        f"{check.unknown_outputs[0]} exists and was not made by this command: "
        "--found import keeps it, --found replace removes it, --out DIR works elsewhere"
    )


def prepare_start(
    task: Task,
    check: TaskCheck,
    options: RunOptions,
    hashes: FileHashes,
    note: Callable[[str], None],
) -> TaskState:
    """Make room for the outputs of a task, and record that it starts.

    Args:
        task: The task.
        check: Its check.
        options: Options of the run.
        hashes: Hashes of files.
        note: Function that shows a line to the user.

    Returns:
        Its state, as recorded.

    Raises:
        UserError: If outputs of earlier runs must not be removed.
    """
    # Read again: importing an unfinished training has written a state since the check.
    earlier = task_state.read_state(task.state_file)
    resumes = False
    seconds = 0.0
    if earlier is not None and (earlier.key == check.key or check.uncompared):
        begun = earlier.imported and earlier.status == task_state.STARTED
        resumes = check.resumable or begun
        if resumes:
            seconds = earlier.seconds
    # Only a training continues from its leftovers; other tasks start from scratch.
    keeps = resumes and task.kind == "train" and task_state.reads_same_places(task, earlier)
    if not keeps and not (task.overwrite_safe and earlier is None):
        replaces = bool(check.unknown_outputs) and options.found == REPLACE
        done = make_room(task, check, earlier, options.redo or replaces, hashes)
        if done:
            note(done)
    for path, text in task.writes.items():
        with atomic_write(path, "w") as file:
            file.write(text)
    task.folder.mkdir(parents=True, exist_ok=True)
    state = TaskState(
        task_state.STARTED,
        check.key,
        check.inputs,
        command=list(task.command),
        seconds=seconds,
        versions=library_versions(),
    )
    # Written before the process starts: a kill between the two leaves a run to resume.
    task_state.write_state(task.state_file, state)
    return state
