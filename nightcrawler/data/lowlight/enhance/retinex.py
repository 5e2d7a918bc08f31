"""Multi-scale retinex (Jobson, Rahman and Woodell 1997) of luminance.

The logarithm of a pixel over its surroundings, averaged over several sizes of surroundings, is what the surface
reflects. Here it is taken of luminance, as colours of dark pixels are mostly noise, and stretched to the whole range by
one pair of limits for all frames of a clip, so that the clip does not flicker.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nightcrawler.data.lowlight.enhance.luma import luminance, relit

# Added to levels before the logarithm: what rounding does to the darkest few shall not fill the range.
OFFSET = 4.0
# Percentiles of the result that become black and white, and the least distance between them to be stretched.
LIMITS = (1.0, 99.0)
LEAST_SPREAD = 1e-3


def blur_matrix(length: int, sigma: float) -> Tensor:
    """float32 `[length, length]` whose rows are Gaussians of `sigma` pixels, each of sum 1 inside the picture."""
    place = torch.arange(length, dtype=torch.float32)
    weights = torch.exp(-((place[:, None] - place) ** 2) / (2 * sigma**2))
    return weights / weights.sum(dim=1, keepdim=True)


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of `[..., H, W]`, separable, as two matrix products: exact and quick for any sigma."""
    height, width = pictures.shape[-2:]
    return blur_matrix(height, sigma) @ (pictures @ blur_matrix(width, sigma).T)


def reflectance(luma: Tensor, sigmas: Sequence[float]) -> Tensor:
    """Mean over scales of log(level / its surroundings' level); float32 `[..., H, W]` to the same."""
    around = torch.stack([torch.log(blur(luma, sigma) + OFFSET) for sigma in sigmas]).mean(dim=0)
    return torch.log(luma + OFFSET) - around


def apply_retinex(frames: np.ndarray, *, sigmas: Sequence[float]) -> np.ndarray:
    """Replace each frame's luminance by its reflectance, stretched by the clip's own limits.

    Args:
        frames: uint8 `[T, H, W, 3]`; a clip without any contrast comes back as it is.
        sigmas: standard deviations of the surroundings, in pixels.
    """
    lumas = luminance(frames)
    found = torch.stack(
        [reflectance(torch.from_numpy(luma).float(), sigmas) for luma in lumas]
    ).numpy()
    low, high = np.percentile(found[:, ::2, ::2], LIMITS)
    if high - low < LEAST_SPREAD:
        return frames
    wanted = 255 * ((found - np.float32(low)) / np.float32(high - low)).clip(0, 1)
    return np.stack([relit(*each) for each in zip(frames, lumas, wanted, strict=True)])
