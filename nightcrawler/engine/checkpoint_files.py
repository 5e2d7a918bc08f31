"""Checkpoint files: written atomically, verified when read, rotated.

A checkpoint is a `.pyth` file of plain types and tensors, readable by
`torch.load(weights_only=True)`, next to a `.sha256` sidecar file. The names are those that users
know: `best.pyth` and `checkpoints/checkpoint_latest.pyth` in the run's folder.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, cast

import torch

from nightcrawler.models.formats import unreadable
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, sha256_file
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.torch_files import check_torch_file

logger = get_logger(__name__)

BEST = "best.pyth"
LATEST = "checkpoints/checkpoint_latest.pyth"
PREVIOUS = "checkpoints/checkpoint_previous.pyth"


class SaveError(UserError):
    """Failure to write a checkpoint, with the file it should have replaced intact."""


class _HashingWriter:
    """Writer that passes bytes on to a file and hashes them."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self.digest = hashlib.sha256()
        self.fault: OSError | None = None

    def write(self, block: bytes) -> int:
        """Write and hash one block, and keep an error, because torch.save replaces it."""
        self.digest.update(block)
        try:
            return int(self._file.write(block))
        except OSError as error:
            self.fault = error
            raise

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


def sidecar(path: str | Path) -> Path:
    """Return the path of the file with a checkpoint's SHA-256."""
    return Path(f"{path}.sha256")


def save_checkpoint(path: str | Path, state: dict[str, Any], older: Sequence[Path] = ()) -> str:
    """Write a checkpoint and its sidecar atomically.

    The sidecar gets the new hash before the checkpoint takes its name, and keeps the old hash
    until then: at any moment the bytes under the name match a line of the sidecar.

    Args:
        path: the file to write.
        state: plain types and tensors.
        older: names that the file under `path` and its predecessors rotate to, newest first.

    Returns:
        The SHA-256 of the file, in hexadecimal.

    Raises:
        SaveError: if it cannot be written, for example because the disk is full.

    Example:
        >>> save_checkpoint("best.pyth", {"model_state": model.state_dict(), "epoch": 3})
        >>> load_checkpoint("best.pyth")["epoch"]
        3
    """
    path = Path(path)
    try:
        old: list[str] = []
        if path.exists():
            old = _known_hashes(path)[-1:]
        with atomic_write(path) as file:
            writer = _HashingWriter(file)
            _write(state, writer)
            file.flush()
            # On the disk before any name changes: a power cut must not leave names without bytes.
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
        # torch.save calls `write` and `flush` only; its annotation asks for a whole file.
        torch.save(state, cast(IO[bytes], writer))
    except RuntimeError:
        if writer.fault is not None:
            raise writer.fault from None
        raise


def _write_hashes(path: Path, digests: list[str]) -> None:
    # The format of `sha256sum`, so that `sha256sum -c` can check it.
    with atomic_write(sidecar(path), "w") as file:
        file.writelines(f"{digest}  {path.name}\n" for digest in digests)


def _known_hashes(path: Path) -> list[str]:
    try:
        lines = sidecar(path).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [line.split()[0] for line in lines if line.strip()]


def verify(path: str | Path) -> None:
    """Compare a checkpoint with its sidecar, if it has one.

    Args:
        path: the checkpoint.

    Raises:
        UserError: if its SHA-256 is not in the sidecar.
    """
    if sidecar(path).exists() and sha256_file(path) not in _known_hashes(Path(path)):
        raise UserError(f"{path}: damaged: its bytes do not match {sidecar(path).name}")


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read and verify a checkpoint of this project, on the CPU.

    Args:
        path: the checkpoint.

    Returns:
        The state that was given to `save_checkpoint`.

    Raises:
        UserError: if it is missing, does not match its sidecar, or holds anything else than plain
            types and tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint")
    verify(path)
    try:
        check_torch_file(path)
        # weights_only: plain types and tensors, so a file cannot run code.
        state = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251
    except UserError:
        raise
    except Exception as error:  # arbitrary bytes make the reader raise almost any exception
        raise UserError(f"{path}: {unreadable(path, error)}") from None
    if not isinstance(state, dict) or "model_state" not in state:
        raise UserError(f"{path}: no 'model_state' in it: not a checkpoint of a run")
    return state


def older_names(folder: str | Path, count: int) -> list[Path]:
    """Return the names of a run's checkpoints before the latest, newest first.

    Args:
        folder: the run's folder.
        count: number of names: previous, previous_2, previous_3, ...
    """
    first = Path(folder) / PREVIOUS
    names = [first]
    for number in range(2, count + 1):
        names.append(first.with_stem(f"{first.stem}_{number}"))
    return names[:count]


def save_latest(
    folder: str | Path, state: dict[str, Any], keep_last: int = 2, replace: bool = False
) -> str:
    """Save the latest checkpoint of a run, rotating the ones before it.

    Args:
        folder: the run's folder.
        state: plain types and tensors.
        keep_last: number of checkpoints to keep, this one included.
        replace: overwrite the latest checkpoint and leave those before it in place.

    Returns:
        The SHA-256 of the file, in hexadecimal.

    Raises:
        SaveError: if it cannot be written.
    """
    older = older_names(folder, keep_last - 1)
    rotated = older
    if replace:
        rotated = []
    digest = save_checkpoint(Path(folder) / LATEST, state, rotated)
    # Left by a run that kept more of them.
    for path in set(_all_older(folder)) - set(older):
        path.unlink()
        sidecar(path).unlink(missing_ok=True)
    return digest


def remove_leftovers(folder: str | Path) -> None:
    """Remove the temporary files of killed saves from a run's folder."""
    folder = Path(folder)
    checkpoints = (folder / LATEST).parent
    for leftover in folder.glob(f".{BEST}*.tmp"):
        leftover.unlink(missing_ok=True)
    for leftover in checkpoints.glob(".checkpoint_*.tmp"):
        leftover.unlink(missing_ok=True)


def _all_older(folder: str | Path) -> list[Path]:
    """Return a run's existing checkpoints before the latest, newest first."""
    first = Path(folder) / PREVIOUS
    if not first.parent.is_dir():
        return []
    pattern = re.compile(rf"{first.stem}(?:_(\d+))?\.pyth")
    numbered: list[tuple[int, Path]] = []
    for path in first.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match:
            numbered.append((int(match[1] or 1), path))
    return [path for _, path in sorted(numbered)]


def _rotate(names: Sequence[Path]) -> None:
    """Rotate checkpoints: latest -> previous -> previous_2, where the latest also keeps its name.

    At any moment the bytes under a name match a line of its sidecar.
    """
    # From the oldest: each name is free, or replaced, before the next file takes it.
    for source, target in reversed(list(itertools.pairwise(names))):
        if not source.exists():
            continue
        digests = _known_hashes(source)
        if digests:
            before: list[str] = []
            if target.exists():
                before = _known_hashes(target)
            _write_hashes(target, [*before, *digests])
        _link(source, target)
        if digests:
            _write_hashes(target, digests)


def _link(source: Path, target: Path) -> None:
    """Give `source` a second name, replacing the file there without copying bytes."""
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(source, temporary)
    except OSError:  # a file system without hard links: move the file to its new name
        os.replace(source, target)
        return
    os.replace(temporary, target)


def find_resume(folder: str | Path) -> tuple[Path, dict[str, Any]] | None:
    """Find the newest readable checkpoint of a run.

    A damaged latest checkpoint falls back to the one before it, with a warning that names both.

    Args:
        folder: the run's folder.

    Returns:
        Its path and state, or `None` if the run has no checkpoint.

    Raises:
        UserError: if there are checkpoints and none can be read.
    """
    candidates = [path for path in (Path(folder) / LATEST, *_all_older(folder)) if path.exists()]
    faults: list[str] = []
    for path in candidates:
        try:
            state = load_checkpoint(path)
        except UserError as error:
            faults.append(str(error))
            continue
        # Never in silence: the user loses the steps since that checkpoint.
        if faults:
            logger.warning("%s; resuming from %s instead", "; ".join(faults), path)
        return path, state
    if faults:
        raise UserError(
            f"no checkpoint of this run can be read: {'; '.join(faults)}; remove them to start over"
        )
    return None
