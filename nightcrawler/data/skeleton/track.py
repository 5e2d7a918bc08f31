"""Track of a person: where the joints of the layout `body` are, at a fixed rate, without gaps."""

from __future__ import annotations

import numpy as np

from nightcrawler.pose.files import PICTURE, Pose
from nightcrawler.pose.layouts import to_body
from nightcrawler.utils.errors import UserError

# Steps of a track in a second: of the motions of figures, for which disturbances were chosen.
RATE = 15.0
# Fewer frames in a second show no action, and would become a track of many steps for each: a small
# file must not fill the memory.
LEAST_FPS = 0.5
# Weights of three steps that are averaged: estimates jitter, bodies do not.
SMOOTHING = (0.25, 0.5, 0.25)


def interpolate(values: np.ndarray, times: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Interpolate linearly along the first axis, and keep the ends beyond them.

    Args:
        values: `[N, ...]` at the times.
        times: `[N]`, increasing.
        at: `[M]`, wanted times.

    Returns:
        `[M, ...]`.
    """
    if len(times) == 1:
        return np.repeat(values, len(at), axis=0)
    low = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    share = np.clip((at - times[low]) / (times[low + 1] - times[low]), 0, 1)
    share = share.reshape(-1, *[1] * (values.ndim - 1))
    return values[low] * (1 - share) + values[low + 1] * share


def found_joints(points: np.ndarray, space: str) -> np.ndarray:
    """Return which joints were found, bool `[T, V]`.

    Args:
        points: `[T, V, 3]`. In a picture, those that were bridged have confidence 0.
        space: `picture` or `world`.
    """
    found = np.isfinite(points).all(axis=2)
    if space == PICTURE:
        # Comparisons with NaN are false.
        found &= points[..., 2] > 0
    return found


def seconds_seen(pose: Pose) -> float:
    """Return how long a joint of the main person was found."""
    if len(pose.points) == 0:
        return 0.0
    found = found_joints(to_body(pose.points[0], pose.layout), pose.space)
    return int(found.any(axis=1).sum()) / pose.fps


def to_track(pose: Pose) -> np.ndarray:
    """Return the track of the main person, from the first to the last frame that shows it.

    Gaps are bridged. A joint that is never found is in the middle of the others. Confidence is 1
    where a joint was found and 0 elsewhere: estimators mean different things by theirs, and exact
    joints have none.

    Args:
        pose: with a person in at least one frame.

    Returns:
        float32, `RATE` steps a second. In space `picture` `[N, 13, 3]`: x, y and confidence. In
        space `world` `[N, 13, 4]`: x, y, z and confidence.

    Raises:
        UserError: if its frames are too far apart.
    """
    if pose.fps < LEAST_FPS:
        raise UserError(
            f"has {pose.fps:g} frames a second, expected {LEAST_FPS:g} or more to show an action"
        )
    points = to_body(pose.points[0], pose.layout)
    found = found_joints(points, pose.space)
    seen = np.flatnonzero(found.any(axis=1))
    first = int(seen[0])
    last = int(seen[-1])
    num_steps = int((last - first) / pose.fps * RATE + 1e-6) + 1
    at = first + np.arange(num_steps) * (pose.fps / RATE)
    if pose.space == PICTURE:
        track = smooth(bridge(points[..., :2], found, at))
    else:
        track = bridge(points, found, at)
    confidences = found[first : last + 1].astype(np.float64)
    confidences = interpolate(confidences, np.arange(first, last + 1.0), at)
    return np.concatenate([track, confidences[..., None]], axis=2).astype(np.float32)


def bridge(places: np.ndarray, found: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Return joints at wanted times, interpolated between the frames in which each is found.

    A joint that is never found is in the middle of the others.

    Args:
        places: `[T, V, D]`.
        found: bool `[T, V]`, at least one of them.
        at: wanted frames, float `[N]`.

    Returns:
        float64 `[N, V, D]`.
    """
    track = np.empty((len(at), *places.shape[1:]), np.float64)
    never = []
    for joint in range(places.shape[1]):
        frames = np.flatnonzero(found[:, joint])
        if len(frames) == 0:
            never.append(joint)
            continue
        track[:, joint] = interpolate(places[frames, joint], frames.astype(float), at)
    if never:
        others = np.delete(track, never, axis=1)
        track[:, never] = others.mean(axis=1, keepdims=True)
    return track


def smooth(track: np.ndarray) -> np.ndarray:
    """Average three steps of `[N, V, D]`, with the ends repeated."""
    reach = len(SMOOTHING) // 2
    padded = np.pad(track, ((reach, reach), (0, 0), (0, 0)), mode="edge")
    smoothed = np.zeros_like(track)
    for shift, weight in enumerate(SMOOTHING):
        smoothed += weight * padded[shift : shift + len(track)]
    return smoothed
