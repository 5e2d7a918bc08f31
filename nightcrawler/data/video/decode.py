"""Decoding: one pass over a video, only the wanted frames converted to RGB, nothing damaged used silently.

A video is first demuxed (no decoding) to count its frames; the caller then chooses frames, and one sequential decode to
the end of the stream delivers them, or, for few frames of a long video, decoding from the keyframes before them. Frames
equal `frame.to_ndarray(format="rgb24")` of a plain full decode bit for bit unless scaling is asked for. Where the
decoder yields another number of frames than the container promises (packed B-frames), the choice is made again for the
true number.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from nightcrawler.data.video.integrity.limits import Limits, check_memory, check_size
from nightcrawler.data.video.probe import StreamInfo, probe
from nightcrawler.data.video.reader import OpenVideo, decoded_frames, scaled, to_rgb
from nightcrawler.data.video.seek import plan_runs
from nightcrawler.utils.errors import VideoError

# Frames that an undamaged file may promise and not deliver: MPEG-4 packs B-frames and leaves some out.
SLACK_FRAMES = 2
SLACK_CODECS = ("mpeg4",)


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


Choose = Callable[[int], Sequence[int]]


def decode(
    path: str | os.PathLike[str],
    choose: Choose,
    *,
    short_side: int = 0,
    limits: Limits | None = None,
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
    found = probe(path, limits)
    wanted = choose(found.num_frames)
    decoded = _read_runs(path, found, wanted, short_side, limits) or _read(
        path, wanted, short_side, limits
    )
    if decoded.num_frames == found.num_frames:
        return decoded
    check_complete(path, found, decoded.num_frames)
    return _read(path, choose(decoded.num_frames), short_side, limits)


def check_complete(path: str, found: StreamInfo, num_frames: int) -> None:
    """Refuse a video of which fewer frames came than its packets promise.

    Raises:
        VideoError: with both numbers.
    """
    slack = found.num_leading + (SLACK_FRAMES if found.codec in SLACK_CODECS else 0)
    if num_frames < found.num_frames - slack or num_frames == 0:
        cause = f"cut short: {num_frames} of {found.num_frames} frames can be decoded"
        raise VideoError(path, cause, "decode")


class _Gather:
    """The wanted frames as they come, all of one size.

    Args:
        path, short_side, limits: as of `decode`.
        num_wanted: how many will come.
    """

    def __init__(self, path: str, short_side: int, limits: Limits, num_wanted: int) -> None:
        self.path, self.short_side, self.limits, self.num_wanted = (
            path,
            short_side,
            limits,
            num_wanted,
        )
        self.size: tuple[int, int] | None = None
        self.frames = np.empty((0, 0, 0, 3), np.uint8)
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
        rgb = to_rgb(frame, self.short_side, self.reformatter)
        if not self.indices:
            self.frames = np.empty((self.num_wanted, *rgb.shape), np.uint8)
        self.frames[len(self.indices)] = rgb
        self.indices.append(number)

    def decoded(self, num_frames: int, fps: float) -> Decoded:
        """What has come, of a video of `num_frames`."""
        return Decoded(self.frames[: len(self.indices)], self.indices, num_frames, fps)


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


def _read_runs(
    path: str, found: StreamInfo, wanted: Sequence[int], short_side: int, limits: Limits
) -> Decoded | None:
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
