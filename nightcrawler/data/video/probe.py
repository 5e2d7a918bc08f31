"""What the packets of a video tell without decoding them: how many frames, when, and whether some are missing."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from av.packet import Packet
from av.video.stream import VideoStream

from nightcrawler.data.video.integrity.limits import Limits, check_file
from nightcrawler.data.video.integrity.matroska import check_matroska
from nightcrawler.data.video.reader import OpenVideo
from nightcrawler.data.video.seek import is_random_access_point
from nightcrawler.utils.errors import VideoError

# Packets that a header may promise and not deliver.
SLACK_PACKETS = 2
# Share of the duration that a Matroska header promises which must be there.
LEAST_DURATION = 0.95
# An MP4 file may end within a frame: it lacks less than one frame's duration then.
SLACK_DURATION = 0.99


@dataclass(frozen=True)
class StreamInfo:
    """What the packets of a video tell without decoding them.

    Attributes:
        num_frames: frames in the stream.
        codec: FFmpeg's name of it.
        bits: of a colour channel.
        fps: average frame rate, 0 where the file does not say.
        times: presentation times of the frames, increasing; empty where they cannot be told apart by it.
        starts: numbers of the frames at which decoding can begin afresh.
        num_leading: frames shown before the first key frame, as where a recording was cut out of a longer one: what
            they need is not there, and a decoder may leave them out.
    """

    num_frames: int
    codec: str = ""
    bits: int = 0
    fps: float = 0.0
    times: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()
    num_leading: int = 0

    def with_num_frames(self, num_frames: int) -> StreamInfo:
        """Return the same with the number of frames that a decoder yields, where packets promise another.

        Packet times are dropped: they no longer tell which frame is which.
        """
        return replace(self, num_frames=num_frames, times=(), starts=())


def probe(path: str, limits: Limits) -> StreamInfo:
    """Read the packets of a file.

    Raises:
        VideoError: if the file cannot be read, is over a limit, damaged, or cut short.
    """
    check_file(path, limits)
    check_matroska(path)
    packets = _Packets()
    with OpenVideo(path, limits) as (container, stream):
        for packet in container.demux(stream):
            if packet.size and packet.is_corrupt:
                raise VideoError(path, f"damaged packet {packets.num_frames}", "demux")
            packets.add(packet, stream)
            if packets.num_frames > limits.frames:
                raise VideoError(path, f"more than {limits.frames} frames", "limits")
        fault = packets.fault(stream)
        if fault:
            raise VideoError(path, fault, "demux")
        return packets.probe(stream)


class _Packets:
    """Counts packets and notes when their frames are shown and which forget all before them.

    Frames that an MP4 file leaves out, as it may at its beginning and end, are counted apart.
    """

    def __init__(self) -> None:
        self.num_packets = self.num_frames = self.num_left_out = self.num_leading = 0
        self.first_key: int | None = None
        self.duration = self.end = 0
        self.times: list[int] | None = []
        self.starts: set[int] = set()

    def add(self, packet: Packet, stream: VideoStream) -> None:
        """Note one packet; empty ones (a repeated frame, the end) only count."""
        self.num_packets += packet.dts is not None or packet.size > 0
        duration = packet.duration or 0
        if packet.pts is not None:
            self.end = max(self.end, packet.pts + duration)
        if not packet.size:
            return
        self.num_left_out += packet.is_discard
        self.num_frames += not packet.is_discard
        self.duration += 0 if packet.is_discard else duration
        if packet.pts is not None and packet.is_keyframe and self.first_key is None:
            self.first_key = packet.pts
        elif packet.pts is not None and self.first_key is not None and not packet.is_discard:
            self.num_leading += packet.pts < self.first_key
        if packet.is_discard or packet.pts is None:
            self.times = None
        if self.times is None:
            return
        self.times.append(packet.pts)
        context = stream.codec_context
        if packet.is_keyframe and is_random_access_point(
            context.name, context.extradata or b"", memoryview(packet)
        ):
            self.starts.add(packet.pts)

    def fault(self, stream: VideoStream) -> str:
        """What is wrong with the packets that came, by what the header promises; empty where nothing is."""
        if self.num_frames == 0:
            return "no frame in it"
        if self.num_packets < stream.frames - SLACK_PACKETS:
            return f"cut short: holds {self.num_packets} of {stream.frames} frames"
        promised_sec, end_sec = (
            _seconds(stream.metadata.get("DURATION", "")),
            float(self.end * (stream.time_base or 0)),
        )
        if end_sec < LEAST_DURATION * promised_sec:
            return f"cut short: ends at {end_sec:.1f} of {promised_sec:.1f} seconds"
        if self.num_left_out and stream.duration:
            missing, frame = stream.duration - self.duration, self.duration / self.num_frames
            if missing > SLACK_DURATION * frame or self.duration > 2 * stream.duration:
                return "damaged: the times of frames do not add up to the duration"
        return ""

    def probe(self, stream: VideoStream) -> StreamInfo:
        """What the packets of the stream told."""
        context = stream.codec_context
        bits = (
            max((component.bits for component in context.format.components), default=0)
            if context.format
            else 0
        )
        about = (self.num_frames, context.name, bits, float(stream.average_rate or 0))
        times = sorted(set(self.times or ()))
        if len(times) < self.num_frames or self.num_leading:
            return StreamInfo(*about, num_leading=self.num_leading)
        starts = tuple(number for number, time in enumerate(times) if time in self.starts)
        return StreamInfo(*about, tuple(times), starts)


def _seconds(text: str) -> float:
    """Seconds of a Matroska duration tag such as `00:00:02.400000000`, 0 where there is none."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", text)
    return float(match[1]) * 3600 + float(match[2]) * 60 + float(match[3]) if match else 0.0
