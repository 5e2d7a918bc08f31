"""Confidence bounds of a proportion."""

from __future__ import annotations

from typing import Any

import numpy as np


def wilson_bounds(correct: Any, total: Any, z: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the confidence bounds of proportions (Wilson 1927).

    With p = correct / total, n = total: (p + z^2 / 2n +- z sqrt(p (1 - p) / n + z^2 / 4n^2)) /
    (1 + z^2 / n).

    Args:
        correct: numbers of successes, of any shape.
        total: numbers of trials, above 0, of the same shape.
        z: quantile of the normal distribution. At 0 both bounds are the proportion.

    Returns:
        Lower and upper bounds, float64 of that shape.

    Example:
        >>> wilson_bounds(8, 10, z=1.96)
        (array(0.490...), array(0.943...))
    """
    trials = np.asarray(total, np.float64)
    share = np.asarray(correct, np.float64) / trials
    widening = 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / widening
    half = z / widening * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return np.asarray(centre - half), np.asarray(centre + half)
