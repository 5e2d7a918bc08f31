"""Luminance of frames, and frames of another luminance."""

from __future__ import annotations

import numpy as np

# Colours of dark pixels are mostly noise and rounding: they are amplified no more than this.
MOST_COLOR_GAIN = 4.0


def luminance(frames: np.ndarray) -> np.ndarray:
    """uint8 luma (0.299, 0.587, 0.114, in 256ths) of uint8 colours `[..., 3]`."""
    red, green, blue = (frames[..., channel].astype(np.uint16) for channel in range(3))
    return ((77 * red + 150 * green + 29 * blue + 128) >> 8).astype(np.uint8)


def relit(frame: np.ndarray, luma: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """A frame with another luminance; what is colour grows with it, at most `MOST_COLOR_GAIN` times.

    Args:
        frame: uint8 `[H, W, 3]`.
        luma: its luminance, uint8 `[H, W]`.
        wanted: the new one, float32 `[H, W]` from 0 to 255.

    Returns:
        uint8 `[H, W, 3]`.
    """
    old = luma.astype(np.float32)
    gain = np.minimum(wanted / np.maximum(old, 1), MOST_COLOR_GAIN)
    lit = frame * gain[..., None]
    lit += (wanted - gain * old + 0.5)[..., None]
    return lit.clip(0, 255.5, out=lit).astype(np.uint8)
