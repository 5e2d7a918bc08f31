"""Poses of the people in a dark video: lit, looked at in parts, and followed to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from av.video.frame import VideoFrame

from nightcrawler.data.fingerprint import hash_ends
from nightcrawler.data.lowlight.enhance.build import Enhance
from nightcrawler.data.video.convert import RgbConverter, pixel_aspect
from nightcrawler.data.video.decode import check_complete
from nightcrawler.data.video.integrity.limits import Limits, check_size
from nightcrawler.data.video.probe import StreamInfo, probe
from nightcrawler.data.video.reader import decoded_frames, open_video
from nightcrawler.pose.estimators.base import UNRELATED, PoseEstimator
from nightcrawler.pose.files import Pose
from nightcrawler.pose.layouts import get_layout
from nightcrawler.pose.people import follow_people
from nightcrawler.utils.errors import UserError, VideoError

# Frame rate of videos that do not tell theirs.
ASSUMED_FPS = 25.0
# Estimators look at some 256 pixels of a person: larger pictures only cost time and memory.
MOST_SIDE_PX = 720
# Frames that are in memory at a time.
PART_SEC = 10.0
PART_BYTES = 256 << 20
# Share of frames with a person times its confidence, above which the whole picture shows enough.
ENOUGH = 0.75
# Crops in which a small person is looked for: rows and columns, and their share of the picture.
CROPS = 3
CROP_HEIGHT = 0.6
CROP_WIDTH = 0.5
# Frames of a part that each crop is tried on, and crops that are then looked at in full.
TRIED_FRAMES = 8
BEST_CROPS = 2


@dataclass(frozen=True)
class ExtractionOptions:
    """How a video is looked at.

    Attributes:
        max_fps: Most frames per second that are looked at.
        max_people: Most people that are kept.
        search_crops: Look for a small person in crops where the whole picture shows too little.
        limits: Largest video that is read.
    """

    max_fps: float = 15.0
    max_people: int = 2
    search_crops: bool = True
    limits: Limits = field(default_factory=Limits)


def extract_pose(
    path: str,
    estimator: PoseEstimator,
    enhance: Enhance,
    options: ExtractionOptions,
    goes_on: Callable[[], None] = lambda: None,
) -> Pose:
    """Find the people of a video.

    Args:
        path: The video.
        estimator: Finds joints in frames.
        enhance: Lights uint8 frames `[T, H, W, 3]`, part by part.
        options: How it is looked at.
        goes_on: Called whenever a step of the work is done.

    Returns:
        The pose in space `picture`, without a source.

    Raises:
        VideoError: If the video cannot be read to its end.

    Example:
        >>> estimator = build_estimator("mediapipe", EstimatorOptions())  # doctest: +SKIP
        >>> light = build_enhancement("auto_gamma", params)  # doctest: +SKIP
        >>> extract_pose("night.mp4", estimator, light, ExtractionOptions())  # doctest: +SKIP
    """
    info = probe(path, options.limits)
    fps = info.fps or ASSUMED_FPS
    step = max(round(fps / options.max_fps), 1)
    video = _Video(path, info, step, options.limits)
    estimator.reset()
    found = []
    for frames in video.parts(fps / step, goes_on):
        found.append(_look(estimator, enhance(frames), fps / step, options, goes_on))
    points = _join(found)
    points[..., :2] *= video.scale
    return Pose(
        points=follow_people(points, fps / step, options.max_people),
        fps=fps / step,
        layout=estimator.layout,
        width=video.width,
        height=video.height,
        fingerprint=hash_ends(Path(path)),
    )


class _Video:
    """Every n-th frame of a video in parts, and the size of its upright picture.

    Args:
        path: The file.
        info: Result of `probe`.
        step: n.
        limits: Largest video that is read.
    """

    def __init__(self, path: str, info: StreamInfo, step: int, limits: Limits) -> None:
        self.path = path
        self.info = info
        self.step = step
        self.limits = limits
        # Of the picture, and from frames to it: known after the first frame.
        self.width = 0
        self.height = 0
        self.scale = 1.0

    def parts(self, fps: float, goes_on: Callable[[], None]) -> Iterator[np.ndarray]:
        """Yield frames uint8 `[T, H, W, 3]` of at most `PART_SEC` and `PART_BYTES`."""
        part: list[np.ndarray] = []
        for frame in self._frames():
            part.append(frame)
            goes_on()
            if len(part) >= PART_SEC * fps or len(part) * frame.nbytes >= PART_BYTES:
                yield np.stack(part)
                part = []
        if part:
            yield np.stack(part)

    def _frames(self) -> Iterator[np.ndarray]:
        limits = self.limits
        count = 0
        with open_video(self.path, limits) as (container, stream):
            convert = RgbConverter(MOST_SIDE_PX, aspect=pixel_aspect(stream))
            size = None
            for frame in decoded_frames(self.path, container, stream):
                if size is None:
                    size = (frame.width, frame.height)
                    check_size(self.path, *size, limits)
                    check_size(self.path, *convert.square(frame), limits)
                elif size != (frame.width, frame.height):
                    cause = f"picture size changes at frame {count}"
                    raise VideoError(self.path, cause, "decode")
                if count % self.step == 0:
                    rgb = convert(frame)
                    self._measure(frame, rgb, convert)
                    yield rgb
                count += 1
        check_complete(self.path, self.info, count)

    def _measure(self, frame: VideoFrame, rgb: np.ndarray, convert: RgbConverter) -> None:
        """Note the size of the picture, before it was scaled down and after it was turned."""
        width, height = convert.square(frame)
        if (rgb.shape[1] > rgb.shape[0]) != (width > height):
            width, height = height, width
        self.width = width
        self.height = height
        self.scale = height / rgb.shape[0]


def _look(
    estimator: PoseEstimator,
    frames: np.ndarray,
    fps: float,
    options: ExtractionOptions,
    goes_on: Callable[[], None],
) -> np.ndarray:
    """Return joints `[P, T, V, 3]` of lit frames, from the whole picture or from a crop."""
    best = _estimate(estimator, frames, fps)
    goes_on()
    if not options.search_crops or evidence(best) >= ENOUGH:
        return best
    for top, left in _promising_crops(estimator, frames, evidence(best), goes_on):
        height, width = _crop_size(frames)
        estimator.reset()
        crop = frames[:, top : top + height, left : left + width]
        points = _estimate(estimator, crop, fps)
        goes_on()
        if evidence(points) > evidence(best):
            best = points + np.array([left, top, 0], np.float32)
    estimator.reset()
    return best


def _estimate(estimator: PoseEstimator, frames: np.ndarray, fps: float) -> np.ndarray:
    """Run an estimator, perhaps one of the user's own, and check its answer."""
    points = np.asarray(estimator.estimate(frames, fps), np.float32)
    expected = (len(frames), get_layout(estimator.layout).num_joints, 3)
    if points.ndim != 4 or points.shape[1:] != expected:
        raise UserError(
            f"{estimator.source} gives points of shape {list(points.shape)}, "
            f"expected [P, {', '.join(map(str, expected))}]"
        )
    return points


def _promising_crops(
    estimator: PoseEstimator, frames: np.ndarray, least: float, goes_on: Callable[[], None]
) -> list[tuple[int, int]]:
    """Return top and left of the crops whose single frames show more than the whole picture."""
    height, width = _crop_size(frames)
    tried = np.unique(np.linspace(0, len(frames) - 1, TRIED_FRAMES).astype(int))
    shown = []
    for top in np.linspace(0, frames.shape[1] - height, CROPS).astype(int).tolist():
        for left in np.linspace(0, frames.shape[2] - width, CROPS).astype(int).tolist():
            crop = frames[tried, top : top + height, left : left + width]
            shown.append((evidence(_estimate(estimator, crop, UNRELATED)), top, left))
            goes_on()
    shown.sort(key=lambda crop: -crop[0])
    return [(top, left) for share, top, left in shown[:BEST_CROPS] if share > 0]


def _crop_size(frames: np.ndarray) -> tuple[int, int]:
    height, width = frames.shape[1:3]
    return max(round(CROP_HEIGHT * height), 1), max(round(CROP_WIDTH * width), 1)


def evidence(points: np.ndarray) -> float:
    """Return the share of frames with a person times its mean confidence.

    Args:
        points: `[P, T, V, 3]`, NaN where nobody was seen. Of several people, the surest counts.
    """
    if points.size == 0:
        return 0.0
    return float(np.nan_to_num(points[..., 2]).mean(axis=2).max(axis=0).mean())


def _join(parts: list[np.ndarray]) -> np.ndarray:
    """Join parts `[P, T, V, 3]` in time, with as many people as in the fullest."""
    num_people = max(len(part) for part in parts)
    padded = []
    for part in parts:
        missing = ((0, num_people - len(part)), (0, 0), (0, 0), (0, 0))
        padded.append(np.pad(part, missing, constant_values=np.nan))
    return np.concatenate(padded, axis=1)
