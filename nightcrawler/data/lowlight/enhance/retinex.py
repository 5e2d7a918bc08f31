"""Multi-scale retinex of luminance (Jobson, Rahman and Woodell, IEEE TIP 1997).

Reflectance is the logarithm of a pixel over its surround, averaged over several sizes of surround.
It is computed on luminance, since colours of dark pixels are mostly noise, and stretched to the
whole range by one pair of limits for all frames of a clip, so that the clip does not flicker.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nightcrawler.data.lowlight.enhance.luma import luminance, replace_luminance

# Added to levels before the logarithm: rounding of the darkest few shall not fill the range.
OFFSET = 4.0
# Percentiles of the reflectance that become black and white.
LIMITS = (1.0, 99.0)
# Least distance between them: below it, a clip has no contrast to stretch.
LEAST_SPREAD = 1e-3


def blur_matrix(length: int, sigma: float) -> Tensor:
    """Return a matrix whose rows are Gaussians, each normalised inside the picture.

    Args:
        length: pixels along the blurred axis.
        sigma: standard deviation, in pixels.

    Returns:
        float32 `[length, length]`, rows of sum 1.
    """
    position = torch.arange(length, dtype=torch.float32)
    weights = torch.exp(-((position[:, None] - position) ** 2) / (2 * sigma**2))
    return weights / weights.sum(dim=1, keepdim=True)


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Blur pictures `[..., H, W]` by a Gaussian of `sigma` pixels.

    Two matrix products: exact, and as fast for a large sigma as for a small one.
    """
    height, width = pictures.shape[-2:]
    return blur_matrix(height, sigma) @ (pictures @ blur_matrix(width, sigma).T)


def reflectance(luma: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Return the mean over scales of log(level / level of the surround).

    Args:
        luma: float32 `[..., H, W]`, 0 to 255.
        sigmas: standard deviations of the surrounds, in pixels.

    Returns:
        float32 `[..., H, W]`.
    """
    surrounds = [torch.log(blur(luma, sigma) + OFFSET) for sigma in sigmas]
    return torch.log(luma + OFFSET) - torch.stack(surrounds).mean(dim=0)


def apply_retinex(frames: np.ndarray, *, sigmas: Sequence[float]) -> np.ndarray:
    """Replace each frame's luminance by its reflectance, stretched by the clip's own limits.

    Args:
        frames: uint8 `[T, H, W, 3]`.
        sigmas: standard deviations of the surrounds, in pixels.

    Returns:
        uint8 `[T, H, W, 3]`, `frames` itself if the clip has no contrast.
    """
    lumas = luminance(frames)
    reflectances = np.empty(lumas.shape, np.float32)
    # One frame at a time: the blurred pictures of a whole clip are large.
    for luma, out in zip(lumas, reflectances, strict=True):
        out[:] = reflectance(torch.from_numpy(luma).float(), sigmas).numpy()
    # Every other row and column is enough for percentiles, in a quarter of the time.
    low, high = np.percentile(reflectances[:, ::2, ::2], LIMITS)
    if high - low < LEAST_SPREAD:
        return frames
    result = np.empty_like(frames)
    for frame, luma, reflected, out in zip(frames, lumas, reflectances, result, strict=True):
        stretched = (reflected - np.float32(low)) / np.float32(high - low)
        out[:] = replace_luminance(frame, luma, 255 * stretched.clip(0, 1))
    return result
