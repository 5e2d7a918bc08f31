"""What cameras and estimators do to the joints of a figure, for training on figures that are exact.

Every disturbance is a function of joints float64 `[T, 13, 2]` of the layout `body` in the picture,
of the figure's height in the same unit, and of a generator. Sizes are in heights of the figure, and
were chosen on 50 clips of ARID, see `docs/pose.md`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nightcrawler.pose.layouts import ANKLES, HIPS, KNEES, MIRRORED

Disturbance = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]

LEGS = slice(9, 13)


def jitter(joints: np.ndarray, height: float, rng: np.random.Generator) -> np.ndarray:
    """Move every joint of every frame on its own."""
    return joints + rng.normal(0, rng.uniform(0, 0.02) * height, joints.shape)


def wander(joints: np.ndarray, height: float, rng: np.random.Generator) -> np.ndarray:
    """Move every joint slowly: who follows a person errs alike in frame after frame."""
    scale = rng.uniform(0, 0.03) * height
    knots = rng.normal(0, scale, (len(joints) // 4 + 2, *joints.shape[1:]))
    at = np.linspace(0, len(knots) - 1.001, len(joints))
    low = at.astype(int)
    share = (at - low)[:, None, None]
    return joints + knots[low] * (1 - share) + knots[low + 1] * share


def misplace(joints: np.ndarray, height: float, rng: np.random.Generator) -> np.ndarray:
    """Put up to three joints elsewhere for a while."""
    joints = joints.copy()
    for _ in range(int(rng.integers(0, 4))):
        frames = _stretch(len(joints), 0.25, rng)
        joints[frames, int(rng.integers(joints.shape[1]))] += rng.normal(0, 0.12 * height, 2)
    return joints


def follow(joints: np.ndarray, height: float, rng: np.random.Generator) -> np.ndarray:
    """Turn the camera after the person, so that a part of the way is lost."""
    if rng.random() >= 0.35:
        return joints
    hips = joints[:, HIPS].mean(axis=1)
    reach = max(3, len(hips) // 3) // 2
    padded = np.pad(hips, ((reach, reach), (0, 0)), mode="edge")
    window = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1, axis=0)
    way = window.mean(axis=-1)
    return joints - rng.uniform(0.3, 1.0) * (way - way[0])[:, None]


def shake(joints: np.ndarray, height: float, rng: np.random.Generator) -> np.ndarray:
    """Let the camera drift: a random walk that all joints share."""
    steps = rng.normal(0, rng.uniform(0, 0.01) * height, (len(joints), 1, 2))
    return joints + np.cumsum(steps, axis=0)


def swap_sides(joints: np.ndarray, height: float, rng: np.random.Generator) -> np.ndarray:
    """Take left for right for a while, as of people who are seen from behind."""
    if rng.random() >= 0.25:
        return joints
    joints = joints.copy()
    frames = _stretch(len(joints), 1.0, rng)
    joints[frames] = joints[frames][:, MIRRORED]
    return joints


def guess_legs(joints: np.ndarray, height: float, rng: np.random.Generator) -> np.ndarray:
    """Let the legs hang still: so they are guessed where they are below the picture."""
    if rng.random() >= 0.25:
        return joints
    joints = joints.copy()
    length = 0.25 * height * rng.uniform(0.8, 1.1)
    for hip, knee, ankle in zip(HIPS, KNEES, ANKLES, strict=True):
        joints[:, knee] = joints[:, hip] + [rng.normal(0, 0.03) * height, length]
        joints[:, ankle] = joints[:, knee] + [rng.normal(0, 0.03) * height, length]
    joints[:, LEGS] += rng.normal(0, 0.01 * height, joints[:, LEGS].shape)
    return joints


def bridge_gap(joints: np.ndarray, height: float, rng: np.random.Generator) -> np.ndarray:
    """Lose the person for a while, and bridge the gap by a straight line."""
    if len(joints) < 4 or rng.random() >= 0.3:
        return joints
    joints = joints.copy()
    start = int(rng.integers(len(joints) - 3))
    end = min(start + int(rng.integers(2, max(3, len(joints) // 3))), len(joints) - 1)
    share = np.linspace(0, 1, end - start + 1)[:, None, None]
    joints[start : end + 1] = joints[start] * (1 - share) + joints[end] * share
    return joints


def _stretch(num_frames: int, longest: float, rng: np.random.Generator) -> slice:
    """Draw a stretch of frames, at most a share of all."""
    start = int(rng.integers(num_frames))
    return slice(start, start + int(rng.integers(1, max(2, int(num_frames * longest)))))


DISTURBANCES: tuple[Disturbance, ...] = (
    jitter,
    wander,
    misplace,
    follow,
    shake,
    swap_sides,
    guess_legs,
    bridge_gap,
)


def disturb(joints: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Disturb the joints of a figure that was filmed.

    Args:
        joints: float `[T, 13, 3]`: x, y in any unit, and confidence, which is kept.
        rng: Generator of the draws.

    Returns:
        float32 `[T, 13, 3]`.

    Example:
        >>> joints = film(sample_motion("Walk", rng), rng)  # doctest: +SKIP
        >>> disturb(joints, rng).shape  # doctest: +SKIP
        (31, 13, 3)
    """
    places = joints[..., :2].astype(np.float64)
    height = float(np.median(np.ptp(places[..., 1], axis=1)))
    for disturbance in DISTURBANCES:
        places = disturbance(places, height, rng)
    return np.concatenate([places, joints[..., 2:]], axis=-1).astype(np.float32)
