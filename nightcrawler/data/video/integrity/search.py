"""Search bytes in files of any size. Files are read, not mapped: one may be shortened meanwhile."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import BinaryIO

PIECE_BYTES = 4 << 20


def find_all(
    file: BinaryIO, pattern: re.Pattern[bytes], longest: int, start: int = 0
) -> Iterator[int]:
    """Yield the first byte of each match in a file.

    Args:
        file: opened for reading.
        pattern: bytes to search.
        longest: most bytes of a match.
        start: place to begin at.
    """
    position = start
    while True:
        file.seek(position)
        piece = file.read(PIECE_BYTES + longest)
        is_last = len(piece) < PIECE_BYTES + longest
        for match in pattern.finditer(piece):
            # Those that begin behind the piece are in the next one, too.
            if is_last or match.start() < PIECE_BYTES:
                yield position + match.start()
        if is_last:
            return
        position += PIECE_BYTES
