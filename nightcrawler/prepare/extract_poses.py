"""Poses of the people in a dark video: lit, looked at in parts, and followed to its end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nightcrawler.data.fingerprint import hash_ends
from nightcrawler.data.lowlight.enhance.build import Enhance
from nightcrawler.data.skeleton.track import interpolate
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.data.video.remote import local_video
from nightcrawler.data.video.salvage import Damage, probe_damaged
from nightcrawler.data.video.stream import ASSUMED_FPS, readable_video_frames
from nightcrawler.pose.crops import CROP_SHARE, crop_corners
from nightcrawler.pose.estimators.base import UNRELATED, PoseEstimator
from nightcrawler.pose.files import Pose
from nightcrawler.pose.layouts import get_layout
from nightcrawler.pose.people import follow_people
from nightcrawler.pose.posture import UPSIDE_DOWN_WEIGHT, upside_down
from nightcrawler.pose.second_look import look_again, shares_seen_again
from nightcrawler.utils.errors import UserError, VideoError

# Raised by each change after which the same video and options give another pose. 1: not recorded.
# 2: frames are placed by their times, a crop must show clearly more than the whole picture.
# 3: who is upside down counts little. 4: people are looked for in the mirrored picture, too.
EXTRACTION_RULES = 4
# Estimators look at some 256 pixels of a person: larger pictures only cost time and memory.
MOST_SIDE_PX = 720
# A rate that is so much above the most is looked at in full: 15.1 frames a second, not 7.5.
RATE_SLACK = 0.05
# Frames that are in memory at a time.
PART_SEC = 10.0
PART_BYTES = 128 << 20
# Share of frames with a person times its confidence, above which the whole picture shows enough.
ENOUGH = 0.6
# A crop must show so much more than the whole picture: it cuts off people who are near, and what is
# cut off is guessed (`docs/pose.md` has the figures).
CROP_GAIN = 0.1
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
    """Find the people of a video, of a damaged one in its sound parts.

    Frames are placed by their times: where the video holds none, nobody is seen.

    Args:
        path: The video: a file, an address, or a member of an archive.
        estimator: Finds joints in frames.
        enhance: Lights uint8 frames `[T, H, W, 3]`, part by part.
        options: How it is looked at.
        goes_on: Called whenever a step of the work is done.

    Returns:
        The pose in space `picture`, without a source.

    Raises:
        VideoError: If nothing of the video can be read, or it is over a limit.

    Example:
        >>> estimator = build_estimator("mediapipe", EstimatorOptions())  # doctest: +SKIP
        >>> light = build_enhancement("auto_gamma", params)  # doctest: +SKIP
        >>> extract_pose("night.mp4", estimator, light, ExtractionOptions())  # doctest: +SKIP
    """
    with local_video(path) as local:
        return _extract(local, estimator, enhance, options, goes_on)


def _extract(
    path: str,
    estimator: PoseEstimator,
    enhance: Enhance,
    options: ExtractionOptions,
    goes_on: Callable[[], None],
) -> Pose:
    """Find the people of a video in a file, see `extract_pose`."""
    damage = Damage()
    info = probe_damaged(path, options.limits, damage)
    rate = looking_rate(info.fps or ASSUMED_FPS, options.max_fps)
    estimator.reset()
    steps: list[int] = []
    found: list[np.ndarray] = []
    again: list[np.ndarray] = []

    def look(part: _Part) -> tuple[int, ...]:
        lit = enhance(part.frames)
        seen = _look(estimator, lit, rate, options, goes_on)
        steps.extend(part.steps)
        found.append(seen.points)
        again.append(_look_again(estimator, lit, seen, rate, goes_on))
        return part.frames.shape

    # By a function: its frames are gone before those of the next part are read.
    shapes = list(map(look, _parts(path, info, rate, options.limits, damage, goes_on)))
    if not found:
        raise VideoError(path, damage.causes[0] if damage else "no frame in it", "decode")
    height, width = _picture_size(path, info, shapes[0][1:3], options.limits)
    points = _join(found, steps)
    points[..., :2] *= height / shapes[0][1]
    people = follow_people(points, rate, options.max_people, estimator.layout)
    shares = shares_seen_again(people, points, _join(again, steps))
    return Pose(
        points=_with_confidence(people, steps),
        fps=rate,
        layout=estimator.layout,
        width=width,
        height=height,
        fingerprint=hash_ends(Path(path)),
        damage=damage.describe() if damage else "",
        seen_again=tuple(shares),
    )


def _with_confidence(points: np.ndarray, steps: list[int]) -> np.ndarray:
    """Return bridged joints `[P, T, V, 3]` of steps without a frame as sure as those around them.

    Nobody was missed there: a camera gave fewer pictures for a while.

    Args:
        points: Joints of people, bridged with confidence 0.
        steps: Numbers of the steps of which a frame was looked at.
    """
    unseen = np.setdiff1d(np.arange(points.shape[1]), steps)
    confidences = points[..., 2]
    known = np.nan_to_num(confidences[:, steps]).swapaxes(0, 1)
    between = interpolate(known, np.array(steps, float), unseen.astype(float)).swapaxes(0, 1)
    is_bridged = np.isfinite(points[..., 0][:, unseen])
    confidences[:, unseen] = np.where(is_bridged, between, np.nan)
    return points


def looking_rate(fps: float, most: float) -> float:
    """Return how many frames per second are looked at: all, or every second, third, ...

    Args:
        fps: Frames per second of the video.
        most: Most frames per second to look at.

    Example:
        >>> [looking_rate(fps, 15.0) for fps in (12.0, 20.0, 30.0)]
        [12.0, 10.0, 15.0]
    """
    return fps / max(math.ceil(fps / most - RATE_SLACK), 1)


class _Part(NamedTuple):
    """Frames uint8 `[T, H, W, 3]` and the number of the step of time of each."""

    steps: list[int]
    frames: np.ndarray


def _parts(
    path: str,
    info: StreamInfo,
    rate: float,
    limits: Limits,
    damage: Damage,
    goes_on: Callable[[], None],
) -> Iterator[_Part]:
    """Yield the first frame of each step of time, in parts that fit in memory."""
    half_frame_sec = 0.5 / (info.fps or ASSUMED_FPS)
    last = -1
    steps: list[int] = []
    pictures: list[np.ndarray] = []
    for frame in readable_video_frames(path, info, damage, MOST_SIDE_PX, limits):
        step = int((frame.time_sec + half_frame_sec) * rate)
        if step <= last:
            continue
        if step >= limits.frames:
            raise VideoError(
                path, f"lasts longer than {limits.frames / rate / 3600:.0f} h", "limits"
            )
        last = step
        steps.append(step)
        pictures.append(frame.rgb)
        goes_on()
        if len(steps) >= PART_SEC * rate or len(steps) * frame.rgb.nbytes >= PART_BYTES:
            yield _take_part(steps, pictures)
    if steps:
        yield _take_part(steps, pictures)


def _take_part(steps: list[int], pictures: list[np.ndarray]) -> _Part:
    """Return a part of steps and pictures, both of which are empty then."""
    part = _Part(list(steps), np.stack(pictures))
    steps.clear()
    pictures.clear()
    return part


def _picture_size(
    path: str, info: StreamInfo, size: tuple[int, ...], limits: Limits
) -> tuple[int, int]:
    """Return height and width before scaling, for which only a large video is read again.

    Args:
        path: The video.
        info: Its properties.
        size: Height and width of its frames as they were looked at.
        limits: Largest video that is read.
    """
    # Frames of another short side were not scaled.
    if min(size) == MOST_SIDE_PX:
        first = next(readable_video_frames(path, info, Damage(), limits=limits))
        size = first.rgb.shape[:2]
    return size[0], size[1]


class _Seen(NamedTuple):
    """Joints `[P, T, V, 3]` of a part, and the rows and columns of the picture that show them."""

    points: np.ndarray
    rows: slice = slice(None)
    columns: slice = slice(None)


def _look(
    estimator: PoseEstimator,
    frames: np.ndarray,
    fps: float,
    options: ExtractionOptions,
    goes_on: Callable[[], None],
) -> _Seen:
    """Return who is seen in lit frames, in the whole picture or in a crop."""
    best = _Seen(_estimate(estimator, frames, fps))
    goes_on()
    layout = estimator.layout
    most = evidence(best.points, layout)
    if not options.search_crops or most >= ENOUGH:
        return best
    tried = np.unique(np.linspace(0, len(frames) - 1, TRIED_FRAMES).astype(int))
    # Less is enough here: in single pictures nobody is followed.
    least = max(evidence(best.points[:, tried], layout) - CROP_GAIN, 0)
    most += CROP_GAIN
    for top, left in _promising_crops(estimator, frames, tried, least, goes_on):
        height, width = _crop_size(frames)
        estimator.reset()
        rows, columns = slice(top, top + height), slice(left, left + width)
        points = _estimate(estimator, frames[:, rows, columns], fps)
        goes_on()
        if evidence(points, layout) > most:
            most = evidence(points, layout)
            best = _Seen(points + np.array([left, top, 0], np.float32), rows, columns)
    estimator.reset()
    return best


def _look_again(
    estimator: PoseEstimator,
    frames: np.ndarray,
    seen: _Seen,
    fps: float,
    goes_on: Callable[[], None],
) -> np.ndarray:
    """Return second looks `[P, T]` where people were seen, see `pose.second_look`."""

    def estimate(pictures: np.ndarray, rate: float) -> np.ndarray:
        goes_on()
        if rate == UNRELATED:
            return _estimate(estimator, pictures, rate)
        # Nobody of the frames before is in the mirrored ones, and nobody of these in the next.
        estimator.reset()
        points = _estimate(estimator, pictures, rate)
        estimator.reset()
        return points

    corner = np.array([seen.columns.start or 0, seen.rows.start or 0, 0], np.float32)
    pictures = frames[:, seen.rows, seen.columns]
    return look_again(estimate, pictures, seen.points - corner, fps, estimator.layout)


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
    estimator: PoseEstimator,
    frames: np.ndarray,
    tried: np.ndarray,
    least: float,
    goes_on: Callable[[], None],
) -> list[tuple[int, int]]:
    """Return top and left of the crops that show most of a person in frames that are tried.

    They show more than `least` there (see `evidence`).
    """
    height, width = _crop_size(frames)
    shown = []
    for corner in crop_corners(frames.shape[1], frames.shape[2], height, width):
        top, left = map(int, corner)
        crop = frames[tried, top : top + height, left : left + width]
        points = _estimate(estimator, crop, UNRELATED)
        shown.append((evidence(points, estimator.layout), top, left))
        goes_on()
    shown.sort(key=lambda crop: -crop[0])
    return [(top, left) for share, top, left in shown[:BEST_CROPS] if share > least]


def _crop_size(frames: np.ndarray) -> tuple[int, int]:
    height, width = frames.shape[1:3]
    return max(round(CROP_SHARE[0] * height), 1), max(round(CROP_SHARE[1] * width), 1)


def evidence(points: np.ndarray, layout: str) -> float:
    """Return the share of frames with a person times its mean confidence.

    Who is upside down counts little: it is a tree, or letters.

    Args:
        points: `[P, T, V, 3]`, NaN where nobody was seen. Of several people, the surest counts.
        layout: Layout of the joints, a name of `pose.layouts.LAYOUTS`.
    """
    if points.size == 0:
        return 0.0
    confidences = np.nan_to_num(points[..., 2]).mean(axis=2)
    confidences[upside_down(points, layout)] *= UPSIDE_DOWN_WEIGHT
    return float(confidences.max(axis=0).mean())


def _join(parts: list[np.ndarray], steps: list[int]) -> np.ndarray:
    """Join parts `[P, T, ...]` in time, with as many people as in the fullest.

    Args:
        parts: Joints of the frames that were looked at, or second looks at them.
        steps: Number of the step of time of each frame, increasing. Others become NaN.
    """
    num_people = max(len(part) for part in parts)
    points = np.full((num_people, steps[-1] + 1, *parts[0].shape[2:]), np.nan, np.float32)
    first = 0
    for part in parts:
        points[: len(part), steps[first : first + part.shape[1]]] = part
        first += part.shape[1]
    return points
