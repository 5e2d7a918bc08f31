"""Image operations of RandAugment: level tables and blends, and the table of all operations.

Operations and magnitudes are those of timm's "increasing" set, on uint8 tensors `[T, 3, H, W]`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from nightcrawler.data.augment import geometry
from nightcrawler.data.augment.ops import (
    CHUNK,
    Box,
    Op,
    Size,
    clip_box,
    crop,
    pointwise_op,
    random_sign,
)

MakeOp = Callable[[float, np.random.Generator], Op]


# Tables of levels.


def look_up_by_indexing(frames: Tensor, table: Tensor) -> Tensor:
    """Return the entry of `table`, uint8 `[256]`, for every level, on any device."""
    return table.to(frames.device)[frames.int()]


def look_up(frames: Tensor, table: Tensor) -> Tensor:
    """Apply a 256-entry lookup table; on CPU through `bytes.translate`, the fastest way measured.

    Args:
        frames: uint8, any shape.
        table: uint8 `[256]`.

    Returns:
        uint8 of the same shape.
    """
    if frames.device.type != "cpu":
        return look_up_by_indexing(frames, table)
    levels = bytearray(frames.contiguous().numpy()).translate(table.numpy().tobytes())
    return torch.frombuffer(levels, dtype=torch.uint8).view_as(frames)


def _table_op(function: Callable[[Tensor], Tensor]) -> Op:
    """Return the op of a function of single levels, tabulated for all 256 of them."""
    # As a frame of 16x16: torchvision's functions want three channels.
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    table = function(levels)[0, 0].flatten()
    return pointwise_op(lambda frames: look_up(frames, table))


def _look_up_planes(frames: Tensor, box: Box, tables: Tensor) -> Tensor:
    """Apply a table of its own to every plane of a box.

    Args:
        frames: uint8 `[T, 3, H, W]`.
        box: wanted box.
        tables: uint8 `[T, 3, 256]`.
    """
    planes = crop(frames, box).flatten(0, 1)
    results = frames.new_empty((*frames.shape[:2], *box[2:]))
    for plane, table, result in zip(
        planes, tables.flatten(0, 1), results.flatten(0, 1), strict=True
    ):
        result.copy_(look_up(plane, table))
    return results


def _auto_contrast(frames: Tensor, box: Box) -> Tensor:
    """Stretch each plane's levels to the whole range."""
    darkest = frames.amin(dim=(-2, -1))[..., None, None].cpu()
    lightest = frames.amax(dim=(-2, -1))[..., None, None].cpu()
    levels = torch.arange(256, dtype=torch.uint8).view(1, 256)
    # A ramp clipped to a plane's range has the plane's range, so torchvision returns its table.
    ramps = torch.minimum(torch.maximum(levels, darkest), lightest)
    return _look_up_planes(frames, box, transforms.autocontrast(ramps).flatten(2))


def count_levels(plane: Tensor) -> np.ndarray:
    """Return the histogram, int `[256]`, of uint8 `[H, W]`, on any device."""
    return torch.bincount(plane.flatten(), minlength=256).cpu().numpy()


def histogram(plane: Tensor) -> np.ndarray:
    """Return the histogram, int `[256]`, of uint8 `[H, W]`, on CPU by Pillow (twice as fast)."""
    if plane.device.type != "cpu":
        return count_levels(plane)
    return np.array(Image.fromarray(plane.numpy()).histogram())


def equalize_table(counts: np.ndarray) -> np.ndarray:
    """Return the table that equalises a histogram, as Pillow and torchvision do.

    Levels are spread by the number of darker pixels. The pixels of the lightest level do not count
    for the step between levels.

    Args:
        counts: histogram, int `[256]`.

    Returns:
        uint8 `[256]`.
    """
    step = int(counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
    if step == 0:
        return np.arange(256, dtype=np.uint8)
    darker = np.cumsum(counts) - counts
    return np.minimum((darker + step // 2) // step, 255).astype(np.uint8)


def _equalize(frames: Tensor, box: Box) -> Tensor:
    tables = np.stack([equalize_table(histogram(plane)) for plane in frames.flatten(0, 1)])
    return _look_up_planes(frames, box, torch.from_numpy(tables).view(*frames.shape[:2], 256))


def _posterize(level: float, rng: np.random.Generator) -> Op:
    """Keep the 4 to 0 highest bits."""
    return pointwise_op(lambda frames: transforms.posterize(frames, 4 - int(4 * level)))


def _solarize(level: float, rng: np.random.Generator) -> Op:
    """Invert levels from a threshold on, 256 (none) down to 0 (all)."""
    threshold = 256 - min(256, int(256 * level))
    if threshold == 256:
        # torchvision takes no threshold above 255.
        return _table_op(lambda levels: levels)
    return _table_op(lambda levels: transforms.solarize(levels, threshold))


def _add_below_half(levels: Tensor, added: int) -> Tensor:
    brighter = (levels.to(torch.int16) + added).clamp_(max=255).to(torch.uint8)
    return torch.where(levels < 128, brighter, levels)


def _solarize_add(level: float, rng: np.random.Generator) -> Op:
    """Add up to 110 to levels below 128."""
    return _table_op(lambda levels: _add_below_half(levels, min(128, int(110 * level))))


# Blends of a frame with a grey, mean or smoothed version of itself.


def _factor(level: float, rng: np.random.Generator) -> float:
    """Draw the strength of a blend: 1 leaves the frames, the distance from 1 grows to 0.9."""
    return max(0.1, 1.0 + random_sign(rng) * 0.9 * level)


def saturate(frames: Tensor, factor: float) -> Tensor:
    """Blend each pixel with its grey, as torchvision's `adjust_saturation` does in 1.5 x the time.

    Args:
        frames: uint8 `[T, 3, H, W]`.
        factor: 0 for grey, 1 for the frames as they are, more for stronger colours.
    """
    results = torch.empty_like(frames)
    for frame, result in zip(frames, results, strict=True):
        # Converted to float once; torchvision multiplies bytes, which are converted one by one.
        levels = frame.float()
        red, green, blue = levels
        # torchvision's weights (0.2989), not those of `lowlight.enhance.luma` (0.299).
        grey = red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()
        result.copy_(levels.mul_(factor).add_(grey, alpha=1 - factor).clamp_(0, 255))
    return results


def _color(level: float, rng: np.random.Generator) -> Op:
    factor = _factor(level, rng)
    return pointwise_op(lambda frames: saturate(frames, factor))


def _contrast(level: float, rng: np.random.Generator) -> Op:
    """Blend with the mean grey of each frame."""
    factor = _factor(level, rng)
    levels = torch.arange(256, dtype=torch.uint8)

    def apply(frames: Tensor, box: Box) -> Tensor:
        """Blend a box with the mean greys of its whole frames."""
        greys = []
        for part in frames.split(CHUNK):
            greys.append(transforms.rgb_to_grayscale(part).float().mean(dim=(-2, -1)))
        blended = levels.mul(factor).add(torch.cat(greys).cpu(), alpha=1 - factor)
        tables = blended.clamp_(0, 255).to(torch.uint8)
        return _look_up_planes(frames, box, tables[:, None].expand(-1, 3, -1))

    return Op(apply)


def _brightness(level: float, rng: np.random.Generator) -> Op:
    factor = _factor(level, rng)
    return _table_op(lambda levels: transforms.adjust_brightness(levels, factor))


def _sharpen(frames: Tensor, factor: float) -> Tensor:
    """Blend frames with themselves smoothed by a 3x3 kernel of ones around a five.

    The border is left as it is, as Pillow and torchvision do.
    """
    sharpened = frames.clone()
    for frame, result in zip(frames, sharpened, strict=True):
        wide = frame.to(torch.int16)
        inner = wide[..., 1:-1, 1:-1]
        rows = (wide[..., :-2, :] + wide[..., 2:, :]).add_(wide[..., 1:-1, :])
        sums = (rows[..., :-2] + rows[..., 2:]).add_(rows[..., 1:-1]).add_(inner, alpha=4)
        smooth = sums.float().div_(13).round_()
        result[..., 1:-1, 1:-1] = smooth.lerp_(inner.float(), factor).clamp_(0, 255)
    return sharpened


def _sharpness(level: float, rng: np.random.Generator) -> Op:
    factor = _factor(level, rng)

    def input_box(box: Box, size: Size) -> Box:
        """Return the box with a margin of one pixel."""
        # The 3x3 kernel reads one pixel on each side.
        y, x, height, width = box
        return clip_box(y - 1, x - 1, y + height + 1, x + width + 1, size)

    def apply(frames: Tensor, box: Box) -> Tensor:
        """Sharpen a box with its margin and cut the margin off."""
        y, x, height, width = box
        around = input_box(box, (frames.shape[-2], frames.shape[-1]))
        sharpened = _sharpen(crop(frames, around), factor)
        return crop(sharpened, (y - around[0], x - around[1], height, width))

    return Op(apply, input_box)


# Name to a function of level in [0, 1] and generator; timm's "increasing" set, in its order.
OPS: dict[str, MakeOp] = {
    "AutoContrast": lambda level, rng: Op(_auto_contrast),
    "Equalize": lambda level, rng: Op(_equalize),
    "Invert": lambda level, rng: pointwise_op(transforms.invert),
    "Rotate": functools.partial(geometry.rotate, warp=geometry.warp_bilinearly),
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": _solarize,
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _color,
    "ContrastIncreasing": _contrast,
    "BrightnessIncreasing": _brightness,
    "SharpnessIncreasing": _sharpness,
    "ShearX": functools.partial(geometry.shear, along=0, warp=geometry.warp_bilinearly),
    "ShearY": functools.partial(geometry.shear, along=1, warp=geometry.warp_bilinearly),
    "TranslateXRel": functools.partial(geometry.translate, dim=-1),
    "TranslateYRel": functools.partial(geometry.translate, dim=-2),
}
BICUBIC_OPS: dict[str, MakeOp] = {
    **OPS,
    "Rotate": functools.partial(geometry.rotate, warp=geometry.warp_bicubically),
    "ShearX": functools.partial(geometry.shear, along=0, warp=geometry.warp_bicubically),
    "ShearY": functools.partial(geometry.shear, along=1, warp=geometry.warp_bicubically),
    "TranslateXRel": functools.partial(geometry.translate_bicubically, dim=-1),
    "TranslateYRel": functools.partial(geometry.translate_bicubically, dim=-2),
}
# By the choices of `AUG.INTERPOLATION`.
OPS_BY_INTERPOLATION = {"bilinear": OPS, "bicubic": BICUBIC_OPS}
