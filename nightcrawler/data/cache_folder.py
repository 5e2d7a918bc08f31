"""Files of the disk cache: which of a folder's files are its own, and how large they are together.

The folder may be a scratch folder, a project or a home: a file of another name is someone else's.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

# Names as `video_key` and the writer form them.
OWN_FOLDER = re.compile(r"[0-9a-f]{16}")
OWN_FILE = re.compile(r"[0-9a-f]{64}\.(clip|[0-9a-f]{32}\.tmp)")
# A temporary file of this age was left by a writer that was killed.
STALE_SEC = 3600.0


def measure_cache(folder: Path) -> int:
    """Return the bytes in use by a cache, and remove temporary files of killed writers.

    Args:
        folder: folder of the cache.
    """
    used = 0
    for path in _own_files(folder):
        with contextlib.suppress(OSError):
            status = path.lstat()
            if path.suffix == ".tmp" and status.st_mtime < time.time() - STALE_SEC:
                path.unlink()
            else:
                used += status.st_size
    return used


def _own_files(root: Path) -> Iterator[Path]:
    """Yield the files of the cache, whole or temporary, and follow no link."""
    for folder in _entries(root):
        if OWN_FOLDER.fullmatch(folder.name) and folder.is_dir(follow_symlinks=False):
            for entry in _entries(folder.path):
                if OWN_FILE.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                    yield Path(entry.path)


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
