"""Hashes of files, cached by size and modification time."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nightcrawler.utils.io import atomic_write, sha256_file

CACHE_NAME = ".hashes.json"
# File systems keep times coarsely: a file modified this recently may change again while its size
# and time stay the same, so its hash is not cached.
YOUNG_SEC = 0.2


class FileHashes:
    """Hashes of files, computed again only when size or modification time has changed.

    Safe to use from several threads.

    Args:
        path: JSON file that keeps the hashes between runs. A damaged one is ignored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Absolute path (and another kind of hash) -> [size, modification time in ns, hash].
        self._known: dict[str, list[Any]] = {}
        self._remembered: dict[Any, str] = {}
        with contextlib.suppress(OSError, ValueError, RecursionError):
            found = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                self._known = found

    def of(self, path: Path, kind: str = "", compute: Callable[[Path], str] = sha256_file) -> str:
        """Return the hash of a file, or an empty string if it does not exist or is no file.

        Args:
            path: The file.
            kind: Name of the kind of hash, empty for the SHA-256 of all bytes.
            compute: Function that computes it.
        """
        try:
            status = path.stat()
        except OSError:
            return ""
        # Never a FIFO or a device: reading one waits, perhaps for ever.
        if not stat.S_ISREG(status.st_mode):
            return ""
        # A path holds no NUL, so no file has the key of another one's kind.
        key = f"{os.path.abspath(path)}\0{kind}" if kind else os.path.abspath(path)
        seen = [status.st_size, status.st_mtime_ns]
        known = self._known.get(key)
        if isinstance(known, list) and known[:2] == seen and len(known) == 3:
            return str(known[2])
        found = compute(path)
        if time.time() - status.st_mtime > YOUNG_SEC:
            self._known[key] = [*seen, found]
        return found

    def remember(self, key: Any, compute: Callable[[], str]) -> str:
        """Return a hash that is computed once in the life of this object.

        Args:
            key: Anything hashable that names it.
            compute: Function that computes it.
        """
        if key not in self._remembered:
            self._remembered[key] = compute()
        return self._remembered[key]

    def save(self) -> None:
        """Write the cache for the next run."""
        with atomic_write(self._path, "w") as file:
            # A copy: another thread may add to it meanwhile.
            json.dump(dict(self._known), file)
