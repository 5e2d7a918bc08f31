"""Find the files within a file: recordings that were joined byte by byte (`cat a.mp4 b.mp4`).

FFmpeg reads the first file of such a one and leaves the others out without a word (MP4, FLV, ASF),
or reads two of many (Matroska). Each is therefore opened by itself. Joined program streams, AVI
files, raw streams, and transport streams whose videos have one number are one stream to FFmpeg, and
are not cut here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from nightcrawler.data.video.integrity import transport_stream
from nightcrawler.data.video.integrity.search import find_all

# Headers that no content holds by chance: at least 12 given bytes, or 4 and a name behind them.
HEADERS = (
    re.compile(rb"\x1aE\xdf\xa3.{0,60}?\x42\x82.(?:matroska|webm)", re.DOTALL),
    re.compile(rb"FLV\x01[\x00\x01\x04\x05]\0\0\0\x09\0\0\0\0"),
    re.compile(rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c"),
    re.compile(rb"DKIF\0\0\x20\0(?:VP80|VP90|AV01)"),
)
HEADER_BYTES = 128
# More are no recordings that somebody joined.
MOST_SECTIONS = 10_000


@dataclass(frozen=True)
class Section:
    """Bytes of a file that are a file of their own, from `start` up to `end`."""

    start: int
    end: int


def joined_files(path: str) -> tuple[Section, ...]:
    """Return the files within a file, or nothing where it is a single one.

    Args:
        path: a regular file.

    Raises:
        OSError: if the file cannot be read.
    """
    starts = []
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        for start in _starts(path, file, size):
            starts.append(start)
            if len(starts) > MOST_SECTIONS:
                return ()
    if len(starts) < 2:
        return ()
    ends = [*starts[1:], size]
    return tuple(Section(start, end) for start, end in zip(starts, ends, strict=True))


def _starts(path: str, file: BinaryIO, size: int) -> Iterator[int]:
    """Yield the first bytes of the files, all of the kind of the first."""
    head = file.read(HEADER_BYTES)
    if bytes([transport_stream.SYNC]) in (head[:1], head[4:5]):
        yield from transport_stream.recording_starts(path)
    if head[4:8] == b"ftyp":
        yield from _mp4_starts(file, size)
    for header in HEADERS:
        if header.match(head):
            yield from find_all(file, header, HEADER_BYTES)


def _mp4_starts(file: BinaryIO, size: int) -> Iterator[int]:
    """Yield the places of `ftyp` boxes: every MP4 file begins with its only one."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        kind = head[4:8]
        if length == 1:
            length = int.from_bytes(head[8:], "big")
        if kind == b"ftyp":
            yield position
        # A length of 0 stands for the rest of the file.
        if length < 8 or not kind.isalnum():
            return
        position += length
