"""File locks that the system frees however their holder ends.

A *record lock* belongs to one process: forked children (loader workers) do not hold it. An
*inheritable lock* belongs to an open file: a child process that was given the descriptor holds it
on after its parent's death.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import os
from pathlib import Path
from typing import IO, Any

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)


def take_record_lock(file: IO[Any], wait: bool) -> bool:
    """Lock an open file for this process alone, until the file is closed.

    Args:
        file: File opened for writing.
        wait: Wait until the lock is free (`False`: return at once).

    Returns:
        `False` if another process holds the lock (never with `wait`).

    Raises:
        OSError: If the file system has no locks.
    """
    mode = fcntl.LOCK_EX
    if not wait:
        mode |= fcntl.LOCK_NB
    try:
        fcntl.lockf(file, mode)
    except (BlockingIOError, PermissionError):
        # POSIX allows either EAGAIN or EACCES for a lock that is held.
        if wait:
            raise
        return False
    return True


def take_inheritable_lock(path: Path) -> int | None:
    """Lock a file by a descriptor that can be passed to a child process (`pass_fds`).

    Args:
        path: Lock file, created with its folder if missing.

    Returns:
        The descriptor that holds the lock until its last copy is closed, or `None` if another
        process holds it. On a file system without locks it holds nothing, which a warning says.

    Raises:
        OSError: If the file cannot be opened.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # A link would be followed, and the file that it names created or locked.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UserError(f"{path}: is a symbolic link, expected a file: remove it") from None
        raise
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        # Lustre without its mount option, or NFS without a lock daemon.
        _warn_of_no_locks(str(path.parent), error.strerror or str(error))
    return descriptor


@functools.cache
def _warn_of_no_locks(folder: str, reason: str) -> None:
    """Warn once of each folder."""
    logger.warning(
        "%s cannot be locked (%s): make sure that only one command runs there at a time",
        folder,
        reason,
    )
