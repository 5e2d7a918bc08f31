"""Temporary folders that are removed when their program ends, or else when the next one starts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nightcrawler.utils.locks import take_inheritable_lock
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# What `tempfile.mkdtemp` appends.
RANDOM_PART = r"[a-z0-9_]{8}"
LOCK_FILE = ".lock"


@contextlib.contextmanager
def temporary_folder(prefix: str, parent: Path | None = None) -> Iterator[Path]:
    """Make a folder, locked for the length of the block and removed after it.

    Folders of programs that were killed are removed first: those with a lock that nobody holds.

    Args:
        prefix: Start of its name. Only folders of the same prefix are removed.
        parent: Folder to make it in. None takes the system's temporary folder.

    Yields:
        The folder, which only its owner may read.

    Raises:
        OSError: If it cannot be made, such as on a full disk.

    Example:
        >>> with temporary_folder("nightcrawler-page-") as folder:
        ...     folder.is_dir()
        True
    """
    parent = parent or Path(tempfile.gettempdir())
    remove_abandoned(prefix, parent)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
    lock = None
    try:
        lock = _lock(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _lock(folder: Path) -> int | None:
    """Return the descriptor of the folder's lock, None where the file system has no locks."""
    made = folder / f"{LOCK_FILE}.new"
    try:
        lock = take_inheritable_lock(made)
    except OSError as error:
        logger.warning("%s: cannot be locked (%s); a kill would leave it", folder, error)
        return None
    # Renamed when held: a lock that somebody else sees is never free while its program lives.
    made.rename(folder / LOCK_FILE)
    return lock


def remove_abandoned(prefix: str, parent: Path) -> list[Path]:
    """Remove folders of this user whose program has ended, never through a link.

    Args:
        prefix: Start of their names.
        parent: Folder that holds them.

    Returns:
        The folders that were removed.
    """
    removed = []
    with contextlib.suppress(OSError):
        for entry in sorted(os.scandir(parent), key=lambda entry: entry.name):
            folder = Path(entry.path)
            if _is_own(prefix, entry) and _is_abandoned(folder):
                shutil.rmtree(folder, ignore_errors=True)
                removed.append(folder)
    return removed


def _is_own(prefix: str, entry: os.DirEntry[str]) -> bool:
    if not re.fullmatch(re.escape(prefix) + RANDOM_PART, entry.name):
        return False
    try:
        is_folder = entry.is_dir(follow_symlinks=False)
        return is_folder and entry.stat(follow_symlinks=False).st_uid == os.getuid()
    except OSError:
        return False


def _is_abandoned(folder: Path) -> bool:
    path = folder / LOCK_FILE
    # Without its lock, the folder may be one that is being made right now.
    if path.is_symlink() or not path.is_file():
        return False
    try:
        lock = take_inheritable_lock(path)
    except OSError:
        return False
    if lock is None:
        return False
    os.close(lock)
    return True
