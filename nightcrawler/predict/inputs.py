"""Which videos are meant: a file, a folder, a list."""

from __future__ import annotations

from pathlib import Path

from nightcrawler.data.lists import VideoItem
from nightcrawler.prepare.sources import read_videos
from nightcrawler.pseudo.predictions import first_duplicate
from nightcrawler.utils.errors import UserError

MOST_LIST_BYTES = 1 << 30


def find_videos(given: Path, num_classes: int) -> list[VideoItem]:
    """The videos of a file, a folder (all below it), a `path,label` list `.csv`, or a list `.txt` of a path a line.

    Paths in a `.txt` are taken from its folder. A file that is no video is one all the same: its row will say so.

    Raises:
        UserError: if nothing is there, or a list is bad.
    """
    if given.is_dir() or given.suffix == ".csv":
        return read_videos(given, num_classes)
    if not given.exists():
        raise UserError(f"{given}: no such file or folder")
    if given.suffix == ".txt":
        return _read_paths(given)
    return [VideoItem(given.name, -1, given, 1)]


def _read_paths(given: Path) -> list[VideoItem]:
    if given.stat().st_size > MOST_LIST_BYTES:
        raise UserError(f"{given}: larger than {MOST_LIST_BYTES >> 30} GiB: not a list")
    try:
        lines = [line.strip() for line in given.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise UserError(f"{given}: not UTF-8 text (byte {error.start})") from None
    names = [line for line in lines if line]
    if not names:
        raise UserError(f"{given}: the list is empty")
    if len(set(names)) < len(names):
        raise UserError(f"{given}: holds {first_duplicate(names)}")
    return [
        VideoItem(name, -1, given.parent / name, row)
        for row, name in enumerate(lines, start=1)
        if name
    ]
