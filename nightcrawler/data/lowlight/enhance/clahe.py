"""Contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994) of luminance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nightcrawler.data.lowlight.enhance.luma import luminance, relit

NUM_LEVELS = 256


def equalising_tables(histograms: np.ndarray, clip: float) -> np.ndarray:
    """Level to new level, float32 `[..., 256]`, from histograms `[..., 256]`.

    A bin keeps at most `clip` times the mean bin, and what is cut off is shared by all bins: neighbouring levels come
    apart by at most `clip` + 1 levels. The new level is 255 times the cumulative share.
    """
    share = histograms / histograms.sum(axis=-1, keepdims=True)
    kept = np.minimum(share, clip / NUM_LEVELS)
    kept += (1 - kept.sum(axis=-1, keepdims=True)) / NUM_LEVELS
    return (255 * kept.cumsum(axis=-1)).astype(np.float32)


def _between(length: int, parts: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of `length` pixels: the tile whose centre lies before it, the next one, and the way gone between."""
    place = ((np.arange(length) + 0.5) * parts / length - 0.5).clip(0, parts - 1)
    before = place.astype(np.int64)
    return before, np.minimum(before + 1, parts - 1), (place - before).astype(np.float32)


def equalise(luma: np.ndarray, clip: float, tiles: Sequence[int]) -> np.ndarray:
    """float32 `[H, W]`: each pixel of uint8 `[H, W]` by the tables of the four nearest tiles, blended bilinearly."""
    height, width = luma.shape
    rows, columns = min(tiles[0], height), min(tiles[1], width)
    tile = (np.arange(height) * rows // height)[:, None] * columns + np.arange(
        width
    ) * columns // width
    counts = np.bincount(
        (tile * NUM_LEVELS + luma).reshape(-1), minlength=rows * columns * NUM_LEVELS
    )
    tables = equalising_tables(counts.reshape(-1, NUM_LEVELS), clip).reshape(-1)
    above, below, down = _between(height, rows)
    left, right, along = _between(width, columns)

    def level(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return np.take(tables, (row[:, None] * columns + column) * NUM_LEVELS + luma)

    upper = level(above, left) * (1 - along) + level(above, right) * along
    lower = level(below, left) * (1 - along) + level(below, right) * along
    return upper * (1 - down[:, None]) + lower * down[:, None]


def apply_clahe(frames: np.ndarray, *, clip: float, tiles: Sequence[int]) -> np.ndarray:
    """Equalise each frame's luminance, tile by tile.

    Args:
        frames: uint8 `[T, H, W, 3]`.
        clip: most that a bin of a histogram may hold, in means of a bin.
        tiles: rows and columns of tiles.
    """
    lumas = luminance(frames)
    return np.stack(
        [
            relit(frame, luma, equalise(luma, clip, tiles))
            for frame, luma in zip(frames, lumas, strict=True)
        ]
    )
