"""Gamma correction by table: one exponent for all clips, or one fitted to each clip."""

from __future__ import annotations

import functools

import numpy as np

LEAST_GAMMA = 0.1
MOST_GAMMA = 1.0
# Halvings of the search interval: 0.9 / 2^30 is far below the three digits that are kept.
NUM_BISECTIONS = 30
# Levels that are looked up or counted at a time: numpy makes an index of eight bytes of each.
_PIECE = 1 << 18


def check_uint8(frames: np.ndarray) -> None:
    """Refuse frames that are not uint8.

    Raises:
        TypeError: if `frames` has another dtype. A signed -1 would index a table from its end.
    """
    if frames.dtype != np.uint8:
        raise TypeError(f"frames are {frames.dtype}, expected uint8")


@functools.lru_cache(maxsize=256)
def gamma_lut(gamma: float) -> np.ndarray:
    """Return the lookup table of a gamma correction, read-only uint8 `[256]`.

    Entry x is 255.999 (x / 255)^gamma, truncated, computed in float32 as torchvision's
    `adjust_gamma` does for uint8 images.

    Args:
        gamma: exponent on values in [0, 1], below 1 to brighten.
    """
    x = np.arange(256, dtype=np.float32) / np.float32(255)
    levels = np.power(x, np.float32(gamma)) * np.float32(256 - 1e-3)
    lut = levels.clip(0, 255.999).astype(np.uint8)
    # The cache hands the same array to every caller.
    lut.setflags(write=False)
    return lut


def apply_gamma(frames: np.ndarray, gamma: float) -> np.ndarray:
    """Gamma-correct frames through a lookup table.

    Args:
        frames: uint8, any shape.
        gamma: exponent on values in [0, 1] (published: 0.25).

    Returns:
        uint8 of the same shape.

    Raises:
        TypeError: if `frames` is not uint8.
    """
    check_uint8(frames)
    lut = gamma_lut(gamma)
    lit = np.empty(frames.shape, np.uint8)
    flat = lit.reshape(-1)
    levels = frames.reshape(-1)
    for start in range(0, len(levels), _PIECE):
        flat[start : start + _PIECE] = np.take(lut, levels[start : start + _PIECE])
    return lit


def count_levels(frames: np.ndarray) -> np.ndarray:
    """Return the histogram of levels, int64 `[256]`, of uint8 frames of any shape."""
    counts = np.zeros(256, np.int64)
    levels = frames.reshape(-1)
    for start in range(0, len(levels), _PIECE):
        counts += np.bincount(levels[start : start + _PIECE], minlength=256)
    return counts


def gamma_for_mean(frames: np.ndarray, target_mean: float) -> float:
    """Return the gamma in [0.1, 1] that brings the mean of frames closest to a target.

    Bisection on the exact mean, computed from the histogram of values, rounded to three digits.

    Args:
        frames: uint8, any shape.
        target_mean: wanted mean, 0 to 255.
    """
    counts = count_levels(frames)
    values = np.arange(256) / 255.0
    low = LEAST_GAMMA
    high = MOST_GAMMA
    for _ in range(NUM_BISECTIONS):
        middle = (low + high) / 2
        mean = 255 * float((counts * values**middle).sum()) / counts.sum()
        # The mean falls as gamma grows.
        if mean > target_mean:
            low = middle
        else:
            high = middle
    return round((low + high) / 2, 3)


def apply_auto_gamma(frames: np.ndarray, target_mean: float) -> np.ndarray:
    """Gamma-correct a clip towards a mean brightness.

    Args:
        frames: uint8 `[T, H, W, 3]`. All get the same gamma, so that a clip does not flicker.
        target_mean: wanted mean, 0 to 255.

    Returns:
        uint8 `[T, H, W, 3]`.
    """
    return apply_gamma(frames, gamma_for_mean(frames, target_mean))
