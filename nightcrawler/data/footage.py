"""What can be told of a video without a model: how long it is, how bright, how much it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

# A vote gives statuses to answers, too, and needs no decoder for it.
if TYPE_CHECKING:
    from nightcrawler.data.video.decode import Decoded

# Frames that are looked at, evenly spread over those that were decoded.
LOOKED_AT = 8
# Cells along the short side of a picture. Noise of single pixels averages out in a cell.
CELLS = 16


@dataclass(frozen=True)
class Footage:
    """Length and light of a video as it was recorded, before any enhancement.

    Attributes:
        num_frames: number of frames.
        fps: frames per second, 0 where it is unknown.
        brightness: mean level of the pictures, 0..255.
        contrast: levels between a dark (1st percentile) and a bright cell (99th) of the pictures.
    """

    num_frames: int
    fps: float
    brightness: float
    contrast: float


def measure_footage(decoded: Decoded) -> Footage:
    """Measure length and light of a video.

    Args:
        decoded: frames uint8 `[n, H, W, 3]`, at least one.

    Example:
        >>> grey = np.full((2, 32, 32, 3), 40, np.uint8)
        >>> measure_footage(Decoded(grey, [0, 1], 60, 30.0))
        Footage(num_frames=60, fps=30.0, brightness=40.0, contrast=0.0)
    """
    frames = decoded.frames
    places = np.unique(np.linspace(0, len(frames) - 1, LOOKED_AT).round().astype(int))
    cells = np.stack([cell_means(frames[place]) for place in places])
    low, high = np.percentile(cells, (1, 99))
    return Footage(decoded.num_frames, decoded.fps, float(cells.mean()), float(high - low))


def cell_means(picture: np.ndarray) -> np.ndarray:
    """Return the mean level of each square cell of a picture, float32 `[h, w]`.

    Args:
        picture: uint8 `[H, W, 3]`. Rows and columns beyond the last whole cell are left out.
    """
    height, width = picture.shape[:2]
    side = max(min(height, width) // CELLS, 1)
    rows, columns = height // side, width // side
    whole = picture[: rows * side, : columns * side].astype(np.float32).mean(axis=-1)
    return np.asarray(whole.reshape(rows, side, columns, side).mean(axis=(1, 3)))
