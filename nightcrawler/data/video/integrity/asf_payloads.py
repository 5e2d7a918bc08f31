"""Follow the pieces of frames through the packets of an ASF (WMV) file.

Layout: Advanced Systems Format Specification, revision 01.20.03, section 5.2. Each frame, a media
object, has a number that counts on, and each of its pieces says where in the frame it lies.
FFmpeg leaves out pieces that do not fit, and says nothing of the loss.
"""

from __future__ import annotations

from typing import NamedTuple

ERROR_CORRECTION_BYTES = 3
# Send time and duration.
TIMES_BYTES = 6
# Bytes of a number, by the two bits that tell its kind.
WIDTHS = (0, 1, 2, 4)
# Replicated data: number of bytes of the frame, and its time.
LEAST_REPLICATED = 8
# Pieces that hold several small frames; no known program of today writes them.
COMPRESSED = 1


class Piece(NamedTuple):
    """A piece of a frame.

    Attributes:
        stream: number of the stream.
        frame: number of the frame, modulo `256 ** width`.
        width: number of bytes of that number.
        offset: place of the piece in the frame, in bytes.
        total: number of bytes of the frame.
        length: number of bytes of the piece.
    """

    stream: int
    frame: int
    width: int
    offset: int
    total: int
    length: int


class _Cursor:
    """Read little-endian numbers.

    Raises:
        ValueError: behind the end.
    """

    def __init__(self, content: bytes, place: int) -> None:
        self.content = content
        self.place = place

    def number(self, width: int) -> int:
        end = self.place + width
        if end > len(self.content):
            raise ValueError("behind the end of the packet")
        value = int.from_bytes(self.content[self.place : end], "little")
        self.place = end
        return value

    def skip(self, count: int) -> None:
        if self.place + count > len(self.content):
            raise ValueError("behind the end of the packet")
        self.place += count


def read_pieces(packet: bytes) -> list[Piece]:
    """Return the pieces of frames in a packet. None are read from compressed payloads.

    Args:
        packet: all bytes of a packet that begins with three bytes of error correction.

    Raises:
        ValueError: if its lengths do not add up.
    """
    cursor = _Cursor(packet, ERROR_CORRECTION_BYTES)
    lengths = cursor.number(1)
    properties = cursor.number(1)
    # The length of the packet, which is that of all, and a sequence that nobody uses.
    cursor.skip(WIDTHS[lengths >> 5 & 3] + WIDTHS[lengths >> 1 & 3])
    padding = cursor.number(WIDTHS[lengths >> 3 & 3])
    cursor.skip(TIMES_BYTES)
    is_multiple = bool(lengths & 1)
    count, length_width = 1, 0
    if is_multiple:
        flags = cursor.number(1)
        count, length_width = flags & 63, WIDTHS[flags >> 6]
    end = len(packet) - padding
    pieces = []
    for _ in range(count):
        piece = _read_piece(cursor, properties, length_width, end)
        if piece is None:
            return []
        pieces.append(piece)
    if cursor.place != end:
        raise ValueError("pieces and padding do not fill the packet")
    return pieces


def _read_piece(cursor: _Cursor, properties: int, length_width: int, end: int) -> Piece | None:
    stream = cursor.number(1) & 127
    width = WIDTHS[properties >> 4 & 3]
    frame = cursor.number(width)
    offset = cursor.number(WIDTHS[properties >> 2 & 3])
    num_replicated = cursor.number(WIDTHS[properties & 3])
    if num_replicated == COMPRESSED:
        return None
    if num_replicated < LEAST_REPLICATED:
        raise ValueError("a piece without the size of its frame")
    total = cursor.number(4)
    cursor.skip(num_replicated - 4)
    length = cursor.number(length_width) if length_width else end - cursor.place
    if length < 0:
        raise ValueError("padding longer than the packet")
    cursor.skip(length)
    return Piece(stream, frame, width, offset, total, length)


class PieceFollower:
    """Tell where a frame is missing or incomplete."""

    def __init__(self) -> None:
        self._last: dict[int, Piece] = {}

    def fault(self, packet: bytes) -> str:
        """Return what is wrong at the next packet, or an empty text.

        After a fault, whatever comes next is taken as the beginning.
        """
        try:
            pieces = read_pieces(packet)
        except ValueError as error:
            self._last.clear()
            return str(error)
        fault = ""
        for piece in pieces:
            last = self._last.get(piece.stream)
            if last is not None and not _follows(last, piece):
                fault = f"frame {piece.frame} of stream {piece.stream} does not follow"
            self._last[piece.stream] = piece
        return fault


def _follows(last: Piece, piece: Piece) -> bool:
    """Return whether a piece is the next one of the frame, or the first of the next frame."""
    reached = last.offset + last.length
    if reached < last.total:
        return piece.frame == last.frame and piece.offset == reached
    is_next = not piece.width or piece.frame == (last.frame + 1) % 256**piece.width
    return is_next and piece.offset == 0
