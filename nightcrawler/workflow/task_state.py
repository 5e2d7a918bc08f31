"""Record of a task's last run, and the check whether the task is up to date.

A task is up to date if its last run succeeded with the same signature and the same bytes of every
input, and its outputs still are the bytes that this run wrote. Everything is read from files, so
the runner can be killed at any point.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from pydantic import TypeAdapter

from nightcrawler.config.identity import LINKED_KEYS, name_differences, read_recorded, run_values
from nightcrawler.data.fingerprint import fingerprint
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.utils.io import atomic_write
from nightcrawler.workflow.own_files import find_own_files
from nightcrawler.workflow.task import Task, digest

# `started` survives a kill: the next run then continues from the leftovers.
STARTED = "started"
DONE = "done"
FAILED = "failed"
REDO = "redo"
STATUSES = (STARTED, DONE, FAILED, REDO)
# Name in the file (kept since version 0.1) of the field `imported`.
IMPORTED_KEY = "adopted"
# Start of the names of fingerprints among the inputs.
VIDEOS = "videos "
# Configuration that a training records in its folder.
RESOLVED = "resolved.yaml"


@dataclass
class TaskState:
    """Record of a task's last run.

    Attributes:
        status: One of `STATUSES`.
        key: Hash of the task's signature and inputs at that time.
        inputs: Input name to SHA-256.
        outputs: Path relative to the task's folder, to SHA-256.
        command: Command line.
        seconds: Run time, including earlier attempts that were stopped in order.
        exit_code: Exit code of the command.
        error: Last line of output of a failed command.
        imported: The outputs existed already and were imported.
        versions: Versions that its numbers depend on (`utils/versions.py`), empty in states of
            version 0.1.
    """

    status: str
    key: str
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    seconds: float = 0.0
    exit_code: int = 0
    error: str = ""
    imported: bool = False
    versions: dict[str, str] = field(default_factory=dict)


_STATE = TypeAdapter(TaskState)


def read_state(path: Path) -> TaskState | None:
    """Read a task's state, `None` if there is none or the file is damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if IMPORTED_KEY in values:
            values["imported"] = values.pop(IMPORTED_KEY)
        # No conversion: a text in the place of a number is damage, not a number.
        state = TaskState(**values)
        _STATE.validate_json(json.dumps(values), strict=True)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    # JSON of Python has NaN and infinity.
    is_sound = state.status in STATUSES and 0 <= state.seconds < math.inf
    return state if is_sound else None


def write_state(path: Path, state: TaskState) -> None:
    """Write a task's state atomically."""
    values = asdict(state)
    values[IMPORTED_KEY] = values.pop("imported")
    # A state of an earlier version stays one when it is written again.
    if not state.versions:
        del values["versions"]
    with atomic_write(path, "w") as file:
        json.dump(values, file, indent=1)
        file.write("\n")


@dataclass(frozen=True)
class TaskCheck:
    """Comparison of a task's last run with the files on disk.

    Attributes:
        up_to_date: Nothing has to be done.
        reason: Reason to run it, for people, empty if it is up to date.
        key: Hash of its signature and inputs now.
        inputs: Input name to SHA-256 now.
        state: State of its last run, if any.
        resumable: An unfinished run of the same inputs exists, from which it can continue.
        unknown_outputs: Existing outputs that no run of this task recorded, or that were changed
            after they had been imported.
        reconfigured: Its last run had another configuration.
        uncompared: Its last run is of a version that recorded no fingerprint of the videos.
    """

    up_to_date: bool
    reason: str
    key: str
    inputs: dict[str, str]
    state: TaskState | None = None
    resumable: bool = False
    unknown_outputs: tuple[Path, ...] = ()
    reconfigured: bool = False
    uncompared: bool = False


def check_task(task: Task, hashes: FileHashes) -> TaskCheck:
    """Compare a task's last run with the files on disk."""
    inputs = {name: hashes.of(path) for name, path in task.inputs.items()}
    for split, videos in task.videos.items():
        inputs[f"{VIDEOS}{split}"] = fingerprint(videos, hashes)
    key = digest([task.kind, task.signature, inputs])
    state = read_state(task.state_file)
    if state is None:
        unknown = _existing_files(task)
        reason = "outputs of another run exist" if unknown else "new"
        return TaskCheck(False, reason, key, inputs, unknown_outputs=unknown)
    if state.status == REDO:
        return TaskCheck(False, "to be done again", key, inputs, state)
    uncompared = state.key != key and state.key in _older_keys(task, state, inputs)
    if state.key != key and not uncompared:
        return _check_of_other_run(task, key, inputs, state)
    check = _check_outputs(task, hashes, TaskCheck(True, "", key, inputs, state))
    return replace(check, uncompared=uncompared)


def _older_keys(task: Task, state: TaskState, inputs: Mapping[str, str]) -> list[str]:
    """Return the keys of the same run in states of version 0.1.

    They held no fingerprint of the videos, and hashed keys that change no number.
    """
    if any(name.startswith(VIDEOS) for name in state.inputs):
        return []
    known = {name: found for name, found in inputs.items() if not name.startswith(VIDEOS)}
    signatures = (task.signature, *task.older_signatures)
    return [digest([task.kind, signature, known]) for signature in signatures]


def _check_of_other_run(
    task: Task, key: str, inputs: dict[str, str], state: TaskState
) -> TaskCheck:
    """Return the check of a task whose last run had other inputs or another configuration."""
    names = [name for name in inputs if state.inputs.get(name, inputs[name]) != inputs[name]]
    names += [name for name in inputs if name not in state.inputs and not name.startswith(VIDEOS)]
    names += [name for name in state.inputs if name not in inputs]
    differences = _config_differences(task)
    reasons = []
    if names:
        reasons.append(f"{', '.join(names)} changed")
    if differences:
        reasons.append(f"its configuration changed: {differences}")
    if not reasons:
        reasons.append("its configuration changed")
    reconfigured = bool(differences) or not names
    return TaskCheck(False, "; ".join(reasons), key, inputs, state, reconfigured=reconfigured)


def _config_differences(task: Task) -> str:
    """Return the keys that differ from the configuration that a training recorded, for people."""
    path = task.folder / RESOLVED
    if not task.config or not path.is_file():
        return ""
    try:
        before = run_values(read_recorded(path.read_text(encoding="utf-8"), path))
    except (OSError, ValueError, UserError):
        return ""
    return name_differences(before, task.config, LINKED_KEYS)


def _check_outputs(task: Task, hashes: FileHashes, check: TaskCheck) -> TaskCheck:
    """Complete the check of a task whose last run was the same, by its end and its outputs."""
    key, inputs, state = check.key, check.inputs, check.state
    assert state is not None
    if state.status != DONE:
        reason = f"failed: {state.error}" if state.status == FAILED else "interrupted"
        return TaskCheck(False, reason, key, inputs, state, resumable=True)
    for path in task.outputs:
        found = hashes.of(path)
        if not found:
            return TaskCheck(False, f"{path.name} is missing", key, inputs, state)
        if found != state.outputs.get(_relative(task, path)):
            # Imported outputs are the user's work: a change of them is not ours to undo.
            unknown = (path,) if state.imported else ()
            reason = f"{path.name} changed"
            return TaskCheck(False, reason, key, inputs, state, unknown_outputs=unknown)
    return check


def _existing_files(task: Task) -> tuple[Path, ...]:
    """Return the files that a first run of a task would overwrite or remove."""
    if task.overwrite_safe:
        return ()
    return tuple(dict.fromkeys([*filter(os.path.lexists, task.outputs), *find_own_files(task)]))


def _relative(task: Task, path: Path) -> str:
    return os.path.relpath(path, task.folder)


def output_hashes(task: Task, hashes: FileHashes) -> dict[str, str]:
    """Map each output, relative to the task's folder, to its SHA-256 (empty if it is missing)."""
    return {_relative(task, path): hashes.of(path) for path in task.outputs}


def record_fingerprints(task: Task, check: TaskCheck) -> TaskState:
    """Complete the state of a task that an earlier version finished by what it did not record.

    From then on, other videos make the task out of date.

    Args:
        task: The task.
        check: Its check, which is `uncompared`.

    Returns:
        The state, as written.
    """
    assert check.state is not None
    state = replace(check.state, key=check.key, inputs=check.inputs)
    write_state(task.state_file, state)
    return state


def reads_same_places(task: Task, state: TaskState | None) -> bool:
    """Return `True` if a training's weights and pseudo-labels are where its last run read them.

    Otherwise it cannot resume: the trainer refuses a checkpoint whose configuration names other
    files.
    """

    def places(command: Sequence[str]) -> dict[str, str]:
        return {key: value for key, value in itertools.pairwise(command) if key in LINKED_KEYS}

    return state is None or not state.command or places(state.command) == places(task.command)


def mark_redo(tasks: Sequence[Task]) -> None:
    """Make tasks run again, whether or not they are up to date."""
    for task in tasks:
        state = read_state(task.state_file)
        if state is not None:
            state.status = REDO
            write_state(task.state_file, state)
