"""Errors of an estimator: the joints of a person beside those of the figure that it is.

Lengths are in heights of the figure (the median height of its joints in the picture), as those of
`nightcrawler/pose/disturb.py` are.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from nightcrawler.pose.layouts import MIRRORED
from nightcrawler.pose.people import seen_frames

# Whose joints are so far from the figure's (median of the joints) is something else.
ELSEWHERE = 0.3
# A skeleton is of the other side where exchanged joints are so much nearer (mean of the joints).
SWAP_GAIN = 0.02
MISPLACED = 0.1
# Frames whose mean error is slow: half a second.
SLOW_FRAMES = 7
# Standard deviation of a normal distribution over its median absolute deviation.
NORMAL_MAD = 1.4826


@dataclass(frozen=True)
class Errors:
    """Errors of an estimator in one recording. Those of a figure that is never seen are NaN.

    Attributes:
        seen: frames with a person, bool `[T]`.
        on_figure: those in which it is the figure, bool `[T]`.
        swapped: those in which left is taken for right, bool `[T]`.
        joints: errors of the frames on the figure, sides set right, `[N, 13, 2]` in heights.
    """

    seen: np.ndarray
    on_figure: np.ndarray
    swapped: np.ndarray
    joints: np.ndarray

    @functools.cached_property
    def constant(self) -> np.ndarray:
        """The median error of each joint, `[13, 2]`."""
        if len(self.joints) == 0:
            return np.full(self.joints.shape[1:], np.nan)
        return np.asarray(np.median(self.joints, axis=0))

    @property
    def jitter(self) -> float:
        """The deviation of a normal jitter whose differences between frames are as large."""
        follows = np.diff(np.flatnonzero(self.on_figure)) == 1
        steps = np.diff(self.joints, axis=0)[follows]
        return _normal_deviation(steps) / np.sqrt(2)

    @property
    def slow(self) -> float:
        """The deviation of means of half a second from the constant error."""
        if len(self.joints) < SLOW_FRAMES:
            return float("nan")
        windows = np.lib.stride_tricks.sliding_window_view(self.joints, SLOW_FRAMES, axis=0)
        return _normal_deviation(windows.mean(axis=-1) - self.constant)

    @property
    def misplaced(self) -> np.ndarray:
        """Whether a joint is elsewhere, the constant error aside, bool `[N, 13]`."""
        return np.linalg.norm(self.joints - self.constant, axis=-1) > MISPLACED

    @property
    def lost(self) -> list[int]:
        """The lengths of stretches without a person between frames with one."""
        gaps = np.diff(np.flatnonzero(self.seen)) - 1
        return gaps[gaps > 0].tolist()


def _normal_deviation(values: np.ndarray) -> float:
    """Return the deviation of a normal distribution that has the median absolute deviation."""
    if values.size == 0:
        return float("nan")
    return NORMAL_MAD * float(np.median(np.abs(values - np.median(values))))


def measure_errors(points: np.ndarray, joints: np.ndarray) -> Errors:
    """Compare a person with a figure.

    Args:
        points: the person, layout `body`, `[T, 13, 3]`, NaN or with confidence 0 where not seen.
        joints: the figure, `[T, 13, 2]`.
    """
    height = float(np.median(np.ptp(joints[..., 1], axis=1)))
    errors = (points[..., :2] - joints) / height
    exchanged = (points[:, MIRRORED, :2] - joints) / height
    distances = np.linalg.norm(errors, axis=-1)
    others = np.linalg.norm(exchanged, axis=-1)
    seen = seen_frames(points)
    swapped = seen & (distances.mean(axis=1) - others.mean(axis=1) > SWAP_GAIN)
    errors[swapped] = exchanged[swapped]
    on_figure = seen & (np.median(np.minimum(distances, others), axis=1) < ELSEWHERE)
    return Errors(seen, on_figure, swapped & on_figure, errors[on_figure])
