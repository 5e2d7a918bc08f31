"""Read the frames of a video one after the other, with one frame in memory."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from nightcrawler.data.video.convert import EXACT, RgbConverter, pixel_aspect
from nightcrawler.data.video.decode import check_complete
from nightcrawler.data.video.integrity.limits import Limits, check_size
from nightcrawler.data.video.parts import part_frames
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.data.video.reader import decoded_frames, open_video
from nightcrawler.utils.errors import VideoError

# Frame rate for frames without a time stamp, in videos that do not tell their rate.
ASSUMED_FPS = 25.0


@dataclass(frozen=True)
class Frame:
    """A frame of a stream.

    Attributes:
        number: frame number, from 0.
        time_sec: seconds since the first frame, never decreasing.
        rgb: uint8 `[H, W, 3]`, upright.
    """

    number: int
    time_sec: float
    rgb: np.ndarray


def video_frames(
    path: str,
    info: StreamInfo,
    short_side: int = 0,
    limits: Limits | None = None,
    color: str = EXACT,
) -> Iterator[Frame]:
    """Yield all frames of a file, equal to those of `data.video.decode.decode`.

    Args:
        path: video file.
        info: stream information from `probe`.
        short_side: scale frames down to this short side in pixels, 0 keeps their size.
        limits: largest size and memory of a video.
        color: conversion of colours, see `data.video.convert.FLAGS`.

    Raises:
        VideoError: at the first damage, or at the end if frames are missing. Frames before it were
            sound.
    """
    limits = limits or Limits()
    count = 0
    with open_video(path, limits) as (container, stream):
        convert = RgbConverter(short_side, color, pixel_aspect(stream))
        decoded = decoded_frames(path, container, stream)
        for frame in _converted(path, decoded, stream, convert, limits):
            yield frame
            count += 1
    check_complete(path, info, count)


def live_frames(
    source: str, short_side: int = 0, limits: Limits | None = None, color: str = EXACT
) -> Iterator[Frame]:
    """Yield frames of a live source until it ends, without damaged ones.

    Args:
        source: address or device, see `data.video.reader.is_live`.
        short_side: scale frames down to this short side in pixels, 0 keeps their size.
        limits: largest size and memory of a video.
        color: conversion of colours, see `data.video.convert.FLAGS`.

    Raises:
        VideoError: if the source does not exist, or is lost.
    """
    limits = limits or Limits()
    with open_video(source, limits) as (container, stream):
        convert = RgbConverter(short_side, color, pixel_aspect(stream))
        yield from _converted(source, _sound_frames(container, stream), stream, convert, limits)


def _sound_frames(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    # A camera drops packets now and then: the damaged frames after it are no reason to stop.
    return (frame for frame in part_frames(container, stream) if not frame.is_corrupt)


def _converted(
    path: str,
    frames: Iterable[VideoFrame],
    stream: VideoStream,
    convert: RgbConverter,
    limits: Limits,
) -> Iterator[Frame]:
    """Convert decoded frames to RGB and to times that never decrease."""
    fps = float(stream.average_rate or ASSUMED_FPS)
    size: tuple[int, int] | None = None
    first_sec: float | None = None
    now_sec = 0.0
    for number, frame in enumerate(frames):
        if size is None:
            size = (frame.width, frame.height)
            check_size(path, *size, limits)
            check_size(path, *convert.square(frame), limits)
        elif size != (frame.width, frame.height):
            raise VideoError(path, f"picture size changes at frame {number}", "decode")
        stamp_sec = frame.time
        if stamp_sec is None:
            stamp_sec = number / fps
        if first_sec is None:
            first_sec = stamp_sec
        # Time stamps of damaged or spliced files jump back. Windows need an order.
        now_sec = max(stamp_sec - first_sec, now_sec)
        yield Frame(number, now_sec, convert(frame))


def paced(frames: Iterable[Frame], speed: float = 1.0) -> Iterator[Frame]:
    """Yield frames no earlier than a camera that starts now would give them.

    Args:
        frames: frames in order of time.
        speed: multiple of real time.
    """
    start = time.monotonic()
    for frame in frames:
        time.sleep(max(start + frame.time_sec / speed - time.monotonic(), 0.0))
        yield frame
