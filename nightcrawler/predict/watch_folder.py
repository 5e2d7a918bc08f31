"""Watch a folder for new files, each taken once it is complete."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.video_result import STATUS_DAMAGED
from nightcrawler.prepare.sources import read_folder, twins_fault
from nightcrawler.pseudo.predictions import STATUS_OK
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import file_state, is_stream
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# A file counts as complete when its size and modification time are unchanged for so long.
QUIET_SEC = 2.0
# Size and modification time in nanoseconds.
FileState = tuple[int, int]


def new_videos(
    folder: Path,
    done: Mapping[str, FileState | None] = MappingProxyType({}),
    quiet_sec: float = QUIET_SEC,
    poll_sec: float = 0.5,
) -> Iterator[VideoItem | None]:
    """Yield files in and below a folder as they become complete, without end.

    Args:
        folder: folder to watch. Files are named by their paths below it.
        done: names to leave out, each with the size and modification time of the file that was
            read, None where any will do. A file that changed since is yielded again.
        quiet_sec: seconds that a complete file must be unchanged.
        poll_sec: seconds between scans of the folder.

    Yields:
        a complete file, or None after each scan.

    Raises:
        UserError: if the folder does not exist, or disappears.
    """
    taken = dict(done)
    # By name: the last state of a file that is not complete yet, and the time it was first seen so.
    growing: dict[str, tuple[tuple[int, int], float]] = {}
    told: set[tuple[str, str]] = set()
    while True:
        now = time.monotonic()
        for item in _videos(folder, told):
            state = _state(item.path)
            if state is None:
                continue
            if item.name in taken and taken[item.name] in (None, state):
                continue
            before = growing.get(item.name)
            if before is None or before[0] != state:
                growing[item.name] = (state, now)
            elif now - before[1] >= quiet_sec:
                # An upload that paused, or a ring buffer that comes round, changes the file later.
                taken[item.name] = state
                del growing[item.name]
                yield item
        # Callers that wait for something else, too, get control between scans.
        yield None
        time.sleep(poll_sec)


def read_done(path: Path, run: str) -> dict[str, FileState | None]:
    """Return videos of a JSON-lines file with their files' states, so that a watch can resume.

    Rows of errors are not done: the file may have been incomplete, or away.

    A last line that a killed process left incomplete is ended, to keep it apart from the next one.

    Args:
        path: file of results, one JSON object per line. It may be missing.
        run: hash of models and settings. Lines of other runs do not count, those that name none
            (of earlier versions) do.
    """
    # Reading a pipe would wait for ever, and an open file of a process is for writing.
    if is_stream(path) or not path.is_file():
        return {}
    # A killed process may leave half a character behind.
    text = path.read_text(encoding="utf-8", errors="replace")
    if text and not text.endswith("\n"):
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("\n")
    done: dict[str, FileState | None] = {}
    # JSON lines end with \n alone: other separators of lines may be part of a name.
    for line in text.split("\n"):
        row = _row(line)
        if row is None or row.get("run", run) != run:
            continue
        name = str(row["video"])
        done.pop(name, None)
        if _has_answer(row):
            done[name] = _state_of_row(row)
    return done


def _has_answer(row: dict[str, Any]) -> bool:
    status = str(row.get("status", STATUS_OK))
    return bool(row.get("top")) or status == STATUS_OK or status.startswith(STATUS_DAMAGED)


def _row(line: str) -> dict[str, Any] | None:
    """Return the object of a line, None for a line that is incomplete or no result."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or "video" not in row:
        return None
    return row


def _state_of_row(row: dict[str, Any]) -> FileState | None:
    size, time_ns = row.get("size"), row.get("mtime_ns")
    if isinstance(size, int) and isinstance(time_ns, int):
        return size, time_ns
    return None


def _videos(folder: Path, told: set[tuple[str, str]]) -> list[VideoItem]:
    """Return the files of a folder without twins, each pair of which is told once.

    Raises:
        UserError: if the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder to watch")
    items, twins = read_folder(folder)
    for pair in twins:
        # One upload with a wrong name must not end the watch for all others.
        if pair not in told:
            told.add(pair)
            logger.warning("%s", twins_fault(folder, pair, "both are left out, rename one of them"))
    return items


def _state(path: Path) -> tuple[int, int] | None:
    """Return size and modification time, None for a file that is empty or gone."""
    state = file_state(path)
    if state is None or not state[0]:
        return None
    return state
