"""Parts of a stream: where decoding can begin, and where another recording begins within it.

A recording that begins between two key frames lacks what its first packets refer to. Some decoders
leave their frames out, some refuse them, and some (MPEG-4) make wrong pictures of them. None of
these packets is decoded here. Recordings that were joined byte by byte are told by their times,
which begin anew.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

# In these containers, times that step back between key frames may be those of a camera whose clock
# was set: the stream goes on. Writers of others refuse such times, so another file begins there.
CLOCKED_FORMATS = ("mpegts", "rtsp", "rtp", "sdp")
# Decoders that make pictures of what refers to frames that they never saw. MP4 files may call every
# packet a key frame, so their pictures are looked at, too.
GUESSING_DECODERS = ("mpeg4", "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "flv", "h263")


class Place(enum.Enum):
    """Place of a packet in its stream."""

    # Refers to frames that the file does not hold: not to be decoded.
    LEFT_OUT = enum.auto()
    INSIDE = enum.auto()
    # The first of another recording: decoding begins anew.
    BEGINS = enum.auto()


class PartFinder:
    """Find the parts of a stream from its packets, in the order of the file.

    Args:
        container_format: FFmpeg's name of the format, such as `mpegts`.

    Attributes:
        steps_back: True once times have stepped back. They do not tell frames apart then.
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


def part_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    """Decode all frames that can be decoded, each part as if it were a file of its own."""
    parts = PartFinder(container.format.name)
    guesses = stream.codec_context.name in GUESSING_DECODERS
    for packet in container.demux(stream):
        place = parts.place(packet)
        if place is Place.LEFT_OUT:
            continue
        if place is Place.BEGINS:
            # Frames of a part must not be made from those of another.
            yield from stream.decode(_end(stream))
            stream.codec_context.flush_buffers()
            guesses = stream.codec_context.name in GUESSING_DECODERS
        for frame in stream.decode(packet):
            guesses = guesses and not frame.key_frame
            if not guesses:
                yield frame


def _end(stream: VideoStream) -> Packet:
    """Return the empty packet after which a decoder gives the frames that it holds back."""
    packet = Packet()
    packet.stream = stream
    if stream.time_base is not None:
        packet.time_base = stream.time_base
    return packet
