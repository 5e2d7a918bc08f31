"""Watch a folder for new files, each taken once it is complete."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from nightcrawler.data.lists import VideoItem
from nightcrawler.prepare.sources import EmptyFolderError, read_videos
from nightcrawler.utils.errors import UserError

# A file counts as complete when its size and modification time are unchanged for so long.
QUIET_SEC = 2.0


def new_videos(
    folder: Path, done: Collection[str] = (), quiet_sec: float = QUIET_SEC, poll_sec: float = 0.5
) -> Iterator[VideoItem | None]:
    """Yield files in and below a folder as they become complete, without end.

    Args:
        folder: folder to watch. Files are named by their paths below it.
        done: names to leave out.
        quiet_sec: seconds that a complete file must be unchanged.
        poll_sec: seconds between scans of the folder.

    Yields:
        a complete file, or None after each scan.

    Raises:
        UserError: if the folder does not exist, or disappears.
    """
    taken = set(done)
    # By name: the last state of a file that is not complete yet, and the time it was first seen so.
    growing: dict[str, tuple[tuple[int, int], float]] = {}
    while True:
        now = time.monotonic()
        for item in _videos(folder):
            state = _state(item.path)
            if item.name in taken or state is None:
                continue
            before = growing.get(item.name)
            if before is None or before[0] != state:
                growing[item.name] = (state, now)
            elif now - before[1] >= quiet_sec:
                taken.add(item.name)
                del growing[item.name]
                yield item
        # Callers that wait for something else, too, get control between scans.
        yield None
        time.sleep(poll_sec)


def read_done(path: Path) -> set[str]:
    """Return the names of videos in a JSON-lines file, so that a watch can resume.

    A last line that a killed process left incomplete is ended, to keep it apart from the next one.

    Args:
        path: file of results, one JSON object per line. It may be missing.
    """
    if not path.exists():
        return set()
    # A killed process may leave half a character behind.
    text = path.read_text(encoding="utf-8", errors="replace")
    if text and not text.endswith("\n"):
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n")
    names = set()
    for line in text.splitlines():
        name = _name(line)
        if name is not None:
            names.add(name)
    return names


def _name(line: str) -> str | None:
    """Return the video's name in a line, None for an incomplete line."""
    try:
        return str(json.loads(line)["video"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _videos(folder: Path) -> list[VideoItem]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder to watch")
    try:
        return read_videos(folder, 0)
    except EmptyFolderError:
        # An empty folder is an error elsewhere. Here files are yet to come.
        return []


def _state(path: Path) -> tuple[int, int] | None:
    """Return size and modification time, None for a file that is empty or gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    if not status.st_size:
        return None
    return status.st_size, status.st_mtime_ns
