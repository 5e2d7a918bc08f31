"""Small videos of a clip for the page: as recorded and enhanced, its start or the whole."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.data.video.salvage import Damage
from nightcrawler.data.video.stream import (
    ASSUMED_FPS,
    Frame,
    readable_video_frames,
    video_frames,
)
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils.clip_worker import report_alive

# Length of the first previews, rate and short side of all: enough to see, and quick to load.
PREVIEW_SEC = 12.0
PREVIEW_FPS = 12.5
SLOWEST_FPS = Fraction(1, 1001)
PREVIEW_SIDE_PX = 360
# Frames that are enhanced together, as many as the first preview has: some enhancements use
# statistics of a whole clip.
CHUNK_FRAMES = int(PREVIEW_SEC * PREVIEW_FPS)
BEFORE = "before.mp4"
AFTER = "after.mp4"
WHOLE_BEFORE = "whole_before.mp4"
WHOLE_AFTER = "whole_after.mp4"

Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PreviewSource:
    """A clip of which previews are made.

    Attributes:
        path: the clip.
        info: stream information from `probe`, or `probe_damaged`.
        is_damaged: read all sound parts, in place of a fault at the first damage.
        limits: limits of the clip.
        color: conversion of colours, see `data.video.convert.FLAGS`.
    """

    path: str
    info: StreamInfo
    is_damaged: bool
    limits: Limits
    color: str

    def frames(self) -> Iterator[Frame]:
        """Yield the frames of the clip, scaled down.

        Raises:
            VideoError: if the clip is damaged, unless that was expected.
        """
        if not self.is_damaged:
            return video_frames(self.path, self.info, PREVIEW_SIDE_PX, self.limits, self.color)
        return readable_video_frames(
            self.path, self.info, Damage(), PREVIEW_SIDE_PX, self.limits, self.color
        )


def write_previews(
    source: PreviewSource, folder: Path, enhance: Change, whole_sec: float = 0.0
) -> dict[str, Any]:
    """Write two small videos of a clip: as recorded, and enhanced.

    Their time is the clip's, so that a time of the one can be looked up in the other.

    Args:
        source: the clip.
        folder: folder of `before.mp4` and `after.mp4`, or of the two of the whole clip.
        enhance: enhancement of frames uint8 `[T, H, W, 3]`.
        whole_sec: length of previews of the whole clip, 0 for those of its start.

    Returns:
        `size` in pixels, `preview_sec`, and `brightness`: mean levels (0 to 255) of both.

    Raises:
        VideoError: if the clip cannot be read.
    """
    clip_fps = source.info.fps or ASSUMED_FPS
    # Every `step`-th frame, so that previews keep the speed of the clip.
    step = max(round(clip_fps / PREVIEW_FPS), 1)
    fps = max(Fraction(clip_fps / step).limit_denominator(1001), SLOWEST_FPS)
    # A time-lapse may take longer than a preview from one frame to the next.
    num_frames = max(round((whole_sec or PREVIEW_SEC) * fps), 1)

    def pictures() -> Iterator[np.ndarray]:
        """Read the clip."""
        return itertools.islice(paced(source.frames(), float(fps), 1 / clip_fps), num_frames)

    if whole_sec:
        # Read twice, with few frames in memory.
        reads: list[Iterable[np.ndarray]] = [pictures(), pictures()]
        names = (WHOLE_BEFORE, WHOLE_AFTER)
    else:
        start = list(pictures())
        reads = [start, start]
        names = (BEFORE, AFTER)
    brightness = []
    for name, change, shown in zip(names, (None, enhance), reads, strict=True):
        meter = Meter(in_chunks(shown, change))
        write_video(folder / name, meter, fps)
        brightness.append(round(meter.total / meter.num_frames, 1))
    return {
        "size": meter.size,
        "preview_sec": meter.num_frames / float(fps),
        "brightness": brightness,
    }


def paced(frames: Iterable[Frame], fps: float, frame_sec: float) -> Iterator[np.ndarray]:
    """Yield the picture of each moment `k / fps`: the last frame that has begun by then.

    Args:
        frames: frames of a clip with their times.
        fps: pictures per second.
        frame_sec: usual time from one frame to the next, which the last frame lasts.

    Yields:
        uint8 `[H, W, 3]` with even sides.
    """
    count = 0
    last = None
    end_sec = 0.0
    # Half a frame of tolerance, as times and moments are rounded.
    slack = frame_sec / 2
    for frame in frames:
        while last is not None and count / fps < frame.time_sec - slack:
            yield last
            count += 1
        last = even_sided(frame.rgb)
        end_sec = frame.time_sec + frame_sec
    while last is not None and count / fps < end_sec - slack:
        yield last
        count += 1


def in_chunks(pictures: Iterable[np.ndarray], change: Change | None) -> Iterator[np.ndarray]:
    """Yield pictures, changed in chunks of `CHUNK_FRAMES`, and tell the worker's owner of each."""
    pictures = iter(pictures)
    while chunk := list(itertools.islice(pictures, CHUNK_FRAMES)):
        yield from chunk if change is None else change(np.stack(chunk))
        report_alive()


class Meter:
    """Pictures on their way into a video, and their number, size and brightness.

    Args:
        pictures: uint8 `[H, W, 3]` each.

    Attributes:
        num_frames: pictures so far.
        size: width and height in pixels.
        total: sum of their mean levels, 0 to 255.
    """

    def __init__(self, pictures: Iterable[np.ndarray]) -> None:
        self._pictures = pictures
        self.num_frames = 0
        self.size = [0, 0]
        self.total = 0.0

    def __iter__(self) -> Iterator[np.ndarray]:
        for picture in self._pictures:
            self.num_frames += 1
            self.size = [picture.shape[1], picture.shape[0]]
            self.total += float(picture.mean())
            yield picture


def even_sided(rgb: np.ndarray) -> np.ndarray:
    """Return a picture uint8 `[H, W, 3]` without an odd last row or column, as H.264 requires.

    A single row or column is doubled.
    """
    padding = [(0, int(side == 1)) for side in rgb.shape[:2]]
    padded = np.pad(rgb, (*padding, (0, 0)), "edge")
    height, width = padded.shape[:2]
    return padded[: height // 2 * 2, : width // 2 * 2]
