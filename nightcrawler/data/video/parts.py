"""Parts of a stream: where decoding can begin, and where another recording begins within it.

A recording that begins between two key frames lacks what its first packets refer to. Some decoders
leave their frames out, some refuse them, and some (MPEG-4) make wrong pictures of them. None of
these packets is decoded here. Recordings that were joined byte by byte are told by their times,
which begin anew.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from nightcrawler.data.video.integrity.gaps import NO_GAPS, Gaps, between
from nightcrawler.data.video.integrity.zeros import holds_lost_bytes

# In these containers, times that step back between key frames may be those of a camera whose clock
# was set: the stream goes on. Writers of others refuse such times, so another file begins there.
CLOCKED_FORMATS = ("mpegts", "rtsp", "rtp", "sdp")
# Decoders that make pictures of what refers to frames that they never saw. MP4 files may call every
# packet a key frame, so their pictures are looked at, too.
GUESSING_DECODERS = ("mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "flv", "h263")
# Time between two packets, in frames, up to which no frame is missing between them.
MOST_PAUSE_FRAMES = 1.5
# FFmpeg marks the packet before the one at a gap, or the one before that.
FLAG_DELAY = 2


class Place(enum.Enum):
    """Place of a packet in its stream."""

    # Refers to frames that the file does not hold, or is cut itself: not to be decoded.
    LEFT_OUT = enum.auto()
    INSIDE = enum.auto()
    # The first of another recording: decoding begins anew.
    BEGINS = enum.auto()


class PartFinder:
    """Find the parts of a stream from its packets, in the order of the file.

    Args:
        container_format: FFmpeg's name of the format, such as `mpegts`.

    Attributes:
        steps_back: whether times have stepped back. They do not tell frames apart then.
    """

    def __init__(self, container_format: str) -> None:
        self.steps_back = False
        self._may_set_clock = container_format in CLOCKED_FORMATS
        self._is_decodable = False
        self._latest: int | None = None
        self._key: int | None = None
        self._latest_before_key: int | None = None

    def place(self, packet: Packet) -> Place:
        """Return the place of the next packet. Empty packets are inside."""
        if not packet.size:
            return Place.INSIDE
        time = packet.pts
        begins = False
        if time is not None and self._goes_back(time, packet.is_keyframe):
            self.steps_back = True
            self._latest = None
            self._key = None
            self._latest_before_key = None
            if packet.is_keyframe:
                begins = self._is_decodable
            elif not self._may_set_clock:
                self._is_decodable = False
        if packet.is_keyframe:
            self._is_decodable = True
        self._note(time, packet.is_keyframe)
        if not self._is_decodable:
            return Place.LEFT_OUT
        return Place.BEGINS if begins else Place.INSIDE

    def _goes_back(self, time: int, is_keyframe: bool) -> bool:
        """Return whether a time cannot follow those before it in one recording."""
        if is_keyframe:
            # All frames that are decoded before a key frame are shown before it.
            return self._latest is not None and time < self._latest
        if self._key is None or self._latest_before_key is None:
            return False
        # Frames may be shown before their key frame, but not before those of the group before.
        return time < self._key and time <= self._latest_before_key

    def _note(self, time: int | None, is_keyframe: bool) -> None:
        if time is None:
            return
        if is_keyframe:
            self._latest_before_key = self._latest
            self._key = time
        if self._latest is None or time > self._latest:
            self._latest = time


@dataclass(frozen=True)
class PlacedPacket:
    """A packet and its place.

    Attributes:
        packet: the packet.
        place: its place.
        steps_back: whether times have stepped back up to here.
        is_marked: whether FFmpeg takes it for damaged.
        has_gap: whether bytes are missing in it, or packets of a transport stream behind it.
    """

    packet: Packet
    place: Place
    steps_back: bool = False
    is_marked: bool = False
    has_gap: bool = False

    @property
    def is_damaged(self) -> bool:
        """True where bytes of the packet, or behind it, are missing or wrong."""
        return self.is_marked or self.has_gap


def placed_packets(
    container: InputContainer, stream: VideoStream, gaps: Gaps = NO_GAPS
) -> Iterator[PlacedPacket]:
    """Yield the packets of a stream with their places.

    A packet is damaged where FFmpeg says so, where a transport stream has a gap in it or behind it,
    or where it holds zeros in place of lost bytes. A gap before a key frame is none where somebody
    joined two recordings: times begin anew there, or they go on without a pause, and the table of
    programs has a gap, too.

    Args:
        container: an opened file or live source.
        stream: its video stream.
        gaps: those of a transport stream, and bytes of a file that are damaged.
    """
    parts = PartFinder(container.format.name)
    codec = stream.codec_context.codec.canonical_name
    held: deque[PlacedPacket] = deque()
    start = 0
    for packet in container.demux(stream):
        place = parts.place(packet)
        end = packet.pos if packet.size else None
        inside = between(gaps.stream, start, end)
        has_tables = bool(between(gaps.tables, start, end))
        start = start if end is None else end
        is_joint = False
        has_gap = end is not None and gaps.is_damaged(end)
        if packet.size:
            has_gap = has_gap or holds_lost_bytes(codec, bytes(packet))
        if held and inside == (end,):
            is_joint = _joins(held[-1].packet, packet, place, has_tables)
        if is_joint:
            held = deque(replace(placed, is_marked=False) for placed in held)
        elif held and inside:
            held[-1] = replace(held[-1], has_gap=True)
        is_marked = packet.size > 0 and packet.is_corrupt
        held.append(PlacedPacket(packet, place, parts.steps_back, is_marked, has_gap))
        if len(held) > FLAG_DELAY:
            yield held.popleft()
    last = max((place for place, placed in enumerate(held) if placed.packet.size), default=-1)
    for number, placed in enumerate(held):
        if gaps.is_cut and number == last:
            placed = replace(placed, place=Place.LEFT_OUT)
        yield placed


def _joins(before: Packet, packet: Packet, place: Place, has_tables: bool) -> bool:
    """Return whether a packet behind a gap is the first of another recording."""
    if not packet.is_keyframe or place is Place.BEGINS:
        return packet.is_keyframe
    if not has_tables or before.dts is None or packet.dts is None or not before.duration:
        return False
    return 0 < packet.dts - before.dts <= MOST_PAUSE_FRAMES * before.duration


class PartDecoder:
    """Decode packets, each part of a stream as if it were a file of its own.

    Args:
        stream: the video stream.
    """

    def __init__(self, stream: VideoStream) -> None:
        self._stream = stream
        self._guesses = self._may_guess = stream.codec_context.name in GUESSING_DECODERS

    def decode(self, placed: PlacedPacket) -> Iterator[VideoFrame]:
        """Yield the frames that are complete with the next packet.

        Raises:
            FFmpegError: if the packet is damaged.
        """
        packet = placed.packet
        if placed.place is Place.LEFT_OUT:
            return
        if placed.place is Place.BEGINS:
            # Frames of a part must not be made from those of another.
            yield from self.finish()
        if packet.size and packet.is_corrupt and not placed.is_marked:
            packet = _without_flags(packet)
        yield from self._known(packet)

    def finish(self) -> Iterator[VideoFrame]:
        """Yield the frames that the decoder holds back, and forget all that it has seen."""
        yield from self._known(_end(self._stream))
        self.forget()

    def forget(self) -> None:
        """Forget all that the decoder has seen. The next packet must be a key frame."""
        self._stream.codec_context.flush_buffers()
        self._guesses = self._may_guess

    def _known(self, packet: Packet) -> Iterator[VideoFrame]:
        for frame in self._stream.decode(packet):
            self._guesses = self._guesses and not frame.key_frame
            if not self._guesses:
                yield frame


def part_frames(
    container: InputContainer, stream: VideoStream, gaps: Gaps = NO_GAPS
) -> Iterator[VideoFrame]:
    """Decode all frames that can be decoded, in the order of the file.

    Args:
        container: an opened file or live source.
        stream: its video stream.
        gaps: those of a transport stream.

    Raises:
        FFmpegError: at the first packet that is damaged.
    """
    decoder = PartDecoder(stream)
    for placed in placed_packets(container, stream, gaps):
        yield from decoder.decode(placed)


def _without_flags(packet: Packet) -> Packet:
    """Return a copy of a packet that FFmpeg takes for damaged, as packets before a joint are."""
    copy = Packet(bytes(packet))
    copy.pts = packet.pts
    copy.dts = packet.dts
    copy.duration = packet.duration
    copy.time_base = packet.time_base
    copy.stream = packet.stream
    return copy


def _end(stream: VideoStream) -> Packet:
    """Return the empty packet after which a decoder gives the frames that it holds back."""
    packet = Packet()
    packet.stream = stream
    if stream.time_base is not None:
        packet.time_base = stream.time_base
    return packet
