"""A second look at what an estimator takes for people: the mirrored picture shows them too.

Estimators see people in trees, letters and colour bars, and are sure of them. They do not see these
people again where left and right are exchanged. Whoever is there is seen again, mirrored.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nightcrawler.pose.estimators.base import UNRELATED
from nightcrawler.pose.layouts import MIRRORED, to_body
from nightcrawler.pose.people import follow_people

# Frames of a part in which a person is looked for again.
LOOKED_AT = 8
# Half the side of the square around a person that is looked at, in heights or widths of the person.
AROUND = 0.9
# Half of the joints are this near to where they were, in sizes of the person.
NEAR = 0.1
# Who is shown by more of the second looks is a person.
LEAST_SHARE = 0.25

# Joints `[P, T, V, 3]` in frames `[T, H, W, 3]` at so many a second, see `PoseEstimator.estimate`.
Estimate = Callable[[np.ndarray, float], np.ndarray]


def is_confirmed(share: float) -> bool:
    """Return whether a share of second looks shows a person again, or there were none.

    Args:
        share: 0 to 1, NaN where there were none.
    """
    return math.isnan(share) or share > LEAST_SHARE


def shares_seen_again(people: np.ndarray, points: np.ndarray, checks: np.ndarray) -> list[float]:
    """Return the share of the second looks at each person that show it again, NaN for none.

    Args:
        people: float32 `[Q, T, V, 3]`, people who were followed through `points`.
        points: float32 `[P, T, V, 3]` of an estimator, where the index of a person may change.
        checks: float32 `[P, T]`, see `look_again`.
    """
    shares = []
    for person in people:
        is_same = ((points == person) | np.isnan(points)).all(axis=(2, 3)) & np.isfinite(checks)
        shares.append(_mean(checks[is_same]))
    return shares


def look_again(
    estimate: Estimate, frames: np.ndarray, points: np.ndarray, fps: float, layout: str
) -> np.ndarray:
    """Look for people in mirrored frames: around them in some frames, else in all frames.

    In single pictures, estimators miss people who are far away or turn their back. So if anybody is
    not seen there, all are followed through the whole of the mirrored frames.

    Args:
        estimate: Returns what the estimator that found the people sees in frames uint8
            `[T, H, W, 3]` at a rate, float32 `[P, T, V, 3]`. No call may follow people of another.
        frames: Lit frames, uint8 `[T, H, W, 3]`.
        points: float32 `[P, T, V, 3]` of the estimator in these frames.
        fps: Frames per second.
        layout: Layout of the joints, a name of `pose.layouts.LAYOUTS`.

    Returns:
        float32 `[P, T]`: 1 where a person was seen again, 0 where not, NaN where nobody was, or
        the frame was not looked at again.
    """
    checks = np.full(points.shape[:2], np.nan, np.float32)
    for frame in _some(np.flatnonzero(_is_seen(points).any(axis=0))):
        for person in np.flatnonzero(_is_seen(points[:, frame])):
            joints = points[person, frame]
            found = _look_around(estimate, frames[frame], joints)
            checks[person, frame] = _is_near(joints, found, layout)
    # The index of a person may change from frame to frame.
    people = follow_people(points, fps, max(len(points), 1), layout)
    if all(map(is_confirmed, shares_seen_again(people, points, checks))):
        return checks
    mirrored = np.ascontiguousarray(frames[:, :, ::-1])
    found = _mirror(estimate(mirrored, fps), frames.shape[2])
    for person, frame in np.argwhere(_is_seen(points)):
        near = _is_near(points[person, frame], found[:, frame], layout)
        # What either look shows was seen.
        checks[person, frame] = max(near, np.nan_to_num(checks[person, frame]))
    return checks


def _is_seen(points: np.ndarray) -> np.ndarray:
    """Return where people `[..., V, 3]` are seen, bool `[...]`."""
    return np.asarray(np.isfinite(points[..., :2]).all(axis=-1).any(axis=-1))


def _mean(checks: np.ndarray) -> float:
    known = checks[np.isfinite(checks)]
    return float(known.mean()) if len(known) else math.nan


def _some(frames: np.ndarray) -> np.ndarray:
    """Return at most `LOOKED_AT` of the frames, evenly spread."""
    count = min(len(frames), LOOKED_AT)
    return np.asarray(frames[np.linspace(0, len(frames) - 1, count).astype(int)])


def _look_around(estimate: Estimate, frame: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Return joints `[P, V, 3]` that the mirrored surroundings of a person `[V, 3]` show."""
    height, width = frame.shape[:2]
    low, high = np.nanmin(joints[:, :2], axis=0), np.nanmax(joints[:, :2], axis=0)
    half = AROUND * max(float((high - low).max()), 1.0)
    middle = np.clip((low + high) / 2, 0, (width - 1, height - 1))
    left, top = np.maximum(middle - half, 0).astype(int).tolist()
    right, bottom = np.minimum(middle + half + 1, (width, height)).astype(int).tolist()
    crop = np.ascontiguousarray(frame[top:bottom, left:right][:, ::-1])
    found = _mirror(estimate(crop[None], UNRELATED), right - left)
    return np.asarray(found[:, 0] + np.array([left, top, 0], np.float32))


def _extent(places: np.ndarray) -> float:
    """Return the diagonal of the box around places `[N, 2]`, of which some are known."""
    return float(np.hypot(*(np.nanmax(places, axis=0) - np.nanmin(places, axis=0))))


def _mirror(points: np.ndarray, width: int) -> np.ndarray:
    """Return joints of a mirrored picture as they are in the picture."""
    mirrored = np.array(points, np.float32)
    mirrored[..., 0] = width - 1 - mirrored[..., 0]
    return mirrored


def _is_near(joints: np.ndarray, found: np.ndarray, layout: str) -> bool:
    """Return whether one of the people `[P, V, 3]` of a mirrored look is the person `[V, 3]`.

    Joints of the person that were not seen do not count. Those that the look misses are far.
    """
    body = to_body(joints, layout)[:, :2]
    is_known = np.isfinite(body).all(axis=1)
    if not is_known.any():
        return False
    # Of a face alone, the body has a single joint.
    size = _extent(body) or _extent(joints[:, :2])
    for other in found:
        # What was a left joint in the mirrored picture is a right one.
        apart = np.linalg.norm(to_body(other, layout)[list(MIRRORED), :2] - body, axis=-1)
        if np.median(np.nan_to_num(apart[is_known], nan=np.inf)) <= NEAR * size:
            return True
    return False
