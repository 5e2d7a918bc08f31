"""File locks that the system frees however their holder ends.

A *record lock* belongs to one process: forked children (loader workers) do not hold it. An
*inheritable lock* belongs to an open file: a child process that was given the descriptor holds it
on after its parent's death.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import IO, Any


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
        process holds it.

    Raises:
        OSError: If the file cannot be opened, or the file system has no locks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
