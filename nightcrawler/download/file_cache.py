"""Folder of bounded size for files that can be had again: the least recently used ones make room.

Processes share it. A file appears under its name when it is whole. Files of other names are someone
else's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from nightcrawler.download.faults import DownloadError, TooLargeError, check_size
from nightcrawler.utils.io import fsync_folder, open_own
from nightcrawler.utils.locks import take_record_lock
from nightcrawler.utils.lru import LruMapping

LIMIT = "NIGHTCRAWLER_VIDEOS_GIB"
# A file that was used since may be open, or about to be opened again by the same sample.
IN_USE_SEC = 60.0
# An unfinished file of this age was left by a process that was killed.
STALE_SEC = 24 * 3600.0
# Larger files that a process remembers.
MOST_REFUSED = 100_000
_OWN_FOLDER = re.compile(r"[0-9a-f]{2}")
_OWN_FILE = re.compile(r"[0-9a-f]{62}(\.[A-Za-z0-9]{1,8})?")
# Folder that the hub's library downloads to.
_STAGING = re.compile(r"[0-9a-f]{62}\.[0-9a-f]{32}\.part\.hub")
_PART = re.compile(r"[0-9a-f]{62}\.[0-9a-f]{32}\.part(\.state)?")


class FileCache:
    """Files by key.

    Args:
        folder: folder of the files, made when absent.
        max_bytes: largest size of all files together, apart from those used a minute ago.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        # Fault of each file that is larger: the next sample does not ask for it again.
        self._refused: LruMapping[str, str] = LruMapping(MOST_REFUSED)

    def path_of(self, key: str, name: str) -> Path:
        """Return where the file of a key is kept.

        Args:
            key: any text.
            name: name of the file, whose suffix is kept.
        """
        digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
        suffix = os.path.splitext(name)[1]
        if not re.fullmatch(r"\.[A-Za-z0-9]{1,8}", suffix):
            suffix = ""
        return self.folder / digest[:2] / f"{digest[2:]}{suffix}"

    def find(self, key: str, name: str) -> Path | None:
        """Return the file of a key, which is then the latest used, None where it is absent."""
        path = self.path_of(key, name)
        try:
            os.utime(path)
        except OSError:
            return None
        return path

    def add(self, key: str, name: str, make: Callable[[Path], None]) -> Path:
        """Make the file of a key, unless another process does, and make room for it.

        Args:
            key: any text.
            name: name of the file, whose suffix is kept.
            make: writes the file under a temporary name, and raises `TooLargeError` where it is
                larger than the cache.

        Raises:
            DownloadError: if the file is larger than the cache.
            OSError: if it cannot be written.
        """
        found = self._refused.get(key)
        if found is not None:
            raise self._too_large(found)
        path = self.path_of(key, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent):
            if self.find(key, name) is None:
                try:
                    self._make(path, make)
                except TooLargeError as fault:
                    self._refused.put(key, fault.found)
                    raise self._too_large(fault.found) from None
        self.make_room()
        return path

    def _too_large(self, found: str) -> DownloadError:
        return DownloadError(f"{found}, more than the cache of {self.max_bytes}", f"raise {LIMIT}")

    def _make(self, path: Path, make: Callable[[Path], None]) -> None:
        part = path.with_name(f"{path.name[:62]}.{uuid.uuid4().hex}.part")
        try:
            make(part)
            # A hub does not tell the size of each file.
            check_size(part.stat().st_size, self.max_bytes)
            with open(part, "rb") as file:
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            for left in (part, part.with_name(f"{part.name}.state")):
                left.unlink(missing_ok=True)
            shutil.rmtree(part.with_name(f"{part.name}.hub"), ignore_errors=True)
        fsync_folder(path.parent)

    def make_room(self) -> None:
        """Remove the least recently used files until all others fit, and stale unfinished ones."""
        now = time.time()
        used = 0
        files = []
        for path, status in self._own_files():
            if _PART.fullmatch(path.name):
                if now - status.st_mtime > STALE_SEC:
                    _remove(path)
                continue
            used += status.st_size
            files.append((status.st_mtime, status.st_size, path))
        for last_used, size, path in sorted(files):
            if used <= self.max_bytes or now - last_used < IN_USE_SEC:
                return
            _remove(path)
            used -= size

    def _own_files(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Yield the files of the cache and their status, and follow no link."""
        for folder in _entries(self.folder):
            if not _OWN_FOLDER.fullmatch(folder.name) or not folder.is_dir(follow_symlinks=False):
                continue
            for entry in _entries(folder.path):
                if _STAGING.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
                    _remove_stale_staging(entry)
                is_own = _OWN_FILE.fullmatch(entry.name) or _PART.fullmatch(entry.name)
                if is_own and entry.is_file(follow_symlinks=False):
                    with contextlib.suppress(OSError):
                        yield Path(entry.path), entry.stat(follow_symlinks=False)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one process at a time make a file of a folder, if the file system has locks."""
    with open_own(folder / ".lock") as file:
        # Without locks, two processes may bring the same file.
        with contextlib.suppress(OSError):
            take_record_lock(file, wait=True)
        yield


def _entries(folder: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def _remove_stale_staging(entry: os.DirEntry[str]) -> None:
    """Remove the folder of a download from the hub whose process was killed."""
    with contextlib.suppress(OSError):
        if time.time() - entry.stat(follow_symlinks=False).st_mtime > STALE_SEC:
            shutil.rmtree(entry.path, ignore_errors=True)


def _remove(path: Path) -> None:
    # Another process may have been first.
    with contextlib.suppress(OSError):
        path.unlink()
