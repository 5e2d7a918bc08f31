"""Decode chosen frames of a video file.

The caller probes a file, chooses frames from the number of frames found, and decodes them::

    info = probe(path, limits)
    decoded = decode(path, [0, info.num_frames // 2], info)

Only the wanted frames are converted to RGB, see `data.video.convert`. A short video is decoded to
its end, which checks all of it. For few frames of a long video, decoding starts at the keyframes
before them.

Some files hold fewer frames than their packets promise (MPEG-4 with packed B-frames). `decode` then
raises `FrameCountError` with the true count, and `read_frames`, which all readers go through, asks
once more.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from nightcrawler.data.video.convert import EXACT, RgbConverter, pixel_aspect
from nightcrawler.data.video.integrity.limits import Limits, check_memory, check_size
from nightcrawler.data.video.probe import StreamInfo, probe
from nightcrawler.data.video.reader import decoded_frames, faults_as_video_errors, open_video
from nightcrawler.data.video.remote import local_video
from nightcrawler.data.video.seek import plan_runs
from nightcrawler.utils.errors import VideoError

# Frames that an undamaged file may promise and not deliver: MPEG-4 packs B-frames and leaves some
# out.
SLACK_FRAMES = 2
SLACK_CODECS = ("mpeg4",)


@dataclass(frozen=True)
class Decoded:
    """Decoded frames of a video.

    Attributes:
        frames: uint8 `[n, H, W, 3]`, upright, with square pixels.
        indices: n frame numbers, increasing.
        num_frames: number of frames in the whole video.
        fps: average frame rate in frames per second, 0 where the file does not state it.
    """

    frames: np.ndarray
    indices: list[int]
    num_frames: int
    fps: float


class FrameCountError(VideoError):
    """A decoder yields another number of frames than the packets of an undamaged file promise.

    Args:
        path: the video file.
        num_frames: the true number of frames.
    """

    def __init__(self, path: str, num_frames: int) -> None:
        super().__init__(path, f"the decoder yields {num_frames} frames, not the promised number")
        self.num_frames = num_frames

    def __reduce__(self) -> tuple[type[FrameCountError], tuple[str, int]]:  # type: ignore[override]
        """Keep path and count when the error crosses a process boundary."""
        return (FrameCountError, (self.path, self.num_frames))


class VideoReader(Protocol):
    """A way to read frames: from files, from a cache, denoised, ... Readers wrap each other."""

    def probe(self, path: str) -> StreamInfo:
        """Return the number of frames of a video, and whatever else `decode` needs."""
        ...

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Return the frames with the given numbers.

        `info` comes from `probe` of this reader.
        """
        ...


@dataclass(frozen=True)
class FileReader:
    """Read frames of video files with PyAV.

    Attributes:
        short_side: scale frames down to this short side in pixels (0 keeps their size).
        limits: largest file, picture, number of frames and memory that are accepted.
        color: conversion of colours, see `data.video.convert.FLAGS`.
        seeks: start at keyframes where that saves work. Otherwise all of a video is decoded, which
            checks it.
    """

    short_side: int = 0
    limits: Limits = field(default_factory=Limits)
    color: str = EXACT
    seeks: bool = True

    def probe(self, path: str) -> StreamInfo:
        """Read the packets of a file, see `probe`."""
        return probe(path, self.limits)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Decode frames of a file, see `decode`."""
        return decode(
            path,
            indices,
            info,
            short_side=self.short_side,
            limits=self.limits,
            color=self.color,
            seeks=self.seeks,
        )


@dataclass(frozen=True)
class MemoryReader:
    """Read a video that is in memory already, whatever its path.

    Attributes:
        video: its frames, uint8 `[H, W, 3]` each.
    """

    video: Sequence[np.ndarray]

    def probe(self, path: str) -> StreamInfo:
        """Return the number of frames."""
        return StreamInfo(len(self.video))

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Return copies of the frames with the given numbers."""
        frames = np.stack([self.video[index] for index in indices])
        return Decoded(frames, list(indices), len(self.video), 0.0)


def read_frames(
    reader: VideoReader, path: str | os.PathLike[str], choose: Callable[[int], Sequence[int]]
) -> Decoded:
    """Read frames that are chosen by the number of frames of a video.

    Args:
        reader: reads the video.
        path: a regular file, an address, or a member of an archive (see `data.video.remote`).
        choose: maps the number of frames to increasing frame numbers. It is called twice where the
            decoder yields another number of frames than the file promises: choices may draw from a
            generator, so the number of calls must depend on the file alone.

    Returns:
        The chosen frames.

    Raises:
        VideoError: if the file is missing, of an unknown format, without video, over a limit,
            damaged, or cut short.

    Example:
        >>> decoded = read_frames(FileReader(), "clip.mp4", lambda num_frames: [0, num_frames - 1])
    """
    with local_video(os.fspath(path)) as local:
        info = reader.probe(local)
        try:
            return reader.decode(local, choose(info.num_frames), info)
        except FrameCountError as error:
            info = info.with_num_frames(error.num_frames)
        return reader.decode(local, choose(info.num_frames), info)


def decode(
    path: str,
    indices: Sequence[int],
    info: StreamInfo,
    *,
    short_side: int = 0,
    limits: Limits | None = None,
    color: str = EXACT,
    seeks: bool = True,
) -> Decoded:
    """Decode the frames with the given numbers.

    Args:
        path: a regular file.
        indices: increasing frame numbers. Numbers beyond the end are left out.
        info: result of `probe` for this file.
        short_side: scale frames down to this short side while converting, in pixels (0 keeps their
            size).
        limits: largest picture and memory that are accepted.
        color: conversion of colours, see `data.video.convert.FLAGS`.
        seeks: start at keyframes where that saves work.

    Raises:
        FrameCountError: if the decoder yields another number of frames than `info.num_frames`.
        VideoError: if the file is over a limit, damaged, or cut short.
    """
    limits = limits or Limits()

    def collect(stream: VideoStream) -> _FrameCollector:
        convert = RgbConverter(short_side, color, pixel_aspect(stream))
        return _FrameCollector(path, convert, limits, len(indices))

    decoded = _decode_runs(path, info, indices, limits, collect) if seeks else None
    if decoded is None:
        decoded = _decode_all(path, info, indices, limits, collect)
    if decoded.num_frames != info.num_frames:
        check_complete(path, info, decoded.num_frames)
        raise FrameCountError(path, decoded.num_frames)
    return decoded


def check_complete(path: str, info: StreamInfo, num_frames: int) -> None:
    """Refuse a video that yields fewer frames than its packets promise.

    Args:
        path: the video file.
        info: result of `probe` for this file.
        num_frames: number of frames that were decoded.

    Raises:
        VideoError: with both numbers.
    """
    slack = info.num_leading
    if info.codec in SLACK_CODECS:
        slack += SLACK_FRAMES
    if num_frames < info.num_frames - slack or num_frames == 0:
        cause = f"cut short: {num_frames} of {info.num_frames} frames can be decoded"
        raise VideoError(path, cause, "decode")


def all_frames(
    path: str, info: StreamInfo, limits: Limits
) -> Iterator[tuple[VideoStream, VideoFrame]]:
    """Decode a file from its beginning to its end, and the files within it one after the other.

    Args:
        path: a regular file.
        info: result of `probe` for this file.
        limits: largest picture that is accepted.

    Yields:
        Each frame, and the stream that it is of.

    Raises:
        VideoError: at the first frame that is damaged.
    """
    for section, gaps in info.files():
        with open_video(path, limits, section) as (container, stream):
            for frame in decoded_frames(path, container, stream, gaps):
                yield stream, frame


class _FrameCollector:
    """Convert wanted frames and stack them.

    All frames must have one size.

    Args:
        path: the video file.
        convert: converts the frames of this video.
        limits: see `decode`.
        num_wanted: number of frames that will be kept at most.
    """

    def __init__(self, path: str, convert: RgbConverter, limits: Limits, num_wanted: int) -> None:
        self.path = path
        self.convert = convert
        self.limits = limits
        self.num_wanted = num_wanted
        self.size: tuple[int, int] | None = None
        self.frames = np.empty((0, 0, 0, 3), np.uint8)
        self.indices: list[int] = []

    def check(self, number: int, frame: VideoFrame) -> None:
        """Refuse a frame of another size than those before it, or over a limit."""
        size = (frame.width, frame.height)
        if self.size is None:
            check_size(self.path, *size, self.limits)
            check_size(self.path, *self.convert.square(frame), self.limits)
            check_memory(self.path, self.num_wanted, *self.convert.size(frame), self.limits)
            self.size = size
        elif self.size != size:
            raise VideoError(self.path, f"picture size changes at frame {number}", "decode")

    def keep(self, number: int, frame: VideoFrame) -> None:
        """Convert and store a frame."""
        rgb = self.convert(frame)
        if not self.indices:
            self.frames = np.empty((self.num_wanted, *rgb.shape), np.uint8)
        self.frames[len(self.indices)] = rgb
        self.indices.append(number)

    def decoded(self, num_frames: int, fps: float) -> Decoded:
        """Return the stored frames of a video of `num_frames` frames."""
        return Decoded(self.frames[: len(self.indices)], self.indices, num_frames, fps)


# Makes the collector of a video from its opened stream.
_Collect = Callable[[VideoStream], _FrameCollector]


def _decode_all(
    path: str, info: StreamInfo, wanted: Sequence[int], limits: Limits, collect: _Collect
) -> Decoded:
    """Decode the whole video and keep the wanted frames that exist."""
    wanted_set = set(wanted)
    collector: _FrameCollector | None = None
    count = 0
    fps = 0.0
    with faults_as_video_errors(path):
        for stream, frame in all_frames(path, info, limits):
            if collector is None:
                collector = collect(stream)
                fps = float(stream.average_rate or 0)
            collector.check(count, frame)
            if count in wanted_set:
                collector.keep(count, frame)
            count += 1
    if collector is None:
        return Decoded(np.empty((0, 0, 0, 3), np.uint8), [], 0, fps)
    return collector.decoded(count, fps)


def _decode_runs(
    path: str, info: StreamInfo, wanted: Sequence[int], limits: Limits, collect: _Collect
) -> Decoded | None:
    """Seek to keyframes and decode the wanted frames after each.

    Returns `None` where seeking does not pay, or where frames do not come at the times that `info`
    holds.
    """
    runs = plan_runs(info.starts, wanted, info.num_frames)
    if not runs:
        return None
    number_at = {time: number for number, time in enumerate(info.times)}
    with open_video(path, limits) as (container, stream):
        collector = collect(stream)
        for start, run in runs:
            container.seek(info.times[start], stream=stream, backward=True)
            frames = decoded_frames(path, container, stream)
            if not _decode_run(frames, run, number_at, collector):
                return None
        return collector.decoded(info.num_frames, info.fps)


def _decode_run(
    frames: Iterable[VideoFrame],
    run: Sequence[int],
    number_at: Mapping[int, int],
    collector: _FrameCollector,
) -> bool:
    """Collect the frames of one run.

    Args:
        frames: decoded frames from the start of the run.
        run: numbers of the wanted frames, increasing.
        number_at: frame number by presentation time.
        collector: keeps the wanted frames.

    Returns:
        False if a frame is missing, or has a time that no packet has.
    """
    awaited = iter(run)
    wanted = next(awaited)
    for frame in frames:
        collector.check(wanted, frame)
        number = None if frame.pts is None else number_at.get(frame.pts)
        if number is None or number > wanted:
            return False
        if number == wanted:
            collector.keep(wanted, frame)
            if wanted == run[-1]:
                return True
            wanted = next(awaited)
    return False
