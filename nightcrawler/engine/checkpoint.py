"""Checkpoints that are whole or absent, and verified when read.

A checkpoint is a `.pyth` file of plain types and tensors (`torch.load(weights_only=True)` reads it) beside a
`.sha256` file. Names are those users know: `best.pyth` and `checkpoints/checkpoint_latest.pyth` in the run's folder.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from nightcrawler.models.formats import unreadable
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, sha256_file
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

BEST = "best.pyth"
LATEST = "checkpoints/checkpoint_latest.pyth"
PREVIOUS = "checkpoints/checkpoint_previous.pyth"


class SaveError(UserError):
    """A checkpoint could not be written; what was there is as it was."""


class _HashingWriter:
    """Passes bytes on to a file and hashes them on the way."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.fault: OSError | None = None

    def write(self, block: bytes) -> int:
        """Write and hash one block; the reason why that failed is kept, torch does not pass it on."""
        self.digest.update(block)
        try:
            return self._file.write(block)
        except OSError as error:
            self.fault = error
            raise

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


def sidecar(path: str | Path) -> Path:
    """The file that holds a checkpoint's SHA-256."""
    return Path(f"{path}.sha256")


def save_checkpoint(path: str | Path, state: dict[str, Any], older: Sequence[Path] = ()) -> str:
    """Write `state` under `path` and its hash beside it; returns the hash.

    The hash is appended to the sidecar before the checkpoint takes its name, and the sidecar keeps the hash of
    the file it replaces until then: whatever is under the name always matches a line of the sidecar.

    Args:
        path: the file.
        state: plain types and tensors.
        older: names that the file under `path` and those before it move on to, once the new one is written.

    Raises:
        SaveError: if it cannot be written, as on a full disk.
    """
    path = Path(path)
    try:
        old = _known_hashes(path)[-1:] if path.exists() else []
        with atomic_write(path) as file:
            writer = _HashingWriter(file)
            _write(state, writer)
            file.flush()
            os.fsync(file.fileno())
            digest = writer.digest.hexdigest()
            _rotate([path, *older])
            _write_hashes(path, [*old, digest])
        _write_hashes(path, [digest])
    except OSError as error:
        raise SaveError(f"{path}: not saved ({error.strerror or error})") from error
    return digest


def _write(state: dict[str, Any], writer: _HashingWriter) -> None:
    try:
        torch.save(state, writer)
    except RuntimeError:
        if writer.fault is not None:
            raise writer.fault from None
        raise


def _write_hashes(path: Path, digests: list[str]) -> None:
    with atomic_write(sidecar(path), "w") as file:
        file.writelines(f"{digest}  {path.name}\n" for digest in digests)


def _known_hashes(path: Path) -> list[str]:
    try:
        lines = sidecar(path).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [line.split()[0] for line in lines if line.strip()]


def verify(path: str | Path) -> None:
    """Compare a checkpoint with its sidecar, where it has one.

    Raises:
        UserError: if its bytes are not those that were written.
    """
    if sidecar(path).exists() and sha256_file(path) not in _known_hashes(Path(path)):
        raise UserError(f"{path}: damaged: its bytes do not match {sidecar(path).name}")


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read and verify one of our checkpoints, on the CPU.

    Raises:
        UserError: if it is missing, does not match its sidecar, or does not hold plain types and tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    verify(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes that are no checkpoint trip the reader in any of its lines
        raise UserError(f"{path}: {unreadable(path, error)}") from None
    if not isinstance(state, dict) or "model_state" not in state:
        raise UserError(f"{path}: no 'model_state' in it: not a checkpoint of a run")
    return state


def older_names(folder: str | Path, count: int) -> list[Path]:
    """Names of a run's `count` checkpoints before the latest, newest first: previous, previous_2, previous_3, ..."""
    first = Path(folder) / PREVIOUS
    return [first, *(first.with_stem(f"{first.stem}_{number}") for number in range(2, count + 1))][
        :count
    ]


def save_latest(
    folder: str | Path, state: dict[str, Any], keep_last: int = 2, replace: bool = False
) -> str:
    """Save as the latest checkpoint of a run, keeping `keep_last` of them, this one included, as fallbacks.

    With `replace`, the one that was the latest is not kept, and those before it are.
    """
    older = older_names(folder, keep_last - 1)
    digest = save_checkpoint(Path(folder) / LATEST, state, () if replace else older)
    for path in set(_all_older(folder)) - set(older):
        path.unlink()
        sidecar(path).unlink(missing_ok=True)
    return digest


def remove_leftovers(folder: str | Path) -> None:
    """Remove what saves that were killed left half written in a run's folder."""
    latest = Path(folder) / LATEST
    for leftover in [*Path(folder).glob(f".{BEST}*.tmp"), *latest.parent.glob(".checkpoint_*.tmp")]:
        leftover.unlink(missing_ok=True)


def _all_older(folder: str | Path) -> list[Path]:
    """Checkpoints of a run before the latest that are there, newest first."""
    first = Path(folder) / PREVIOUS
    numbered = [
        (re.fullmatch(rf"{first.stem}(?:_(\d+))?\.pyth", path.name), path)
        for path in _siblings(first)
    ]
    return [
        path for _, path in sorted((int(found[1] or 1), path) for found, path in numbered if found)
    ]


def _siblings(path: Path) -> list[Path]:
    return list(path.parent.iterdir()) if path.parent.is_dir() else []


def _rotate(names: Sequence[Path]) -> None:
    """Give each file the next of the names; the first keeps its own too.

    At any moment what is under a name matches a line of its sidecar.
    """
    for source, target in reversed(list(itertools.pairwise(names))):
        if source.exists():
            digests = _known_hashes(source)
            if digests:
                _write_hashes(
                    target, [*(_known_hashes(target) if target.exists() else []), *digests]
                )
            _link(source, target)
            if digests:
                _write_hashes(target, digests)


def _link(source: Path, target: Path) -> None:
    """Give `source` a second name, replacing whatever had it; no bytes are copied."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # a file system without hard links: the name is the file's only one
        os.replace(source, target)
        return
    os.replace(temporary, target)


def find_resume(folder: str | Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of a run that can be read, or `None` where the run has none.

    A damaged latest checkpoint falls back to the one before it, with a warning that names both.

    Raises:
        UserError: if there are checkpoints and none can be read.
    """
    candidates = [path for path in (Path(folder) / LATEST, *_all_older(folder)) if path.exists()]
    faults = []
    for path in candidates:
        try:
            state = load_checkpoint(path)
        except UserError as error:
            faults.append(str(error))
            continue
        if faults:
            logger.warning("%s; going on from %s instead", "; ".join(faults), path)
        return path, state
    if faults:
        raise UserError(
            f"no checkpoint of this run can be read: {'; '.join(faults)}; remove them to start anew"
        )
    return None
