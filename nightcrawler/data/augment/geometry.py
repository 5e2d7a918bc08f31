"""Geometry of RandAugment: shear, rotation and translation, bilinear or bicubic.

Bilinear sampling blends with the grey outside, and translates by whole pixels. Bicubic sampling is
Pillow's, which the published code used: it repeats the outermost pixels, cuts the border sharply,
and translates by parts of a pixel.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from nightcrawler.data.augment.ops import CHUNK, Box, Op, Size, clip_box, crop, random_sign

# Grey that fills the parts that geometry leaves empty.
FILL = 128
# Digits that `PIL.Image.rotate` keeps of a sine.
ROTATION_DIGITS = 15

# Rows of a linear map from (x, y) of the result to (x, y) of the input, in pixels.
Matrix = tuple[tuple[float, float], tuple[float, float]]
# Op of a linear map. Positions are measured from the frame's centre (`True`) or first corner.
Warp = Callable[[Matrix, bool], Op]


def shear(level: float, rng: np.random.Generator, along: int, warp: Warp) -> Op:
    """Shear along x (0) or y (1) by up to 0.3."""
    slope = random_sign(rng) * 0.3 * level
    if along == 0:
        return warp(((1.0, slope), (0.0, 1.0)), False)
    return warp(((1.0, 0.0), (slope, 1.0)), False)


def rotate(level: float, rng: np.random.Generator, warp: Warp) -> Op:
    """Rotate about the centre by up to 30 degrees."""
    angle = math.radians(random_sign(rng) * 30.0 * level)
    cos = math.cos(angle)
    sin = math.sin(angle)
    return warp(((cos, -sin), (sin, cos)), True)


def translate(level: float, rng: np.random.Generator, dim: int) -> Op:
    """Translate rows (-2) or columns (-1) by up to 0.45 of the side, in whole pixels."""
    share = random_sign(rng) * 0.45 * level

    def input_box(box: Box, size: Size) -> Box:
        """Return the box before the translation."""
        down = round(share * size[0]) if dim == -2 else 0
        right = round(share * size[1]) if dim == -1 else 0
        y, x, height, width = box
        return clip_box(y - down, x - right, y - down + height, x - right + width, size)

    return Op(lambda frames, box: _translated(frames, box, share, dim), input_box)


def translate_bicubically(level: float, rng: np.random.Generator, dim: int) -> Op:
    """Translate rows (-2) or columns (-1) by up to 0.45 of the side, as Pillow does."""
    share = random_sign(rng) * 0.45 * level

    def coefficients(size: Size) -> tuple[float, ...]:
        """Return Pillow's six numbers for frames of a size."""
        down = share * size[0] if dim == -2 else 0.0
        right = share * size[1] if dim == -1 else 0.0
        return 1.0, 0.0, -right, 0.0, 1.0, -down

    return _bicubic_op(coefficients)


def _translated(frames: Tensor, box: Box, share: float, dim: int) -> Tensor:
    """Return a box of frames translated by whole pixels.

    Args:
        frames: uint8 `[T, 3, H, W]`.
        box: wanted box of the result.
        share: translation in shares of the side, positive to the right or down.
        dim: -2 for rows, -1 for columns.
    """
    result = torch.full_like(crop(frames, box), FILL)
    size = frames.shape[dim]
    first = box[dim + 2]
    shift = round(share * size)
    # Rows (or columns) of the input that are visible in the box.
    start = min(max(first - shift, 0), size)
    stop = min(max(first + box[dim] - shift, 0), size)
    if dim == -1:
        band = crop(frames, (box[0], 0, box[2], size))
    else:
        band = crop(frames, (0, box[1], size, box[3]))
    target = min(max(start + shift - first, 0), box[dim])
    result.narrow(dim, target, stop - start).copy_(band.narrow(dim, start, stop - start))
    return result


# Bilinear.


def warp_bilinearly(matrix: Matrix, about_center: bool) -> Op:
    """Return the op of a linear map, sampled bilinearly."""
    linear = torch.tensor(matrix)

    def apply(frames: Tensor, box: Box) -> Tensor:
        """Sample a box of the result."""
        y, x, height, width = box
        grid = _sampling_grid((frames.shape[-2], frames.shape[-1]), linear, about_center)
        return _sample_bilinearly(frames, grid[:, y : y + height, x : x + width].to(frames.device))

    def input_box(box: Box, size: Size) -> Box:
        """Return the bounding box of the positions that a box is sampled at."""
        y, x, height, width = box
        grid = _sampling_grid(size, linear, about_center)[0]
        # A linear map takes the extremes of a box to the extremes of its image.
        corners = grid[[y, y + height - 1]][:, [x, x + width - 1]].flatten(0, 1)
        positions = ((corners + 1) * torch.tensor([size[1], size[0]]) - 1) / 2
        left, top = positions.amin(0).floor().int().tolist()
        right, bottom = positions.amax(0).ceil().int().tolist()
        # One pixel more on each side: bilinear sampling reads neighbours.
        return clip_box(top - 1, left - 1, bottom + 2, right + 2, size)

    return Op(apply, input_box)


def _sampling_grid(size: Size, matrix: Tensor, about_center: bool) -> Tensor:
    """Return the sampling grid of a linear map of pixel positions.

    Args:
        size: height and width of the frame.
        matrix: float32 `[2, 2]`, from (x, y) of the result to (x, y) of the input, in pixels.
        about_center: positions are measured from the frame's centre instead of its first corner.

    Returns:
        float32 `[1, H, W, 2]` in the normalised coordinates of `grid_sample`.
    """
    half = torch.tensor([size[1] / 2, size[0] / 2])
    scaled = matrix * half / half[:, None]
    offset = torch.zeros(2) if about_center else scaled.sum(dim=1) - 1
    theta = torch.cat([scaled, offset[:, None]], dim=1)[None]
    return functional.affine_grid(theta, [1, 1, *size], align_corners=False)


def _sample_bilinearly(frames: Tensor, grid: Tensor) -> Tensor:
    """Sample frames at a grid, grey outside.

    Args:
        frames: uint8 `[T, 3, H, W]`.
        grid: float32 `[1, h, w, 2]`.

    Returns:
        uint8 `[T, 3, h, w]`.
    """
    warped = frames.new_empty((*frames.shape[:2], *grid.shape[1:3]))
    for part, result in zip(frames.split(CHUNK), warped.split(CHUNK), strict=True):
        # All planes of a few frames are channels of one picture, so that positions and weights are
        # computed once, not once a frame. `grid_sample` pads with 0: subtract the grey before.
        planes = part.flatten(0, 1)[None].float().sub_(FILL)
        sampled = functional.grid_sample(planes, grid, mode="bilinear", align_corners=False)
        result.copy_(sampled.add_(FILL).round_().view_as(result))
    return warped


# Bicubic.


def warp_bicubically(matrix: Matrix, about_center: bool) -> Op:
    """Return the op of a linear map, sampled bicubically by Pillow."""
    (xx, xy), (yx, yy) = matrix
    if not about_center:
        return _bicubic_op(lambda size: (xx, xy, 0.0, yx, yy, 0.0))

    def coefficients(size: Size) -> tuple[float, ...]:
        """Return Pillow's six numbers for frames of a size."""
        # Digits and sums of `PIL.Image.rotate`: another rounding moves single levels.
        a, b, d, e = (round(value, ROTATION_DIGITS) for value in (xx, xy, yx, yy))
        x, y = size[1] / 2, size[0] / 2
        return a, b, a * -x + b * -y + x, d, e, d * -x + e * -y + y

    return _bicubic_op(coefficients)


def _bicubic_op(coefficients: Callable[[Size], Sequence[float]]) -> Op:
    """Return the op of an affine map that Pillow samples.

    Args:
        coefficients: function of height and width of frames to a, b, c, d, e, f: pixel (x, y) of
            the result is sampled at (a x + b y + c, d x + e y + f), counted from the first corner.
    """

    def apply(frames: Tensor, box: Box) -> Tensor:
        """Sample a box of the result."""
        y, x, height, width = box
        affine = coefficients((frames.shape[-2], frames.shape[-1]))
        warped = np.empty((len(frames), height, width, 3), np.uint8)
        pictures = frames.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        for picture, result in zip(pictures, warped, strict=True):
            # Pillow counts from the first corner, and an offset would round positions otherwise.
            # So it begins there, and ends with the box.
            sampled = Image.fromarray(picture).transform(
                (x + width, y + height),
                Image.Transform.AFFINE,
                affine,
                Image.Resampling.BICUBIC,
                fillcolor=(FILL, FILL, FILL),
            )
            result[...] = np.asarray(sampled)[y:, x:]
        return torch.from_numpy(warped).permute(0, 3, 1, 2).contiguous().to(frames.device)

    def input_box(box: Box, size: Size) -> Box:
        """Return the bounding box of the pixels that a box is sampled from."""
        y, x, height, width = box
        a, b, c, d, e, f = coefficients(size)
        # Centres of the corner pixels: a linear map takes extremes to extremes.
        columns = np.array([x, x + width - 1, x, x + width - 1]) + 0.5
        rows = np.array([y, y, y + height - 1, y + height - 1]) + 0.5
        across = a * columns + b * rows + c - 0.5
        down = d * columns + e * rows + f - 0.5
        # Bicubic sampling reads one pixel before and two after a position; one more for rounding.
        return clip_box(
            math.floor(down.min()) - 2,
            math.floor(across.min()) - 2,
            math.floor(down.max()) + 4,
            math.floor(across.max()) + 4,
            size,
        )

    return Op(apply, input_box)
