"""Find packets that an MPEG transport stream lost on its way.

Packets of a stream are counted from 0 to 15 and again from 0 (ISO/IEC 13818-1, 2.4.3.3). FFmpeg
looks at that, too, but says nothing of a packet that is lost within the first picture.
"""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nightcrawler.data.video.integrity.gaps import MOST_FAULTS, Gaps

SYNC = 0x47
# Bytes of a packet: plain, with the time of arrival in front (M2TS), with a checksum behind.
PACKET_BYTES = (188, 192, 204)
# Place of the fixed first byte within a packet of each of these forms.
SYNC_AT = {188: 0, 192: 4, 204: 0}
# Bytes that are looked at together, and packets that must follow one another to be some.
CHUNK_BYTES = 12 << 20
FEW_PACKETS = 8
# FFmpeg looks no farther for the next packet either.
MOST_OTHER_BYTES = 1 << 16
# The table of programs, with which every recording begins.
TABLE_ID = 0


def find_gaps(path: str, stream_id: int) -> Gaps:
    """Return the gaps of a transport stream.

    Args:
        path: a transport stream.
        stream_id: number of the video's packets (PID).

    Raises:
        OSError: if the file cannot be read.
    """
    stream, is_cut = _lost_packets(path, stream_id)
    if not stream:
        return Gaps(is_cut=is_cut)
    tables, _ = _lost_packets(path, TABLE_ID)
    return Gaps(stream, tables, is_cut=is_cut)


def _lost_packets(path: str, stream_id: int) -> tuple[tuple[int, ...], bool]:
    """Return where packets of a stream are missing or wrong, and whether the last one is cut.

    The places are those of packets that come behind a gap, or are wrong themselves, rising.
    """
    counter = _Counter()
    lost: list[int] = []
    num_breaks = 0
    is_cut = False
    for chunk in _chunks(path):
        header = np.array(chunk.packets[:, :6])
        is_own = _stream_ids(header) == stream_id
        lost += counter.gaps(header[is_own], chunk.places[is_own])
        # The end of the last packet is behind the place where bytes are missing.
        is_new = not lost or lost[-1] != chunk.end
        if chunk.is_broken and (len(is_own) == 0 or is_own[-1]) and is_new:
            lost.append(chunk.end)
        is_cut = chunk.is_cut
        num_breaks += chunk.is_broken
        if num_breaks > MOST_FAULTS:
            # Each costs a search. A file of so many is damaged, whatever follows.
            break
    return tuple(sorted(lost)), is_cut


def recording_starts(path: str) -> list[int]:
    """Return the first byte of each of several recordings whose videos have other numbers (PID).

    FFmpeg takes their videos for several streams, of which one is read.

    Args:
        path: a transport stream.

    Returns:
        The starts, or an empty list where videos are sent at the same time, or there is one.

    Raises:
        OSError: if the file cannot be read.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    tables: list[int] = []
    for chunk in _chunks(path):
        numbers = _stream_ids(chunk.packets)
        tables += chunk.places[numbers == TABLE_ID].tolist()
        for number in np.unique(numbers[_begins_video(chunk.packets)]).tolist():
            first.setdefault(number, int(chunk.places[numbers == number][0]))
        for number in first:
            places = chunk.places[numbers == number]
            if len(places):
                last[number] = int(places[-1])
    order = sorted(first, key=first.__getitem__)
    starts = [0]
    for before, behind in itertools.pairwise(order):
        place = bisect.bisect_right(tables, last[before])
        if place == len(tables) or tables[place] > first[behind]:
            return []
        starts.append(tables[place])
    return starts if len(starts) > 1 else []


@dataclass(frozen=True)
class _Chunk:
    """Packets one behind the other.

    Attributes:
        packets: uint8 `[n, size]`.
        places: int64 `[n]`, their places in the file.
        end: place of the last one.
        is_broken: whether no packet follows, although the file goes on.
        is_cut: whether the file ends within the next packet.
    """

    packets: np.ndarray
    places: np.ndarray
    end: int
    is_broken: bool
    is_cut: bool


def _chunks(path: str) -> Iterator[_Chunk]:
    """Yield all packets of a file. It is read, not mapped: it may be shortened meanwhile."""
    with open(path, "rb") as file:
        num_bytes = os.fstat(file.fileno()).st_size
        position = 0
        while position < num_bytes:
            file.seek(position)
            block = np.frombuffer(file.read(CHUNK_BYTES), np.uint8)
            is_last = position + len(block) >= num_bytes
            if is_last and not block.any():
                # Padding.
                return
            first, size = _next_packets(block)
            if not size:
                yield _Chunk(
                    np.empty((0, 6), np.uint8), np.empty(0, np.int64), position, True, False
                )
                return
            if is_last:
                # The time of arrival belongs to the next packet, which the last one has not.
                block = np.append(block, np.zeros(SYNC_AT[size], np.uint8))
            chunk = _first_packets(block[first:], position + first, size, is_last)
            yield chunk
            position += first + size * len(chunk.packets)
            if is_last and not chunk.is_broken:
                return
            if chunk.is_broken:
                # The next packet may begin within the last one.
                position -= size - 1


def _first_packets(block: np.ndarray, position: int, size: int, is_last: bool) -> _Chunk:
    """Return the packets at the beginning of bytes of a file, of which these may be the last."""
    count = len(block) // size
    packets = block[: count * size].reshape(count, size)
    is_whole = packets[:, 0] == SYNC
    num_whole = count if is_whole.all() else int(np.argmin(is_whole))
    rest = block[num_whole * size :]
    goes_on = bool(rest.any())
    return _Chunk(
        packets=packets[:num_whole],
        places=position - SYNC_AT[size] + size * np.arange(num_whole),
        end=position + (num_whole - 1) * size,
        is_broken=num_whole < count and (goes_on or not is_last),
        is_cut=is_last and num_whole == count and goes_on,
    )


def _stream_ids(packets: np.ndarray) -> np.ndarray:
    """Return the number of the stream (PID) of each packet, int64 `[n]`."""
    return (packets[:, 1].astype(np.int64) & 31) * 256 + packets[:, 2]


def _begins_video(packets: np.ndarray) -> np.ndarray:
    """Return which packets begin a picture or field of a video, bool `[n]`."""
    fields = np.where(packets[:, 3] & 0x20, packets[:, 4].astype(np.int64) + 1, 0)
    # Behind the header and its fields: a start code, and the number of a kind of stream.
    place = np.minimum(4 + fields, packets.shape[1] - 4)[:, None] + np.arange(4)
    code = np.take_along_axis(packets, place, axis=1)
    is_video = (code[:, :3] == (0, 0, 1)).all(axis=1) & (code[:, 3] & 0xF0 == 0xE0)
    return is_video & (packets[:, 1] & 0x40 != 0)


def _next_packets(content: np.ndarray) -> tuple[int, int]:
    """Return the first byte of the next packets, and the size of each, 0 for none."""
    for first in np.flatnonzero(content[:MOST_OTHER_BYTES] == SYNC).tolist():
        for size in PACKET_BYTES:
            few = content[first : first + FEW_PACKETS * size : size]
            if (few == SYNC).all():
                return first, size
    return 0, 0


class _Counter:
    """Compare the counters of the packets of one stream."""

    def __init__(self) -> None:
        self._last: int | None = None
        self._may_jump = False

    def gaps(self, header: np.ndarray, places: np.ndarray) -> list[int]:
        """Return the places of packets whose number does not follow the last one.

        Args:
            header: uint8 `[n, 6]`, the first bytes of the next packets of the stream.
            places: int64 `[n]`, their places in the file.
        """
        has_payload = header[:, 3] & 0x10 != 0
        has_fields = (header[:, 3] & 0x20 != 0) & (header[:, 4] > 0)
        # The writer says that it begins to count anew.
        may_jump = has_fields & (header[:, 5] & 0x80 != 0)
        is_wrong = header[:, 1] & 0x80 != 0
        found = []
        numbers = (header[:, 3] & 15).tolist()
        for place in range(len(places)):
            self._may_jump = self._may_jump or bool(may_jump[place])
            follows = self._last is None or numbers[place] == (self._last + 1) % 16
            is_behind_gap = has_payload[place] and not (follows or self._may_jump)
            if is_wrong[place] or is_behind_gap:
                found.append(int(places[place]))
            if has_payload[place]:
                self._last = numbers[place]
                self._may_jump = False
        return found
