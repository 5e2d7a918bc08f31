"""Luminance of RGB frames, and frames with a new luminance."""

from __future__ import annotations

import numpy as np

# Luma weights of red, green and blue (ITU-R BT.601); the only copy in the package.
LUMA_WEIGHTS = np.array([0.299, 0.587, 0.114], np.float32)
# The same in 256ths (77, 150, 29), so that a sum of uint8 products fits into uint16.
_FIXED_POINT_WEIGHTS = np.rint(256 * LUMA_WEIGHTS).astype(np.uint16)
# Pixels that are summed at a time: of a long clip at once, sums take twice its memory.
_PIECE = 1 << 18
# Colours of dark pixels are mostly noise and rounding: they are amplified no more than this.
MOST_COLOR_GAIN = 4.0


def luminance(frames: np.ndarray) -> np.ndarray:
    """Return the rounded BT.601 luma, uint8 `[...]`, of uint8 RGB `[..., 3]`."""
    luma = np.empty(frames.shape[:-1], np.uint8)
    flat = luma.reshape(-1)
    pixels = frames.reshape(-1, frames.shape[-1])
    for start in range(0, len(flat), _PIECE):
        piece = pixels[start : start + _PIECE]
        # Start at half of 256: the shift below then rounds to the nearest level.
        total = np.full(len(piece), 128, np.uint16)
        for channel, weight in enumerate(_FIXED_POINT_WEIGHTS):
            total += weight * piece[:, channel].astype(np.uint16)
        flat[start : start + _PIECE] = total >> 8
    return luma


def replace_luminance(frame: np.ndarray, luma: np.ndarray, new_luma: np.ndarray) -> np.ndarray:
    """Return a frame with a new luminance.

    Chroma grows with luminance, at most `MOST_COLOR_GAIN` times.

    Args:
        frame: uint8 `[H, W, 3]`.
        luma: luminance of `frame`, uint8 `[H, W]`.
        new_luma: wanted luminance, float32 `[H, W]` from 0 to 255.

    Returns:
        uint8 `[H, W, 3]`.
    """
    old = luma.astype(np.float32)
    gain = np.minimum(new_luma / np.maximum(old, 1), MOST_COLOR_GAIN)
    result = frame * gain[..., None]
    # Where the gain is capped, the missing luminance is added to all channels alike.
    result += (new_luma - gain * old + 0.5)[..., None]
    return result.clip(0, 255.5, out=result).astype(np.uint8)
