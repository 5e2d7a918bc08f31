"""Posture of what an estimator takes for a person: on two legs, on four, or upside down."""

from __future__ import annotations

import numpy as np

from nightcrawler.pose.layouts import ANKLES, HANDS, HIPS, SHOULDERS, to_body

# Cosine between the trunk and the vertical, below which the trunk is level: 60 degrees and more.
LEVEL_COSINE = 0.5
# Of an animal, what the estimator takes for hands are feet that hang below what it takes for
# shoulders and for ankles, by so much of the trunk, in so many of the frames. Of 1,650 figures of
# the eleven actions, filmed from all sides and disturbed, none looks so, and 3 % of 660 that lie.
HANDS_BELOW_SHOULDERS = 0.5
HANDS_BELOW_ANKLES = 0.4
LEAST_ON_FOUR_LEGS = 0.5
# Hips above the shoulders, by 30 degrees and more, and ankles less than so much of the trunk below
# the hips, in so many of the frames: what estimators see in trees, letters and colour bars. Who
# bends down stands on legs.
UPSIDE_DOWN_COSINE = -0.5
STANDS_ON_LEGS = 1.0
LEAST_UPSIDE_DOWN = 0.5
# So much counts one who is upside down, as the main person and as evidence of somebody.
UPSIDE_DOWN_WEIGHT = 0.1


def trunk_cosine(body: np.ndarray) -> np.ndarray:
    """Return the cosine between the trunk and the vertical: 1 upright, 0 level, -1 upside down.

    Args:
        body: `[..., 13, 3]` of layout `body` in a picture, NaN where nobody was seen.

    Returns:
        `[...]`, NaN where nobody was seen.
    """
    trunk = _middle(body, HIPS) - _middle(body, SHOULDERS)
    return trunk[..., 1] / np.maximum(np.linalg.norm(trunk, axis=-1), 1e-6)


def upside_down(points: np.ndarray, layout: str) -> np.ndarray:
    """Return in which frames the hips are above the shoulders, and no legs below the hips.

    Args:
        points: `[..., V, 3]` of people in a picture, NaN where nobody was seen.
        layout: Layout of the joints, a name of `pose.layouts.LAYOUTS`.

    Returns:
        Bool `[...]`.
    """
    body = to_body(points, layout)
    hips = _middle(body, HIPS)
    trunk = np.linalg.norm(hips - _middle(body, SHOULDERS), axis=-1)
    legs = _middle(body, ANKLES)[..., 1] - hips[..., 1]
    return (trunk_cosine(body) < UPSIDE_DOWN_COSINE) & (legs < STANDS_ON_LEGS * trunk)


def is_upside_down(points: np.ndarray, layout: str) -> bool:
    """Return whether what was taken for a person is upside down for most of the time.

    Args:
        points: `[T, V, 3]` of one person in a picture, NaN where it was not seen.
        layout: Layout of the joints, a name of `pose.layouts.LAYOUTS`.
    """
    seen = int(np.isfinite(points[..., 0]).any(axis=-1).sum())
    return seen > 0 and int(upside_down(points, layout).sum()) >= LEAST_UPSIDE_DOWN * seen


def is_animal(points: np.ndarray, layout: str) -> bool:
    """Return whether what was taken for a person goes on four legs.

    Args:
        points: `[T, V, 3]` of one person in a picture, NaN where it was not seen.
        layout: Layout of the joints, a name of `pose.layouts.LAYOUTS`.
    """
    body = to_body(points, layout)
    cosine = trunk_cosine(body)
    shoulders = _middle(body, SHOULDERS)
    trunk = np.linalg.norm(_middle(body, HIPS) - shoulders, axis=-1)
    hands = _middle(body, HANDS)[..., 1]
    on_four_legs = (
        (np.abs(cosine) < LEVEL_COSINE)
        & (hands - shoulders[..., 1] > HANDS_BELOW_SHOULDERS * trunk)
        & (hands - _middle(body, ANKLES)[..., 1] > HANDS_BELOW_ANKLES * trunk)
    )
    seen = int(np.isfinite(cosine).sum())
    return seen > 0 and int(on_four_legs.sum()) >= LEAST_ON_FOUR_LEGS * seen


def _middle(body: np.ndarray, joints: tuple[int, int]) -> np.ndarray:
    return body[..., list(joints), :2].mean(axis=-2)
