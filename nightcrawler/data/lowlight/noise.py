"""Blind estimation of the noise in video frames (Immerkaer 1996)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from nightcrawler.data.lowlight.enhance.luma import LUMA_WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

# A numpy array or a torch tensor: the estimator needs only slicing, subtraction and `abs`.
Array = TypeVar("Array", np.ndarray, "Tensor")


def choose_pairs(num_frames: int, num_pairs: int) -> list[int]:
    """Return the indices of pairs of neighbouring frames spread evenly over a video.

    Args:
        num_frames: frames of the video.
        num_pairs: wanted pairs (short videos have fewer).

    Returns:
        Frame indices, increasing, without repetition.
    """
    starts = np.linspace(0, max(num_frames - 2, 0), num_pairs).round().astype(int).tolist()
    chosen = set()
    for start in starts:
        chosen.add(start)
        # A video of one frame has no second one.
        if start + 1 < num_frames:
            chosen.add(start + 1)
    return sorted(chosen)


def pair_positions(indices: Sequence[int]) -> list[int]:
    """Return the positions in `indices` whose successor is the next frame of the video.

    Args:
        indices: frame indices, increasing.
    """
    return [at for at in range(len(indices) - 1) if indices[at + 1] == indices[at] + 1]


def noise_sigma(frames: np.ndarray, indices: Sequence[int]) -> float:
    """Estimate the standard deviation of the noise in the luminance, in 8-bit levels.

    Immerkaer's estimator on differences of neighbouring frames, which hold the noise of both and
    no still texture, combined by the median over pairs. Frames that repeat their predecessor are
    left out. A single frame is estimated by itself.

    Args:
        frames: uint8 `[n, H, W, 3]`.
        indices: their indices in the video, increasing.
    """
    luma = np.einsum("thwc,c->thw", frames.astype(np.float32), LUMA_WEIGHTS)
    pairs = pair_positions(indices)
    if not pairs:
        return immerkaer(luma[0])
    # A difference of two frames has twice the variance of one.
    sigmas = [immerkaer(luma[at + 1] - luma[at]) / math.sqrt(2) for at in pairs]
    moving = [sigma for sigma in sigmas if sigma > 0]
    if not moving:
        return 0.0
    return float(np.median(moving))


def immerkaer(picture: Array) -> float:
    """Estimate the standard deviation of the noise in a picture, 0 below 3x3 pixels.

    sqrt(pi / 2) times the mean absolute `noise_response`, over 6 (J. Immerkaer, "Fast noise
    variance estimation", Computer Vision and Image Understanding 64(2), 1996).

    Args:
        picture: floating-point `[H, W]`, numpy or torch.
    """
    if min(picture.shape) < 3:
        return 0.0
    return float(abs(noise_response(picture)).mean()) * math.sqrt(math.pi / 2) / 6


def noise_response(picture: Array) -> Array:
    """Return the second difference along both axes, `[H - 2, W - 2]`, of a picture `[H, W]`.

    This is Immerkaer's 3x3 mask, the outer product of (1, -2, 1) with itself. Planes give no
    response, and white noise of standard deviation s one of standard deviation 6 s.

    Args:
        picture: floating-point `[H, W]`, numpy or torch.
    """
    for _ in range(2):
        picture = picture[1:] - picture[:-1]
    for _ in range(2):
        picture = picture[:, 1:] - picture[:, :-1]
    return picture
