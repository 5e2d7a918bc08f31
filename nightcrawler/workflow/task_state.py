"""What is done, read from files: hashes of inputs and outputs, and the stamp that a link leaves beside its outputs."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, sha256_file
from nightcrawler.workflow.experiment import LINKED_KEYS
from nightcrawler.workflow.task import Task, digest

# A file that changed this recently may change again without its size and time telling.
YOUNG_SEC = 0.2
STARTED, DONE, FAILED, REDO = "started", "done", "failed", "redo"
# Files of a run by hand that an adopted training must have.
MARKER = "DONE"


class FileHashes:
    """SHA-256 of files, remembered as long as their size and time stay.

    Args:
        path: file that the memory is kept in.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[Any]] = {}
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8"))
            self._known = found if isinstance(found, dict) else {}

    def of(self, path: Path) -> str:
        """The hash of a file; empty where there is none."""
        try:
            status = path.stat()
        except OSError:
            return ""
        key, seen = os.path.abspath(path), [status.st_size, status.st_mtime_ns]
        known = self._known.get(key)
        if isinstance(known, list) and known[:2] == seen and len(known) == 3:
            return str(known[2])
        found = sha256_file(path)
        if time.time() - status.st_mtime > YOUNG_SEC:
            self._known[key] = [*seen, found]
        return found

    def save(self) -> None:
        """Keep what is known for the next run."""
        with atomic_write(self._path, "w") as file:
            json.dump(self._known, file)


@dataclass
class TaskState:
    """What is known of a link's last run.

    Attributes:
        status: `started`, `done`, `failed` or `redo`.
        key: hash of its signature and inputs then.
        inputs: name to SHA-256.
        outputs: path relative to the link's folder, to SHA-256.
        command: what was run.
        seconds: that it took, earlier attempts that were ended in order included.
        exit_code: of the command.
        error: the last line of one that failed.
        adopted: outputs were there and were taken as they are.
    """

    status: str
    key: str
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    seconds: float = 0.0
    exit_code: int = 0
    error: str = ""
    adopted: bool = False


def read_stamp(path: Path) -> TaskState | None:
    """The stamp in a file; `None` where there is none, or none that can be read."""
    try:
        stamp = TaskState(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return stamp if stamp.status in (STARTED, DONE, FAILED, REDO) else None


def write_stamp(path: Path, stamp: TaskState) -> None:
    """Write a stamp, atomically."""
    with atomic_write(path, "w") as file:
        json.dump(asdict(stamp), file, indent=1)
        file.write("\n")


@dataclass(frozen=True)
class Verdict:
    """Whether a link stands, and why not.

    Attributes:
        stands: nothing needs to be done.
        reason: what is to be done, for people.
        key: hash of its signature and inputs now.
        inputs: name to SHA-256 now.
        stamp: of its last run, if any.
        goes_on: an unfinished run of the same inputs is there to go on from.
        foreign: outputs that no stamp speaks of, or that were adopted and changed by hand again.
    """

    stands: bool
    reason: str
    key: str
    inputs: dict[str, str]
    stamp: TaskState | None = None
    goes_on: bool = False
    foreign: tuple[Path, ...] = ()


def judge(link: Task, hashes: FileHashes) -> Verdict:
    """Compare a link's last run with what is on disk."""
    inputs = {name: hashes.of(path) for name, path in link.inputs.items()}
    key = digest([link.kind, link.signature, inputs])
    stamp = read_stamp(link.stamp)
    if stamp is None:
        foreign = (
            ()
            if link.guards
            else tuple(path for path in (*link.outputs, *link.leftovers) if path.exists())
        )
        reason = "outputs of another run are there" if foreign else "new"
        return Verdict(False, reason, key, inputs, foreign=foreign)
    if stamp.status == REDO:
        return Verdict(False, "to be done again", key, inputs, stamp)
    if stamp.key != key:
        return Verdict(False, _difference(stamp, inputs), key, inputs, stamp)
    if stamp.status != DONE:
        reason = f"failed: {stamp.error}" if stamp.status == FAILED else "interrupted"
        return Verdict(False, reason, key, inputs, stamp, goes_on=True)
    for path in link.outputs:
        found = hashes.of(path)
        if not found or found != stamp.outputs.get(_relative(link, path)):
            reason = f"{path.name} {'changed' if found else 'is missing'}"
            foreign = (path,) if stamp.adopted and found else ()
            return Verdict(False, reason, key, inputs, stamp, foreign=foreign)
    return Verdict(True, "stands", key, inputs, stamp)


def _difference(stamp: TaskState, inputs: dict[str, str]) -> str:
    names = [name for name in inputs if stamp.inputs.get(name) != inputs[name]]
    names += [name for name in stamp.inputs if name not in inputs]
    return f"{', '.join(names)} changed" if names else "its configuration changed"


def _relative(link: Task, path: Path) -> str:
    return os.path.relpath(path, link.folder)


def output_hashes(link: Task, hashes: FileHashes) -> dict[str, str]:
    """Path relative to the link's folder, to SHA-256, of all outputs; empty where one is missing."""
    return {_relative(link, path): hashes.of(path) for path in link.outputs}


def clear(link: Task, stamp: TaskState | None) -> None:
    """Remove what earlier runs of a link left."""
    recorded = [link.folder / name for name in stamp.outputs] if stamp else []
    for path in {*link.outputs, *link.leftovers, *recorded}:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def reads_same_places(link: Task, stamp: TaskState | None) -> bool:
    """Whether a training's weights and pseudo-labels are where its last run read them: else it cannot go on."""

    def places(command: Sequence[str]) -> dict[str, str]:
        return {key: value for key, value in itertools.pairwise(command) if key in LINKED_KEYS}

    return stamp is None or not stamp.command or places(stamp.command) == places(link.command)


def mark_redo(links: Sequence[Task]) -> None:
    """Make links be done again, whatever their stamps say."""
    for link in links:
        stamp = read_stamp(link.stamp)
        if stamp is not None:
            stamp.status = REDO
            write_stamp(link.stamp, stamp)


def adopt(link: Task, verdict: Verdict, hashes: FileHashes) -> bool:
    """Take outputs that were made by hand as this link's; returns whether the link stands with them.

    A training is taken if its `run.json` has this configuration: a finished one stands, an unfinished one goes on. A
    test is taken if its results are of the weights that are there now.

    Raises:
        UserError: if it is of another configuration.
    """
    stamp = TaskState(STARTED, verdict.key, verdict.inputs, adopted=True)
    finished = all(path.exists() for path in link.outputs)
    if link.run_hash:
        found = _run_hash(link.folder / "run.json")
        if found != link.run_hash:
            raise UserError(
                f"{link.folder}: the run there is of another configuration ({found or 'no run.json'}, now "
                f"{link.run_hash}): remove it, or give another --out"
            )
        finished = finished and (link.folder / MARKER).exists()
    if finished and link.kind == "test":
        weights = hashes.of(link.inputs["weights"])
        finished = all(
            read_results(path).meta.get("checkpoint_sha256") == weights for path in link.outputs
        )
    if finished:
        stamp.status, stamp.outputs = DONE, output_hashes(link, hashes)
    write_stamp(link.stamp, stamp)
    return finished


def _run_hash(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8")).get("config_hash", ""))
    except (OSError, ValueError, AttributeError):
        return ""
