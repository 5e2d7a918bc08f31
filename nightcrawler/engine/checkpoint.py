"""Checkpoints that are whole or absent, and verified when read.

A checkpoint is a `.pyth` file of plain types and tensors (`torch.load(weights_only=True)` reads it) beside a
`.sha256` file. Names are those users know: `best.pyth` and `checkpoints/checkpoint_latest.pyth` in the run's folder.
"""

from __future__ import annotations

import hashlib
import os
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


class _HashingWriter:
    """Passes bytes on to a file and hashes them on the way."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, block: bytes) -> int:
        """Write and hash one block."""
        self.digest.update(block)
        return self._file.write(block)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


def sidecar(path: str | Path) -> Path:
    """The file that holds a checkpoint's SHA-256."""
    return Path(f"{path}.sha256")


def save_checkpoint(path: str | Path, state: dict[str, Any]) -> str:
    """Write `state` under `path` and its hash beside it; returns the hash.

    The hash is appended to the sidecar before the checkpoint takes its name, and the sidecar keeps the hash of
    the file it replaces until then: whatever is under the name always matches a line of the sidecar.
    """
    path = Path(path)
    old = _known_hashes(path)[-1:] if path.exists() else []
    with atomic_write(path) as file:
        writer = _HashingWriter(file)
        torch.save(state, writer)
        digest = writer.digest.hexdigest()
        _write_hashes(path, [*old, digest])
    _write_hashes(path, [digest])
    return digest


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
    hashes = _known_hashes(Path(path))
    if hashes and sha256_file(path) not in hashes:
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


def save_latest(folder: str | Path, state: dict[str, Any]) -> str:
    """Save as the latest checkpoint of a run, keeping the one before it as a fallback."""
    latest, previous = Path(folder) / LATEST, Path(folder) / PREVIOUS
    if latest.exists():
        digests = _known_hashes(latest)
        _link(latest, previous)
        if digests:
            _write_hashes(previous, digests)
    return save_checkpoint(latest, state)


def _link(source: Path, target: Path) -> None:
    """Give `source` a second name, replacing whatever had it (a hard link: no bytes are copied)."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    os.link(source, temporary)
    os.replace(temporary, target)


def find_resume(folder: str | Path) -> tuple[Path, dict[str, Any]] | None:
    """The newest checkpoint of a run that can be read, or `None` where the run has none.

    A damaged latest checkpoint falls back to the previous one, with a warning that names both.

    Raises:
        UserError: if there are checkpoints and none can be read.
    """
    candidates = [path for path in (Path(folder) / LATEST, Path(folder) / PREVIOUS) if path.exists()]
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
        raise UserError(f"no checkpoint of this run can be read: {'; '.join(faults)}; remove them to start anew")
    return None
