"""Film a motion: joints in the world to joints in the picture of a camera that is drawn."""

from __future__ import annotations

import numpy as np

from nightcrawler.pose.layouts import HIPS, MIRRORED

# Degrees that the camera looks down; night cameras hang high.
TILT = (-5.0, 30.0)
# Distance of the camera in body heights, and the least distance that is kept from a joint.
DISTANCE = (2.0, 7.0)
CLEARANCE = 1.2


def body_height(points: np.ndarray) -> float:
    """Return the median over frames of the height of a figure, in the unit of its points.

    Args:
        points: `[T, V, C]` with the vertical second.
    """
    heights = np.nanmax(points[..., 1], axis=1) - np.nanmin(points[..., 1], axis=1)
    return float(np.nanmedian(heights)) + 1e-6


def turn(points: np.ndarray, angle: float) -> np.ndarray:
    """Turn joints about the vertical through the origin.

    Args:
        points: `[..., 3]` in the world.
        angle: In radians, from the camera to the right of the picture.
    """
    cos = np.cos(angle)
    sin = np.sin(angle)
    x = points[..., 0] * cos + points[..., 2] * sin
    z = points[..., 2] * cos - points[..., 0] * sin
    return np.stack([x, points[..., 1], z], axis=-1)


def stand_at_origin(points: np.ndarray) -> np.ndarray:
    """Return a motion in body heights, with the mean place of its hips at the origin.

    Args:
        points: `[T, 13, 3]` in the world, in any unit.
    """
    centre = np.nanmean(points[:, HIPS], axis=(0, 1))
    return (points - centre) / body_height(points)


def film(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Film a motion with a camera whose side, tilt, distance and mirroring are drawn.

    Args:
        points: float `[T, 13, 3]` of layout `body` in the world (x right, y up, z to the camera).
        rng: Generator of the draws.

    Returns:
        float32 `[T, 13, 3]`: x to the right and y down in body heights at the mean distance, and
        confidence 1 (0 where a joint is NaN).
    """
    points = turn(stand_at_origin(points), rng.uniform(0, 2 * np.pi))
    tilt = np.radians(rng.uniform(*TILT))
    x, y, z = np.moveaxis(points, -1, 0)
    up = y * np.cos(tilt) - z * np.sin(tilt)
    near = y * np.sin(tilt) + z * np.cos(tilt)
    distance = max(rng.uniform(*DISTANCE), float(np.nanmax(near)) + CLEARANCE)
    picture = np.stack([x, -up], axis=-1) * (distance / (distance - near))[..., None]
    if rng.random() < 0.5:
        # The left hand of a mirrored person is seen as a right one.
        picture = (picture * [-1, 1])[:, MIRRORED]
    seen = ~np.isnan(picture).any(axis=-1, keepdims=True)
    return np.concatenate([picture, seen], axis=-1).astype(np.float32)
