"""Follow the elements of MP4, FLV and AVI files, each of which tells where it ends.

FFmpeg looks for the next element where one does not follow another, and says nothing of frames that
were lost with the bytes between.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from nightcrawler.data.video.integrity.gaps import MOST_FAULTS, Fault
from nightcrawler.data.video.integrity.search import find_all

# Bytes that tell where an element ends, in each of the formats.
HEAD_BYTES = 16
# Longer stretches without elements are not compared with padding.
MOST_PADDING_BYTES = 1 << 20
# Size of an element that takes the rest of the file.
MOST_FILE_BYTES = 1 << 62


@dataclass(frozen=True)
class _Format:
    """Layout of the elements of a format.

    Attributes:
        magic: beginning of a file.
        start: pattern of the beginning of an element that is searched behind damage.
        num_bytes: maps the first bytes of an element to its size, other bytes to None.
        slack: number of bytes by which an element may be shorter than it tells.
        keeps_rest: whether the frames of an element that is cut can be told to be whole or not.
    """

    magic: re.Pattern[bytes]
    start: re.Pattern[bytes]
    num_bytes: Callable[[bytes], int | None]
    slack: int = 0
    keeps_rest: bool = False


def _flv_bytes(head: bytes) -> int | None:
    """Return the size of a tag: its header, its content, and its size once more."""
    if head[:3] == b"FLV":
        return int.from_bytes(head[5:9], "big") + 4
    if head[0] & 0x1F not in (8, 9, 18) or head[8:11] != bytes(3):
        return None
    return 11 + int.from_bytes(head[1:4], "big") + 4


def _avi_bytes(head: bytes) -> int | None:
    """Return the size of a chunk. Lists of chunks of pictures are entered."""
    if head[:4] == b"RIFF" or (head[:4] == b"LIST" and head[8:12] in (b"movi", b"rec ")):
        return 12
    if re.match(rb"[A-Za-z0-9_ ]{4}", head) is None:
        return None
    size = int.from_bytes(head[4:8], "little")
    return 8 + size + size % 2


def _mp4_bytes(head: bytes) -> int | None:
    """Return the size of a box of a file."""
    if re.match(rb"[A-Za-z0-9 \xa9]{4}", head[4:8]) is None:
        return None
    size = int.from_bytes(head[:4], "big")
    if size == 1:
        size = int.from_bytes(head[8:16], "big")
    if size == 0:
        # The rest of the file.
        return MOST_FILE_BYTES
    return size if size >= 8 else None


FORMATS = (
    _Format(
        magic=re.compile(rb".{4}ftyp", re.DOTALL),
        start=re.compile(rb"\0.{3}(?:moof|mdat|moov|styp|sidx|mfra|ftyp|free)", re.DOTALL),
        num_bytes=_mp4_bytes,
        keeps_rest=True,
    ),
    _Format(
        magic=re.compile(rb"FLV\x01"),
        start=re.compile(rb"[\x08\x09\x12].{7}\0\0\0", re.DOTALL),
        num_bytes=_flv_bytes,
    ),
    _Format(
        magic=re.compile(rb"RIFF.{4}AVI ", re.DOTALL),
        start=re.compile(rb"(?:\d\d(?:dc|db|wb)|ix\d\d|idx1|JUNK|LIST|RIFF).{3}\0", re.DOTALL),
        num_bytes=_avi_bytes,
        # Some writers leave out the byte that makes a chunk even.
        slack=1,
    ),
)


def element_faults(path: str) -> Iterator[Fault]:
    """Yield the places of a file where no element follows another. Other formats have none.

    Bytes behind the last element are no fault: some programs write notes of their own there.

    Args:
        path: a regular file.
    """
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
        for layout in FORMATS:
            if layout.magic.match(head):
                yield from _faults(file, os.fstat(file.fileno()).st_size, layout)


def _faults(file: BinaryIO, size: int, layout: _Format) -> Iterator[Fault]:
    position = 0
    last = 0
    num_faults = 0
    while position < size:
        num_bytes = _num_bytes(file, position, layout)
        if num_bytes is None and layout.slack and position - last > layout.slack:
            num_bytes = _num_bytes(file, position - layout.slack, layout)
            position -= layout.slack if num_bytes else 0
        end = position + (num_bytes or 0)
        if num_bytes and end <= size:
            last = position
            position = end
            continue
        if num_bytes == MOST_FILE_BYTES:
            return
        num_faults += 1
        if num_faults > MOST_FAULTS:
            yield Fault(f"damaged in more than {MOST_FAULTS} places", last, size)
            return
        following = next(find_all(file, layout.start, HEAD_BYTES, position + 1), size)
        if num_bytes:
            behind = position if layout.keeps_rest else following
            yield Fault(
                f"cut short: the file ends within its element at byte {position}", position, behind
            )
        elif following < size and not _is_padding(file, position, following):
            yield Fault(f"damaged: no element at byte {position}", last, following)
        last = position
        position = following


def _num_bytes(file: BinaryIO, position: int, layout: _Format) -> int | None:
    file.seek(position)
    # The last element may be shorter than the longest header, or be cut within its own.
    return layout.num_bytes(file.read(HEAD_BYTES).ljust(HEAD_BYTES, b"\0"))


def _is_padding(file: BinaryIO, start: int, end: int) -> bool:
    file.seek(start)
    return end - start <= MOST_PADDING_BYTES and not any(file.read(end - start))
