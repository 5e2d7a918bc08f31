"""Import of outputs that were made by hand, such as by `run.sh` of an experiment."""

from __future__ import annotations

import json
from pathlib import Path

from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.file_hashes import FileHashes
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import (
    DONE,
    STARTED,
    TaskCheck,
    TaskState,
    output_hashes,
    write_state,
)

# File that a finished training leaves in its folder.
FINISHED_MARKER = "DONE"


def import_outputs(task: Task, check: TaskCheck, hashes: FileHashes) -> bool:
    """Record existing outputs as those of a task.

    A training is imported if its `run.json` has the task's configuration: a finished one is up to
    date, an unfinished one will be resumed. Results of a test are imported if they are of the
    present weights.

    Args:
        task: The task.
        check: Its check, with unknown outputs.
        hashes: Hashes of files.

    Returns:
        `True` if the task is up to date now.

    Raises:
        UserError: If the training has another configuration.
    """
    state = TaskState(STARTED, check.key, check.inputs, imported=True)
    finished = all(path.exists() for path in task.outputs)
    if task.run_hash:
        found = _run_hash(task.folder / "run.json")
        if found != task.run_hash:
            raise UserError(
                f"{task.folder}: the run in this folder has another configuration (hash "
                f"{found or 'missing: no run.json'}, now {task.run_hash}): remove the folder, or "
                "give another --out"
            )
        finished = finished and (task.folder / FINISHED_MARKER).exists()
    # Results of other weights look alike: only the hash in them tells.
    if finished and task.kind == "test":
        finished = _are_of_weights(task.outputs, hashes.of(task.inputs["weights"]))
    if finished:
        state.status = DONE
        state.outputs = output_hashes(task, hashes)
    write_state(task.state_file, state)
    return finished


def _are_of_weights(results: tuple[Path, ...], weights: str) -> bool:
    return all(read_results(path).meta.get("checkpoint_sha256") == weights for path in results)


def _run_hash(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("config_hash", ""))
    except (OSError, ValueError, AttributeError):
        return ""
