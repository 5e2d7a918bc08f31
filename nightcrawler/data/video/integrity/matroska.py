"""Checks of Matroska and WebM files that FFmpeg leaves out.

FFmpeg skips damage up to the next cluster it finds. Here the elements of a file (RFC 8794, RFC
9559) are followed to its end, and the CRC-32 of those that have one is compared.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Generator, Iterator
from typing import BinaryIO

from nightcrawler.data.video.integrity.gaps import Fault
from nightcrawler.data.video.integrity.search import find_all

MAGIC = b"\x1a\x45\xdf\xa3"
SEGMENT = 0x18538067
CLUSTER = 0x1F43B675
CLUSTER_BYTES = re.compile(re.escape(CLUSTER.to_bytes(4, "big")))
# A CRC-32 element: its number, and the length 4.
CRC = b"\xbf\x84"
# Seek head, info, tracks, cues, chapters, tags, attachments, void, CRC-32.
OTHERS = (
    0x114D9B74,
    0x1549A966,
    0x1654AE6B,
    0x1C53BB6B,
    0x1043A770,
    0x1254C367,
    0x1941A469,
    0xEC,
    0xBF,
)
# In a cluster: its time, silent tracks, position, size of the one before, blocks of four kinds.
IN_CLUSTER = (0xE7, 0x5854, 0xA7, 0xAB, 0xA3, 0xA0, 0xA1, 0xAF)
KNOWN = (int.from_bytes(MAGIC, "big"), SEGMENT, CLUSTER, *OTHERS, *IN_CLUSTER)
CHUNK_BYTES = 1 << 20


def matroska_faults(path: str) -> Iterator[Fault]:
    """Yield the faults of a Matroska file in order. Other formats have none.

    The elements are followed to the end, and the checksums that they hold are compared. Behind
    elements that cannot be followed, the next cluster is looked for, as FFmpeg does.

    Args:
        path: a regular file.
    """
    with open(path, "rb") as file:
        if file.read(4) != MAGIC:
            return
        size = os.fstat(file.fileno()).st_size
        position = 0
        while position < size:
            position = yield from _walk(file, size, position)


def _walk(file: BinaryIO, size: int, position: int) -> Generator[Fault, None, int]:
    """Yield faults from a place on, and return the place where others can be followed again."""
    for identity, start, length in _elements(file, size, position):
        fault = _fault(file, size, identity, start, length)
        if fault is not None:
            yield fault
            if identity not in KNOWN:
                return fault.end
    return size


def _fault(file: BinaryIO, size: int, identity: int, start: int, length: int) -> Fault | None:
    """Return the fault of an element, or None."""
    if identity not in KNOWN:
        end = _next_cluster(file, start, size)
        return Fault(f"damaged: unknown element at byte {start}", start, end)
    if start + length > size:
        # Whole blocks of a cluster can be read.
        first = size if identity in (SEGMENT, CLUSTER) else start
        return Fault(f"cut short: the file ends within its element at byte {start}", first, size)
    # A segment is the whole file, and blocks have no checksum of their own.
    if identity in (SEGMENT, *IN_CLUSTER) or _has_own_checksum(file, start, length):
        return None
    end = start + length if identity == CLUSTER else start
    return Fault(f"damaged: wrong checksum of the element at byte {start}", start, end)


def _next_cluster(file: BinaryIO, start: int, size: int) -> int:
    """Return the first byte of the next cluster, or the end of the file."""
    return next(find_all(file, CLUSTER_BYTES, 4, start), size)


def _has_own_checksum(file: BinaryIO, start: int, length: int) -> bool:
    """Return whether an element begins with the checksum of its rest, or has no checksum."""
    file.seek(start)
    if length <= 6 or file.read(2) != CRC:
        return True
    expected = int.from_bytes(file.read(4), "little")
    return _crc(file, length - 6) == expected


def _elements(file: BinaryIO, size: int, position: int) -> Iterator[tuple[int, int, int]]:
    """Yield (identity, first byte, number of bytes) of the content of each element from a place on.

    Elements are those of the file, of its segments and of their clusters.
    The walk ends at an element of unknown length (a live recording), and at zeros behind a segment.
    """
    segment_end = size
    while position < size:
        if position >= segment_end and _is_padding(file, position):
            return
        file.seek(position)
        head = file.read(12)
        # Numbers are of variable size: the leading zero bits of the first byte tell how many bytes
        # follow.
        id_bytes = 9 - head[0].bit_length()
        length_byte = 0
        if id_bytes <= 4 and len(head) > id_bytes:
            length_byte = head[id_bytes]
        length_bytes = 9 - length_byte.bit_length()
        start = position + id_bytes + length_bytes
        identity = int.from_bytes(head[:id_bytes], "big")
        length = int.from_bytes(head[id_bytes : id_bytes + length_bytes], "big")
        length -= 1 << 7 * length_bytes
        unknown = length == (1 << 7 * length_bytes) - 1
        if unknown and identity != SEGMENT:
            return
        if length < 0:
            # These bytes are no length, or the file ends within it: report an unknown element.
            identity = 0
            length = 0
        yield identity, start, 0 if unknown else length
        if identity == SEGMENT and not unknown:
            segment_end = start + length
        # Segments and clusters are entered, other elements are skipped.
        position = start
        if identity not in (SEGMENT, CLUSTER):
            position += length


def _is_padding(file: BinaryIO, position: int) -> bool:
    """Return whether only zeros follow. Within a segment they would be lost data."""
    file.seek(position)
    while chunk := file.read(CHUNK_BYTES):
        if chunk.strip(b"\0"):
            return False
    return True


def _crc(file: BinaryIO, length: int) -> int:
    """Return the CRC-32 of the next `length` bytes."""
    crc = 0
    while length > 0:
        chunk = file.read(min(CHUNK_BYTES, length))
        crc = zlib.crc32(chunk, crc)
        length -= len(chunk)
    return crc
