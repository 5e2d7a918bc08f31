"""Checks of Matroska and WebM files that FFmpeg leaves out: it skips over damage to the next cluster it can find."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from nightcrawler.utils.errors import VideoError

MAGIC = b"\x1a\x45\xdf\xa3"
SEGMENT, CLUSTER, CRC = 0x18538067, 0x1F43B675, b"\xbf\x84"
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


def check_matroska(path: str) -> None:
    """Follow the elements of a file to its end and compare the checksums it holds; other files pass.

    Raises:
        VideoError: if an element is unknown, ends behind the file, or has another checksum.
    """
    with open(path, "rb") as file:
        if file.read(4) != MAGIC:
            return
        file.seek(0)
        size = os.fstat(file.fileno()).st_size
        for identity, start, length in _elements(file, size):
            if identity not in KNOWN:
                raise VideoError(path, f"damaged: unknown element at byte {start}", "demux")
            if start + length > size:
                raise VideoError(
                    path, f"cut short: the element at byte {start} ends behind the file", "demux"
                )
            file.seek(start)
            if identity not in (SEGMENT, *IN_CLUSTER) and length > 6 and file.read(2) == CRC:
                expected = int.from_bytes(file.read(4), "little")
                if _crc(file, length - 6) != expected:
                    raise VideoError(
                        path, f"damaged: wrong checksum of the element at byte {start}", "demux"
                    )


def _elements(file: BinaryIO, size: int) -> Iterator[tuple[int, int, int]]:
    """(identity, first byte of the content, bytes of it) of the elements down to those of clusters.

    Where an element does not say its length (a live recording), the walk ends.
    """
    place = 0
    while place < size:
        file.seek(place)
        head = file.read(12)
        id_bytes = 9 - head[0].bit_length()
        length_byte = head[id_bytes] if id_bytes <= 4 and len(head) > id_bytes else 0
        length_bytes = 9 - length_byte.bit_length()
        start = place + id_bytes + length_bytes
        identity = int.from_bytes(head[:id_bytes], "big")
        length = int.from_bytes(head[id_bytes : id_bytes + length_bytes], "big") - (
            1 << 7 * length_bytes
        )
        unknown = length == (1 << 7 * length_bytes) - 1
        if unknown and identity != SEGMENT:
            return
        if length < 0:  # what stands there is no length, or the file ends within it
            identity, length = 0, 0
        yield identity, start, 0 if unknown else length
        place = start if identity in (SEGMENT, CLUSTER) else start + length


def _crc(file: BinaryIO, length: int) -> int:
    crc = 0
    while length > 0:
        chunk = file.read(min(CHUNK_BYTES, length))
        crc, length = zlib.crc32(chunk, crc), length - len(chunk)
    return crc
