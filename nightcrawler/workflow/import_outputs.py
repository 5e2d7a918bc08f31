"""Import of outputs that were made by hand, such as by `run.sh` of an experiment.

Every stamp in them is compared: a file that says that it was made of other lists, videos, weights,
pseudo-labels or views, or with another enhancement or configuration, is not taken.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nightcrawler.config.identity import is_of_same_run
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.pseudo.results_metadata import read_metadata
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import (
    DONE,
    RESOLVED,
    STARTED,
    VIDEOS,
    TaskCheck,
    TaskState,
    output_hashes,
    write_state,
)

# File that a finished training leaves in its folder.
FINISHED_MARKER = "DONE"
# Stamps of a training in `run.json` and in its checkpoints.
LISTS, VIDEOS_STAMP, START = "lists", "videos", "start_sha256"
SPLIT = "split "


def _no_note(text: str) -> None:
    """Take a line for the user and drop it."""


def import_outputs(
    task: Task, check: TaskCheck, hashes: FileHashes, note: Callable[[str], None] = _no_note
) -> bool:
    """Record existing outputs as those of a task.

    A training is imported if its stamps are the task's: a finished one is up to date, an unfinished
    one will be resumed. Results of a test are imported if theirs are, else the test is done again.

    Args:
        task: The task.
        check: Its check, with unknown outputs.
        hashes: Hashes of files.
        note: Function that shows a line to the user: what cannot be compared, or why results are
            not taken.

    Returns:
        `True` if the task is up to date now.

    Raises:
        UserError: If a training or pseudo-labels were made of something else.
    """
    state = TaskState(STARTED, check.key, check.inputs, imported=True)
    finished = all(path.exists() for path in task.outputs)
    if task.kind == "train":
        finished = finished and (not task.run_hash or (task.folder / FINISHED_MARKER).exists())
        _check_training(task, check, note if finished else _no_note)
    elif finished and task.kind == "test":
        differences = list(_differences_of_results(task, check))
        if differences:
            note(f"{task.name}: not imported: {'; '.join(differences)}")
            finished = False
    elif finished:
        _check_labels(task, check, hashes)
    if finished:
        state.status = DONE
        state.outputs = output_hashes(task, hashes)
    write_state(task.state_file, state)
    return finished


def _check_training(task: Task, check: TaskCheck, note: Callable[[str], None]) -> None:
    """Compare the stamps of a training by hand with a task.

    Raises:
        UserError: If one differs.
    """
    record = _read_json(task.folder / "run.json")
    if task.run_hash:
        found = str(record.get("config_hash", ""))
        if found != task.run_hash and not _is_recorded_as(task):
            raise UserError(
                f"{task.folder}: the run in this folder has another configuration (hash "
                f"{found or 'missing: no run.json'}, now {task.run_hash}): remove the folder, or "
                "give another --out"
            )
    stamps = _stamps_of_training(task, record)
    wanted = _wanted_stamps(check.inputs)
    differing = [name for name in wanted if stamps.get(name, wanted[name]) != wanted[name]]
    if differing:
        raise UserError(
            f"{task.folder}: the run in this folder was made of another {differing[0]}: put back "
            "what it was made of, remove the folder, or give another --out"
        )
    missing = [name for name in wanted if name not in stamps]
    if missing:
        note(f"{task.name}: imported; its files do not say, so not compared: {', '.join(missing)}")


def _is_recorded_as(task: Task) -> bool:
    """Return whether a run's configuration is the task's, whatever its hash held then."""
    path = task.folder / RESOLVED
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False
    return is_of_same_run(text, path, task.run_hash)


def _wanted_stamps(inputs: Mapping[str, str]) -> dict[str, str]:
    """Map the things that a training is made of, as people call them, to their hashes."""
    names = {"start": "starting weights", "pseudo": "file of pseudo-labels"}
    wanted = {}
    for name, found in inputs.items():
        if name.startswith(VIDEOS):
            wanted[f"content of the videos of {name.removeprefix(VIDEOS)}"] = found
        else:
            wanted[names.get(name, name)] = found
    return wanted


def _stamps_of_training(task: Task, record: Mapping[str, Any]) -> dict[str, str]:
    """Return the stamps of a training by the names of `_wanted_stamps`."""
    source: Mapping[str, Any] = record
    if not isinstance(record.get(LISTS), dict):
        # Version 0.1 stamped checkpoints only.
        source = _checkpoint_of(task)
    stamps: dict[str, str] = {}
    lists = source.get(LISTS)
    for name, found in (lists if isinstance(lists, dict) else {}).items():
        if str(name).startswith(SPLIT):
            stamps[f"list {str(name).removeprefix(SPLIT)}"] = found
        else:
            stamps["file of pseudo-labels"] = found
    videos = source.get(VIDEOS_STAMP)
    for name, found in (videos if isinstance(videos, dict) else {}).items():
        stamps[f"content of the videos of {name}"] = found
    if START in source:
        stamps["starting weights"] = source[START]
    return stamps


def _checkpoint_of(task: Task) -> Mapping[str, Any]:
    """Return the content of a training's checkpoint, empty if it cannot be read."""
    # Only here: importing torch takes seconds.
    from nightcrawler.engine.checkpoint_files import load_checkpoint

    try:
        return load_checkpoint(task.outputs[0])
    except UserError:
        return {}


def _differences_of_results(task: Task, check: TaskCheck) -> Iterator[str]:
    """Yield what results say of themselves that is not the task's."""
    split = str(task.about.get("split", ""))
    inputs = check.inputs
    wanted = {
        **task.stamps,
        "split": split,
        "checkpoint_sha256": inputs.get("weights"),
        "list_sha256": inputs.get(f"list {split}"),
        "videos_sha256": inputs.get(f"{VIDEOS}{split}"),
    }
    pairs = task.about.get("pairs") or [None] * len(task.outputs)
    for path, pair in zip(task.outputs, pairs, strict=True):
        meta = read_results(path).meta
        views = dict(zip(("views", "crops"), pair, strict=True)) if pair else {}
        # The weights are what results are of: results that do not name theirs are of any.
        if "checkpoint_sha256" not in meta:
            yield f"{path.name} does not name its weights"
        for name, value in {**wanted, **views}.items():
            if value and name in meta and meta[name] != value:
                yield f"{path.name}: {name} {meta[name]}, expected {value}"


def _check_labels(task: Task, check: TaskCheck, hashes: FileHashes) -> None:
    """Compare the results that labels or a vote were made of with those of a task.

    Files without a record, such as labels that a user wrote, are taken as they are.

    Raises:
        UserError: If they were made of others.
    """
    known = {*check.inputs.values(), *(hashes.of(path) for path in task.outputs)}
    for path in task.outputs:
        if path.suffix != ".csv":
            continue
        record = read_metadata(path)
        sources = [*_rows_of(record, "inputs"), *_rows_of(record, "known")]
        for source in sources:
            if source.get("sha256") not in known:
                raise UserError(
                    f"{path}: was made of other results ({source.get('file')}): remove it, or "
                    "give another --out"
                )


def _rows_of(record: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    rows = record.get(name)
    return [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
