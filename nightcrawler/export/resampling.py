"""Scale, resize and crop frames of any size inside a graph, by the size rules of testing.

Sizes are tensors here, so that a traced graph computes them from the frames it gets. All results
have the shape of the crop, whatever the size of the frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Fractions of a level below which a scaled level is rounded down. FFmpeg settles halves either way;
# a little more than a half keeps rounding errors of runtimes from settling them.
ROUND_BELOW = 0.51


@dataclass(frozen=True)
class Taps:
    """Pixels along one side that a crop is interpolated from.

    Attributes:
        pixels: numbers of the pixel before each of N positions, then of those behind, int64
            `[2 * N]`.
        shares: share of the pixel behind in each position, float32 `[N]`.
    """

    pixels: Tensor
    shares: Tensor


def scaled_sides(height: Tensor, width: Tensor, short_side: int) -> tuple[Tensor, Tensor]:
    """Return the sides after scaling down in decoding, see `data.video.convert.scaled`.

    Args:
        height: height of the frames, float64 without dimensions.
        width: width of the frames.
        short_side: short side to scale down to. Nothing is scaled up.
    """
    shorter = torch.minimum(height, width)
    # Not `short_side / shorter`: PyTorch multiplies by the reciprocal, which rounds twice.
    scale = torch.full_like(shorter, short_side) / shorter
    scale = torch.where(shorter > short_side, scale, torch.ones_like(shorter))
    return (height * scale).round(), (width * scale).round()


def resized_sides(
    height: Tensor, width: Tensor, size: int, resize: Sequence[int] = ()
) -> tuple[Tensor, Tensor]:
    """Return the sides after the resize of testing, see `transforms.resized_size`.

    Args:
        height: height of the frames, float64 without dimensions.
        width: width of the frames.
        size: side of the crop.
        resize: short side, or height and width; empty for a short side of `size`.
    """
    if len(resize) == 2:
        return torch.full_like(height, resize[0]), torch.full_like(width, resize[1])
    short = torch.full_like(height, resize[0] if resize else size)
    # Divided before it is multiplied, as there: one rounding more may cost a pixel.
    tall = torch.where(width < height, (height / width * short).floor(), short)
    wide = torch.where(width < height, short, (width / height * short).floor())
    is_kept = torch.minimum(height, width) == short
    return torch.where(is_kept, height, tall), torch.where(is_kept, width, wide)


def center_taps(side: Tensor, resized: Tensor, size: int) -> Taps:
    """Return the pixels along one side of the central crop of resized frames.

    Bilinear, without aligned corners and without antialiasing, in float32 as PyTorch computes it.

    Args:
        side: side of the frames in pixels, float64 without dimensions.
        resized: side after the resize.
        size: side of the crop.
    """
    first = ((resized - size) / 2).ceil()
    wanted = (torch.arange(size) + first).float()
    scale = side.float() / resized.float()
    positions = (scale * (wanted + 0.5) - 0.5).clamp_min(0)
    before = positions.floor()
    behind = torch.minimum(before + 1, side.float() - 1)
    return Taps(torch.cat([before, behind]).long(), positions - before)


def scaling_weights(side: int, scaled: Tensor, pixels: Tensor) -> Tensor:
    """Return the weights by which pixels of a scaled side are made, a triangle as FFmpeg's.

    Args:
        side: side of the frames in pixels.
        scaled: side after scaling down, at most `side`, float64 without dimensions.
        pixels: numbers of the wanted pixels of the scaled side, int64 `[N]`.

    Returns:
        float32 `[N, side]`, each row sums to 1.
    """
    scale = side / scaled
    centers = (pixels + 0.5) * scale
    numbers = torch.arange(side) + 0.5
    weights = (1 - (numbers - centers[:, None]).abs() / scale).clamp_min(0)
    return (weights / weights.sum(dim=1, keepdim=True)).float()


def scale_pixels(
    frames: Tensor, height: Tensor, width: Tensor, rows: Tensor, columns: Tensor
) -> Tensor:
    """Return chosen pixels of frames that are scaled down, in whole levels.

    Args:
        frames: uint8 `[B, T, H, W, 3]`.
        height: height after scaling, float64 without dimensions.
        width: width after scaling.
        rows: numbers of the wanted rows after scaling, int64 `[R]`.
        columns: numbers of the wanted columns after scaling, int64 `[C]`.

    Returns:
        float32 `[B, T, R, C, 3]`.
    """
    # Weights stand on the left: exports to int8 quantise constants on the right of a product.
    planes = frames.permute(0, 1, 4, 2, 3).float()
    lines = scaling_weights(frames.shape[2], height, rows) @ planes
    scaled = scaling_weights(frames.shape[3], width, columns) @ lines.transpose(-2, -1)
    return (scaled + (1 - ROUND_BELOW)).floor().permute(0, 1, 4, 3, 2)
