"""Poses of the people in a dark video: lit, looked at in parts, and followed to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nightcrawler.data.fingerprint import hash_ends
from nightcrawler.data.lowlight.enhance.build import Enhance
from nightcrawler.data.video.decode import FileReader, read_frames
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import StreamInfo, probe
from nightcrawler.data.video.stream import ASSUMED_FPS, video_frames
from nightcrawler.pose.crops import CROP_SHARE, crop_corners
from nightcrawler.pose.estimators.base import UNRELATED, PoseEstimator
from nightcrawler.pose.files import Pose
from nightcrawler.pose.layouts import get_layout
from nightcrawler.pose.people import follow_people
from nightcrawler.utils.errors import UserError

# Estimators look at some 256 pixels of a person: larger pictures only cost time and memory.
MOST_SIDE_PX = 720
# Frames that are in memory at a time.
PART_SEC = 10.0
PART_BYTES = 128 << 20
# Share of frames with a person times its confidence, above which the whole picture shows enough.
ENOUGH = 0.75
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
    estimator.reset()
    found: list[np.ndarray] = []
    for frames in _parts(path, info, step, options.limits, goes_on):
        if not found:
            height, width = _picture_size(path, frames, options.limits)
            scale = height / frames.shape[1]
        found.append(_look(estimator, enhance(frames), fps / step, options, goes_on))
    points = _join(found)
    points[..., :2] *= scale
    return Pose(
        points=follow_people(points, fps / step, options.max_people),
        fps=fps / step,
        layout=estimator.layout,
        width=width,
        height=height,
        fingerprint=hash_ends(Path(path)),
    )


def _parts(
    path: str, info: StreamInfo, step: int, limits: Limits, goes_on: Callable[[], None]
) -> Iterator[np.ndarray]:
    """Yield every n-th frame of a video, uint8 `[T, H, W, 3]`, in parts that fit in memory."""
    most = PART_SEC * (info.fps or ASSUMED_FPS) / step
    part: list[np.ndarray] = []
    for frame in video_frames(path, info, MOST_SIDE_PX, limits):
        if frame.number % step:
            continue
        part.append(frame.rgb)
        goes_on()
        if len(part) >= most or len(part) * frame.rgb.nbytes >= PART_BYTES:
            yield np.stack(part)
            part = []
    if part:
        yield np.stack(part)


def _picture_size(path: str, frames: np.ndarray, limits: Limits) -> tuple[int, int]:
    """Return height and width before scaling, for which only a large video is read again."""
    size = frames.shape[1:3]
    # Frames of another short side were not scaled.
    if min(size) == MOST_SIDE_PX:
        size = read_frames(FileReader(limits=limits), path, lambda _: [0]).frames.shape[1:3]
    return size[0], size[1]


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
    for top, left in _promising_crops(estimator, frames, goes_on):
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
    estimator: PoseEstimator, frames: np.ndarray, goes_on: Callable[[], None]
) -> list[tuple[int, int]]:
    """Return top and left of the crops whose single frames show most of a person."""
    height, width = _crop_size(frames)
    tried = np.unique(np.linspace(0, len(frames) - 1, TRIED_FRAMES).astype(int))
    shown = []
    for corner in crop_corners(frames.shape[1], frames.shape[2], height, width):
        top, left = map(int, corner)
        crop = frames[tried, top : top + height, left : left + width]
        shown.append((evidence(_estimate(estimator, crop, UNRELATED)), top, left))
        goes_on()
    shown.sort(key=lambda crop: -crop[0])
    return [(top, left) for share, top, left in shown[:BEST_CROPS] if share > 0]


def _crop_size(frames: np.ndarray) -> tuple[int, int]:
    height, width = frames.shape[1:3]
    return max(round(CROP_SHARE[0] * height), 1), max(round(CROP_SHARE[1] * width), 1)


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
