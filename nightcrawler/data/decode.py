"""Decoding: one pass over a video, only the wanted frames converted to RGB, nothing damaged used silently.

A video is first demuxed (no decoding) to count its frames; the caller then chooses frames, and one sequential decode to
the end of the stream delivers them, or, for few frames of a long video, decoding from the keyframes before them. Frames
equal `frame.to_ndarray(format="rgb24")` of a plain full decode bit for bit unless scaling is asked for. Where the
decoder yields another number of frames than the container promises (packed B-frames), the choice is made again for the
true number.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from nightcrawler.data.container import OpenVideo, decoded_frames, scaled, to_rgb
from nightcrawler.data.keyframes import begins_afresh, plan_runs
from nightcrawler.data.limits import Limits, check_file, check_memory, check_size
from nightcrawler.data.matroska import check_matroska
from nightcrawler.utils.errors import VideoError

# Frames that the container of a sound file may promise and not deliver: MPEG-4 packs B-frames and leaves some out.
SLACK_FRAMES = 2
SLACK_CODECS = ("mpeg4",)
# Packets that a header may promise and not deliver.
SLACK_PACKETS = 2
# No encoder puts frames so far out of order: whoever is shown so long before it is decoded has a damaged time.
MOST_REORDER_SEC = 10.0


@dataclass(frozen=True)
class Decoded:
    """Wanted frames of a video.

    Attributes:
        frames: uint8 `[n, H, W, 3]`, rotated upright.
        indices: their numbers, increasing.
        num_frames: frames in the whole video.
        fps: average frame rate, 0 where the file does not say.
    """

    frames: np.ndarray
    indices: list[int]
    num_frames: int
    fps: float


@dataclass(frozen=True)
class Survey:
    """What the packets of a video tell without decoding them.

    Attributes:
        num_frames: frames in the stream.
        codec: FFmpeg's name of it.
        bits: of a colour channel.
        fps: average frame rate, 0 where the file does not say.
        times: presentation times of the frames, increasing; empty where they cannot be told apart by it.
        starts: numbers of the frames at which decoding can begin afresh.
    """

    num_frames: int
    codec: str = ""
    bits: int = 0
    fps: float = 0.0
    times: tuple[int, ...] = ()
    starts: tuple[int, ...] = ()


Choose = Callable[[int], Sequence[int]]


def decode(
    path: str | os.PathLike[str], choose: Choose, *, short_side: int = 0, limits: Limits | None = None
) -> Decoded:
    """Read the frames that `choose` wants.

    Args:
        path: a regular file.
        choose: number of frames in the video to increasing frame numbers.
        short_side: scale frames down to this short side while converting, in pixels; 0 keeps their size.
        limits: what the video may be at most.

    Raises:
        VideoError: if the file is missing, of an unknown format, without video, over a limit, damaged, or cut short.
    """
    path, limits = os.fspath(path), limits or Limits()
    found = survey(path, limits)
    wanted = choose(found.num_frames)
    decoded = _read_runs(path, found, wanted, short_side, limits) or _read(path, wanted, short_side, limits)
    if decoded.num_frames == found.num_frames:
        return decoded
    check_complete(path, found, decoded.num_frames)
    return _read(path, choose(decoded.num_frames), short_side, limits)


def check_complete(path: str, found: Survey, num_frames: int) -> None:
    """Refuse a video of which fewer frames came than its packets promise.

    Raises:
        VideoError: with both numbers.
    """
    slack = SLACK_FRAMES if found.codec in SLACK_CODECS else 0
    if num_frames < found.num_frames - slack or num_frames == 0:
        cause = f"cut short: {num_frames} of {found.num_frames} frames can be decoded"
        raise VideoError(path, cause, "decode")


def survey(path: str, limits: Limits) -> Survey:
    """Frames in the stream by its packets, without decoding them.

    Raises:
        VideoError: if the file cannot be read, is over a limit, damaged, or cut short.
    """
    check_file(path, limits)
    check_matroska(path)
    packets, num_packets, end_sec = _Packets(), 0, 0.0
    with OpenVideo(path, limits) as (container, stream):
        for packet in container.demux(stream):
            num_packets += packet.dts is not None or packet.size > 0
            if packet.pts is not None:
                end_sec = max(end_sec, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.size and (packet.is_corrupt or _is_lost_in_time(packet)):
                raise VideoError(path, f"damaged packet {packets.count}", "demux")
            if packet.size:
                packets.add(packet, stream)
            if packets.count > limits.frames:
                raise VideoError(path, f"more than {limits.frames} frames", "limits")
        promised, promised_sec = stream.frames, _seconds(stream.metadata.get("DURATION", ""))
        found = packets.survey(stream)
    if found.num_frames == 0:
        raise VideoError(path, "no frame in it", "demux")
    if num_packets < promised - SLACK_PACKETS:
        raise VideoError(path, f"cut short: holds {num_packets} of {promised} frames", "demux")
    if end_sec < 0.95 * promised_sec:
        raise VideoError(path, f"cut short: ends at {end_sec:.1f} of {promised_sec:.1f} seconds", "demux")
    return found


def _is_lost_in_time(packet: Packet) -> bool:
    """Whether a packet is to be shown long before it is decoded: an MP4 file would leave its frame out."""
    if packet.pts is None or packet.dts is None:
        return False
    return float((packet.dts - packet.pts) * packet.time_base) > MOST_REORDER_SEC


class _Packets:
    """Counts packets and notes when their frames are shown and which forget all before them."""

    def __init__(self) -> None:
        self.count = 0
        self.times: list[int] | None = []
        self.starts: set[int] = set()

    def add(self, packet: Packet, stream: VideoStream) -> None:
        """Note one packet that is not empty."""
        if packet.is_discard or packet.pts is None:
            self.times = None
        self.count += not packet.is_discard
        if self.times is None:
            return
        self.times.append(packet.pts)
        context = stream.codec_context
        if packet.is_keyframe and begins_afresh(context.name, context.extradata or b"", memoryview(packet)):
            self.starts.add(packet.pts)

    def survey(self, stream: VideoStream) -> Survey:
        """What the packets of the stream told."""
        context = stream.codec_context
        bits = max((component.bits for component in context.format.components), default=0) if context.format else 0
        about = (self.count, context.name, bits, float(stream.average_rate or 0))
        times = sorted(set(self.times or ()))
        if len(times) < self.count:
            return Survey(*about)
        starts = tuple(number for number, time in enumerate(times) if time in self.starts)
        return Survey(*about, tuple(times), starts)


def _seconds(text: str) -> float:
    """Seconds of a Matroska duration tag such as `00:00:02.400000000`, 0 where there is none."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", text)
    return float(match[1]) * 3600 + float(match[2]) * 60 + float(match[3]) if match else 0.0


class _Gather:
    """The wanted frames as they come, all of one size.

    Args:
        path, short_side, limits: as of `decode`.
        num_wanted: how many will come.
    """

    def __init__(self, path: str, short_side: int, limits: Limits, num_wanted: int) -> None:
        self.path, self.short_side, self.limits, self.num_wanted = path, short_side, limits, num_wanted
        self.size: tuple[int, int] | None = None
        self.frames: list[np.ndarray] = []
        self.indices: list[int] = []
        # One for all frames: to set up a conversion takes as long as to decode a small frame.
        self.reformatter = VideoReformatter()

    def check(self, number: int, frame: VideoFrame) -> None:
        """Refuse a frame of another size than those before it."""
        size = (frame.width, frame.height)
        if self.size is None:
            check_size(self.path, *size, self.limits)
            check_memory(self.path, self.num_wanted, *scaled(*size, self.short_side), self.limits)
            self.size = size
        elif self.size != size:
            raise VideoError(self.path, f"picture size changes at frame {number}", "decode")

    def keep(self, number: int, frame: VideoFrame) -> None:
        """Convert a frame."""
        self.frames.append(to_rgb(frame, self.short_side, self.reformatter))
        self.indices.append(number)

    def decoded(self, num_frames: int, fps: float) -> Decoded:
        """What has come, of a video of `num_frames`."""
        stacked = np.stack(self.frames) if self.frames else np.empty((0, 0, 0, 3), np.uint8)
        return Decoded(stacked, self.indices, num_frames, fps)


def _read(path: str, wanted: Sequence[int], short_side: int, limits: Limits) -> Decoded:
    """The wanted frames that exist, by decoding the whole video."""
    wanted_set, gather, found = set(wanted), _Gather(path, short_side, limits, len(wanted)), 0
    with OpenVideo(path, limits) as (container, stream):
        for frame in decoded_frames(path, container, stream):
            gather.check(found, frame)
            if found in wanted_set:
                gather.keep(found, frame)
            found += 1
        return gather.decoded(found, float(stream.average_rate or 0))


def _read_runs(path: str, found: Survey, wanted: Sequence[int], short_side: int, limits: Limits) -> Decoded | None:
    """The wanted frames by seeking to keyframes; None where that does not pay or frames are not where they belong."""
    runs = plan_runs(found.starts, wanted, found.num_frames)
    if not runs:
        return None
    numbers = {time: number for number, time in enumerate(found.times)}
    gather = _Gather(path, short_side, limits, len(wanted))
    with OpenVideo(path, limits) as (container, stream):
        for start, run in runs:
            container.seek(found.times[start], stream=stream, backward=True)
            missing = iter([*run, None])
            awaited = next(missing)
            for frame in decoded_frames(path, container, stream):
                gather.check(awaited, frame)
                if numbers.get(frame.pts, found.num_frames) > awaited:
                    return None
                if numbers[frame.pts] == awaited:
                    gather.keep(awaited, frame)
                    awaited = next(missing)
                if awaited is None:
                    break
            else:
                return None
        return gather.decoded(found.num_frames, found.fps)
