"""Files that appear in a folder, each once it is written to its end."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path

from nightcrawler.data.lists import VideoItem
from nightcrawler.prepare.sources import read_videos
from nightcrawler.utils.errors import UserError

# A file is written to its end when its size and time stay the same for so long.
QUIET_SEC = 2.0


def new_videos(
    folder: Path, done: Collection[str] = (), quiet_sec: float = QUIET_SEC, poll_sec: float = 0.5
) -> Iterator[VideoItem | None]:
    """Files of a folder and those below it that are not done yet, as they are complete, without end.

    Args:
        folder: watched; files named by their paths below it.
        done: names to leave out.
        quiet_sec: how long a file must not have changed.
        poll_sec: how often the folder is looked at.

    Yields:
        a file; `None` after each look at the folder.

    Raises:
        UserError: if the folder is not there, or no longer.
    """
    taken, since = set(done), {}
    while True:
        now = time.monotonic()
        for item in _videos(folder):
            state = _state(item.path)
            if item.name in taken or state is None:
                continue
            before, first_sec = since.get(item.name, (None, now))
            if state != before:
                since[item.name] = (state, now)
            elif now - first_sec >= quiet_sec:
                taken.add(item.name)
                del since[item.name]
                yield item
        yield None
        time.sleep(poll_sec)


def read_done(path: Path) -> set[str]:
    """Names of the videos in a file of JSON lines, for a watch that goes on; what a killed one left half is ended."""
    if not path.exists():
        return set()
    text = path.read_text(encoding="utf-8", errors="replace")
    if text and not text.endswith("\n"):
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n")
    return {name for line in text.splitlines() if (name := _name(line)) is not None}


def _name(line: str) -> str | None:
    try:
        return str(json.loads(line)["video"])
    except (ValueError, KeyError, TypeError):
        return None


def _videos(folder: Path) -> list[VideoItem]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder to watch")
    try:
        return read_videos(folder, 0)
    except UserError:  # empty as yet
        return []


def _state(path: Path) -> tuple[int, int] | None:
    """Size and time of change; `None` for a file that is empty or gone."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if status.st_size else None
