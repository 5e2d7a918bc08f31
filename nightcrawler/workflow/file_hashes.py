"""SHA-256 of files, cached by size and modification time."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from nightcrawler.utils.io import atomic_write, sha256_file

CACHE_NAME = ".hashes.json"
# File systems keep times coarsely: a file modified this recently may change again while its size
# and time stay the same, so its hash is not cached.
YOUNG_SEC = 0.2


class FileHashes:
    """SHA-256 of files, computed again only when size or modification time has changed.

    Args:
        path: JSON file that keeps the hashes between runs. A damaged one is ignored.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Absolute path -> [size, modification time in ns, hash].
        self._known: dict[str, list[Any]] = {}
        with contextlib.suppress(OSError, ValueError):
            found = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(found, dict):
                self._known = found

    def of(self, path: Path) -> str:
        """Return the hash of a file, or an empty string if it does not exist."""
        try:
            status = path.stat()
        except OSError:
            return ""
        key = os.path.abspath(path)
        seen = [status.st_size, status.st_mtime_ns]
        known = self._known.get(key)
        if isinstance(known, list) and known[:2] == seen and len(known) == 3:
            return str(known[2])
        found = sha256_file(path)
        if time.time() - status.st_mtime > YOUNG_SEC:
            self._known[key] = [*seen, found]
        return found

    def save(self) -> None:
        """Write the cache for the next run."""
        with atomic_write(self._path, "w") as file:
            json.dump(self._known, file)
