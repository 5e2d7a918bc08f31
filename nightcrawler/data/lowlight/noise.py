"""Noise of video frames, measured without knowing what they would be without it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def choose_pairs(num_frames: int, num_pairs: int) -> list[int]:
    """Numbers of pairs of neighbouring frames spread over a video, fewer where it is short."""
    starts = np.linspace(0, max(num_frames - 2, 0), num_pairs).round().astype(int).tolist()
    return sorted({index for start in starts for index in (start, start + 1) if index < num_frames})


def pair_places(indices: Sequence[int]) -> list[int]:
    """Places in `indices`, increasing frame numbers, whose next is the next frame of the video."""
    return [at for at in range(len(indices) - 1) if indices[at + 1] == indices[at] + 1]


def noise_sigma(frames: np.ndarray, indices: Sequence[int]) -> float:
    """Standard deviation of the noise in the luminance.

    Immerkaer's estimator (1996) on differences of neighbouring frames, which hold the noise of both and no still
    texture; the median over the pairs. Frames that repeat their predecessor are left out; a single frame is
    estimated by itself.

    Args:
        frames: uint8 `[n, H, W, 3]`.
        indices: their numbers in the video, increasing.
    """
    luma = np.einsum("thwc,c->thw", frames.astype(np.float32), LUMA)
    neighbours = pair_places(indices)
    if not neighbours:
        return immerkaer(luma[0])
    sigmas = [immerkaer(luma[at + 1] - luma[at]) / math.sqrt(2) for at in neighbours]
    moving = [sigma for sigma in sigmas if sigma > 0]
    return float(np.median(moving)) if moving else 0.0


def immerkaer(picture: np.ndarray) -> float:
    """Immerkaer's estimate of the noise's standard deviation in a picture `[H, W]`; 0 below 3x3 pixels."""
    if min(picture.shape) < 3:
        return 0.0
    return math.sqrt(math.pi / 2) * float(np.abs(second_difference(picture)).mean())


def second_difference(picture: np.ndarray) -> np.ndarray:
    """`[H - 2, W - 2]`: the second difference of a picture `[H, W]` along both axes, over 6.

    It is blind to planes, and its response to white noise has the noise's standard deviation.
    """
    return np.diff(np.diff(picture, 2, axis=0), 2, axis=1) / 6
