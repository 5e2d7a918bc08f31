"""Frames of a video one after the other, never more than one of them held."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from nightcrawler.data.video.decode import check_complete
from nightcrawler.data.video.integrity.limits import Limits, check_size
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.data.video.reader import decoded_frames, open_video, to_rgb
from nightcrawler.utils.errors import VideoError

# Of frames whose time is not told, where the source does not say its rate either.
ASSUMED_FPS = 25.0


@dataclass(frozen=True)
class Frame:
    """A frame.

    Attributes:
        number: from 0.
        time_sec: since the first frame, not decreasing.
        rgb: uint8 `[H, W, 3]`, upright.
    """

    number: int
    time_sec: float
    rgb: np.ndarray


def video_frames(
    path: str, found: StreamInfo, short_side: int = 0, limits: Limits | None = None
) -> Iterator[Frame]:
    """All frames of a file, equal to those that `data.decode.decode` gives.

    Args:
        path: the file.
        found: what `probe` says of it.
        short_side: as of `decode`.
        limits: what the video may be at most.

    Raises:
        VideoError: at the first damage, or at the end if frames are lacking; what came before was sound.
    """
    limits, count = limits or Limits(), 0
    with open_video(path, limits) as (container, stream):
        for frame in _converted(
            path, decoded_frames(path, container, stream), stream, short_side, limits
        ):
            yield frame
            count += 1
    check_complete(path, found, count)


def live_frames(source: str, short_side: int = 0, limits: Limits | None = None) -> Iterator[Frame]:
    """Frames of a live source (see `data.names.is_live`) until it ends; damaged ones are passed over.

    Raises:
        VideoError: if it is not there, or is lost.
    """
    limits = limits or Limits()
    with open_video(source, limits) as (container, stream):
        yield from _converted(source, _sound_frames(container, stream), stream, short_side, limits)


def _sound_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    return (frame for frame in container.decode(stream) if not frame.is_corrupt)


def _converted(
    path: str, frames: Iterable[VideoFrame], stream: VideoStream, short_side: int, limits: Limits
) -> Iterator[Frame]:
    reformatter, fps = VideoReformatter(), float(stream.average_rate or ASSUMED_FPS)
    size, first_sec, now_sec = None, None, 0.0
    for number, frame in enumerate(frames):
        if size is None:
            size = (frame.width, frame.height)
            check_size(path, *size, limits)
        elif size != (frame.width, frame.height):
            raise VideoError(path, f"picture size changes at frame {number}", "decode")
        told_sec = number / fps if frame.time is None else frame.time
        first_sec = told_sec if first_sec is None else first_sec
        now_sec = max(told_sec - first_sec, now_sec)
        yield Frame(number, now_sec, to_rgb(frame, short_side, reformatter))


def paced(frames: Iterable[Frame], speed: float = 1.0) -> Iterator[Frame]:
    """Frames no sooner than they would come from a camera that started now (`speed` times as fast)."""
    start = time.monotonic()
    for frame in frames:
        time.sleep(max(start + frame.time_sec / speed - time.monotonic(), 0.0))
        yield frame
