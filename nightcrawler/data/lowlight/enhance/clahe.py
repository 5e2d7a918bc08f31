"""Contrast-limited adaptive histogram equalisation (Zuiderveld, Graphics Gems IV, 1994)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nightcrawler.data.lowlight.enhance.luma import luminance, replace_luminance

NUM_LEVELS = 256


def equalisation_tables(histograms: np.ndarray, clip: float) -> np.ndarray:
    """Return tables from level to equalised level.

    A bin keeps at most `clip` times the mean bin and the excess is shared by all bins, so that
    neighbouring levels differ by at most `clip` + 1 levels afterwards. The new level is 255 times
    the cumulative share.

    Args:
        histograms: counts of levels, `[..., 256]`.
        clip: most that a bin may hold, in means of a bin.

    Returns:
        float32 `[..., 256]`.
    """
    share = histograms / histograms.sum(axis=-1, keepdims=True)
    kept = np.minimum(share, clip / NUM_LEVELS)
    kept += (1 - kept.sum(axis=-1, keepdims=True)) / NUM_LEVELS
    return (255 * kept.cumsum(axis=-1)).astype(np.float32)


def _neighbours(length: int, num_tiles: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the tiles that the pixels of one axis lie between.

    Args:
        length: pixels along the axis.
        num_tiles: tiles along the axis.

    Returns:
        Tile whose centre lies before each pixel and the tile after it, int64 `[length]`, and the
        weight of the latter, float32 `[length]`.
    """
    position = (np.arange(length) + 0.5) * num_tiles / length - 0.5
    # Pixels outside the outermost centres take the nearest tile alone.
    position = position.clip(0, num_tiles - 1)
    before = position.astype(np.int64)
    after = np.minimum(before + 1, num_tiles - 1)
    return before, after, (position - before).astype(np.float32)


def _tile_histograms(luma: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Return the counts of levels in each tile of uint8 `[H, W]`, int `[rows * columns, 256]`."""
    height, width = luma.shape
    tile_row = np.arange(height) * rows // height
    tile_column = np.arange(width) * columns // width
    tile = tile_row[:, None] * columns + tile_column
    # One count of (tile, level) pairs instead of a histogram for each tile.
    flat = (tile * NUM_LEVELS + luma).reshape(-1)
    counts = np.bincount(flat, minlength=rows * columns * NUM_LEVELS)
    return counts.reshape(-1, NUM_LEVELS)


def equalise(luma: np.ndarray, clip: float, tiles: Sequence[int]) -> np.ndarray:
    """Equalise a luminance picture by tiles.

    Each pixel is mapped by the tables of the four nearest tiles, blended bilinearly.

    Args:
        luma: uint8 `[H, W]`.
        clip: most that a bin may hold, in means of a bin.
        tiles: rows and columns of tiles, at most one a pixel.

    Returns:
        float32 `[H, W]`.
    """
    height, width = luma.shape
    rows = min(tiles[0], height)
    columns = min(tiles[1], width)
    tables = equalisation_tables(_tile_histograms(luma, rows, columns), clip).reshape(-1)
    above, below, down = _neighbours(height, rows)
    left, right, along = _neighbours(width, columns)

    def level(row: np.ndarray, column: np.ndarray) -> np.ndarray:
        return np.take(tables, (row[:, None] * columns + column) * NUM_LEVELS + luma)

    upper = level(above, left) * (1 - along) + level(above, right) * along
    lower = level(below, left) * (1 - along) + level(below, right) * along
    return upper * (1 - down[:, None]) + lower * down[:, None]


def apply_clahe(frames: np.ndarray, *, clip: float, tiles: Sequence[int]) -> np.ndarray:
    """Equalise each frame's luminance by tiles.

    Args:
        frames: uint8 `[T, H, W, 3]`.
        clip: most that a bin of a histogram may hold, in means of a bin.
        tiles: rows and columns of tiles.

    Returns:
        uint8 `[T, H, W, 3]`.
    """
    result = np.empty_like(frames)
    for frame, luma, out in zip(frames, luminance(frames), result, strict=True):
        out[:] = replace_luminance(frame, luma, equalise(luma, clip, tiles))
    return result
