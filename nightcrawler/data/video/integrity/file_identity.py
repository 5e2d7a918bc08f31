"""State of a file, by which results of whole-file checks are remembered until it changes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

# A file that was changed more recently may change again without a new time stamp: those of some
# file systems have steps of one or two seconds.
SETTLED_SEC = 2.0


@dataclass(frozen=True)
class FileState:
    """Path and status of a file.

    A file that is changed or replaced has another state.

    Attributes:
        path: the file.
        device: number of its file system.
        inode: its number there.
        size: in bytes.
        mtime_ns: time of the last change of its content.
        ctime_ns: time of the last change of its content or status, which no program can set back.
    """

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


def settled_state(path: str) -> FileState | None:
    """Return the state of a file, or `None` if it changed just now or is missing.

    Take the state before the file is read: a file that changes while it is read then never gets the
    old result.
    """
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    age_sec = time.time() - max(status.st_mtime, status.st_ctime)
    if age_sec < SETTLED_SEC:
        return None
    return FileState(
        path=path,
        device=status.st_dev,
        inode=status.st_ino,
        size=status.st_size,
        mtime_ns=status.st_mtime_ns,
        ctime_ns=status.st_ctime_ns,
    )
