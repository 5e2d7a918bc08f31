"""Follow the packets of ASF (WMV) files, which are all of one size, and the frames in them.

FFmpeg looks for the next packet where one does not follow another, and says nothing of the loss.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import BinaryIO

from nightcrawler.data.video.integrity.asf_payloads import PieceFollower
from nightcrawler.data.video.integrity.gaps import MOST_FAULTS, Fault
from nightcrawler.data.video.integrity.search import find_all

HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
DATA = bytes.fromhex("3626b2758e66cf11a6d900aa0062ce6c")
# Places of the sizes of file and packets among the properties.
FILE_BYTES_AT = 40
SIZE_AT = 96
DATA_HEADER_BYTES = 50
MOST_HEADER_BYTES = 1 << 20
# Beginning of packets with two bytes for error correction, as all known programs write them.
PACKET = b"\x82\0\0"


def asf_faults(path: str) -> Iterator[Fault]:
    """Yield the places of an ASF file where no packet follows another. Other formats have none.

    Args:
        path: a regular file.
    """
    with open(path, "rb") as file:
        header = file.read(24)
        if header[:16] != HEADER:
            return
        first = int.from_bytes(header[16:24], "little")
        header += file.read(min(first, MOST_HEADER_BYTES))
        properties = header[max(header.find(PROPERTIES), 0) :]
        num_promised = int.from_bytes(properties[FILE_BYTES_AT : FILE_BYTES_AT + 8], "little")
        size = int.from_bytes(properties[SIZE_AT : SIZE_AT + 4], "little")
        num_bytes = os.fstat(file.fileno()).st_size
        if num_bytes < num_promised:
            cause = f"cut short: holds {num_bytes} of {num_promised} bytes"
            yield Fault(cause, num_bytes, num_bytes)
        file.seek(first)
        data = file.read(DATA_HEADER_BYTES)
        if data[:16] != DATA or size <= len(PACKET) or file.read(len(PACKET)) != PACKET:
            return
        end = first + int.from_bytes(data[16:24], "little")
        if end <= first or end > num_bytes:
            end = num_bytes
        yield from _faults(file, first + DATA_HEADER_BYTES, min(end, num_bytes), size)


def _faults(file: BinaryIO, start: int, end: int, size: int) -> Iterator[Fault]:
    """Yield the faults among packets of `size` bytes."""
    position = start
    num_faults = 0
    pieces = PieceFollower()
    while position + size <= end:
        file.seek(position)
        packet = file.read(size)
        is_packet = packet.startswith(PACKET)
        fault = pieces.fault(packet) if is_packet else f"no packet at byte {position}"
        if not fault:
            position += size
            continue
        num_faults += 1
        if num_faults > MOST_FAULTS:
            yield Fault(f"damaged in more than {MOST_FAULTS} places", position, end)
            return
        # The end of the last frame before it cannot be trusted, either.
        last = max(position - size, start)
        if is_packet:
            yield Fault(f"damaged: {fault} (packet at byte {position})", last, position + size)
            position += size
            continue
        following = end
        for place in find_all(file, re.compile(re.escape(PACKET)), len(PACKET), last + 1):
            if place + size >= end or _is_packet(file, place + size):
                following = min(place, end)
                break
        yield Fault(f"damaged: {fault}", last, following)
        # At the earliest behind this one: the next packet may begin within the last one.
        position = max(following, last + 1)


def _is_packet(file: BinaryIO, position: int) -> bool:
    file.seek(position)
    return file.read(len(PACKET)) == PACKET
