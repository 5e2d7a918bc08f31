"""Crops of a picture in which a small person is looked for."""

from __future__ import annotations

import numpy as np

# Rows and columns of crops, and their height and width as shares of the picture's.
CROPS = 3
CROP_SHARE = (0.6, 0.5)


def crop_corners(
    height: int, width: int, crop_height: float, crop_width: float
) -> list[tuple[float, float]]:
    """Return top and left of crops that cover a picture and overlap.

    Args:
        height: Height of the picture in pixels.
        width: Its width in pixels.
        crop_height: Height of a crop in pixels.
        crop_width: Its width in pixels.

    Example:
        >>> crop_corners(10, 20, 6, 10)[:3]
        [(0.0, 0.0), (0.0, 5.0), (0.0, 10.0)]
    """
    tops = np.linspace(0, height - crop_height, CROPS).tolist()
    lefts = np.linspace(0, width - crop_width, CROPS).tolist()
    return [(top, left) for top in tops for left in lefts]
