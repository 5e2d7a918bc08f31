"""RandAugment of a whole clip: the same operations for all its frames, and only what is asked for is worked out."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as transforms

from nightcrawler.data.augment.ops import Box, Op, Size, cut, inside, pointwise_op
from nightcrawler.utils.errors import ConfigError

MAX_MAGNITUDE = 10.0
APPLY_PROB = 0.5
# Grey that shows where geometry leaves the frame empty.
FILL = 128
# Frames that are worked on at a time: what is in between then stays in the processor's cache.
CHUNK = 2


def _sign(rng: np.random.Generator) -> float:
    return -1.0 if rng.random() < 0.5 else 1.0


def _grid(size: Size, matrix: Tensor, about_center: bool) -> Tensor:
    """Where each pixel of a frame is sampled, `[1, H, W, 2]` as `grid_sample` counts places: `matrix` times its place.

    Places are measured from the frame's first corner or from its center.
    """
    half = torch.tensor([size[1] / 2, size[0] / 2])
    scaled = matrix * half / half[:, None]
    offset = torch.zeros(2) if about_center else scaled.sum(dim=1) - 1
    theta = torch.cat([scaled, offset[:, None]], dim=1)[None]
    return functional.affine_grid(theta, [1, 1, *size], align_corners=False)


def _warped(frames: Tensor, grid: Tensor) -> Tensor:
    """Sampled bilinearly at the places of `grid`, `[1, h, w, 2]`; what lies outside is grey.

    All planes of a few frames go through `grid_sample` as channels of one picture: places and weights are then worked
    out once, not once a frame.
    """
    warped = frames.new_empty((*frames.shape[:2], *grid.shape[1:3]))
    for part, result in zip(frames.split(CHUNK), warped.split(CHUNK), strict=True):
        planes = part.flatten(0, 1)[None].float().sub_(FILL)
        sampled = functional.grid_sample(planes, grid, mode="bilinear", align_corners=False)
        result.copy_(sampled.add_(FILL).round_().view_as(result))
    return warped


def _warp(matrix: Tensor, about_center: bool = False) -> Op:
    def apply(frames: Tensor, box: Box) -> Tensor:
        y, x, height, width = box
        grid = _grid((frames.shape[-2], frames.shape[-1]), matrix, about_center)
        return _warped(frames, grid[:, y : y + height, x : x + width].to(frames.device))

    def input_box(box: Box, size: Size) -> Box:
        y, x, height, width = box
        corners = _grid(size, matrix, about_center)[0, [y, y + height - 1]][
            :, [x, x + width - 1]
        ].flatten(0, 1)
        places = ((corners + 1) * torch.tensor([size[1], size[0]]) - 1) / 2
        (left, top), (right, bottom) = (
            places.amin(0).floor().int().tolist(),
            places.amax(0).ceil().int().tolist(),
        )
        return inside(top - 1, left - 1, bottom + 2, right + 2, size)

    return Op(apply, input_box)


def _shear(level: float, rng: np.random.Generator, along: int) -> Op:
    matrix = torch.eye(2)
    matrix[along, 1 - along] = _sign(rng) * 0.3 * level
    return _warp(matrix)


def _rotate(level: float, rng: np.random.Generator) -> Op:
    angle = math.radians(_sign(rng) * 30.0 * level)
    cos, sin = math.cos(angle), math.sin(angle)
    return _warp(torch.tensor([[cos, -sin], [sin, cos]]), about_center=True)


def _moved(frames: Tensor, box: Box, share: float, dim: int) -> Tensor:
    """The frames moved along a dimension by a share of its side, in whole pixels."""
    moved = torch.full_like(cut(frames, box), FILL)
    size, first = frames.shape[dim], box[dim + 2]
    shift = round(share * size)
    start, stop = (min(max(edge - shift, 0), size) for edge in (first, first + box[dim]))
    across = cut(frames, (box[0], 0, box[2], size) if dim == -1 else (0, box[1], size, box[3]))
    moved.narrow(dim, min(max(start + shift - first, 0), box[dim]), stop - start).copy_(
        across.narrow(dim, start, stop - start)
    )
    return moved


def _translate(level: float, rng: np.random.Generator, dim: int) -> Op:
    share = _sign(rng) * 0.45 * level

    def input_box(box: Box, size: Size) -> Box:
        down, right = (round(share * size[at]) if at == dim + 2 else 0 for at in (0, 1))
        y, x, height, width = box
        return inside(y - down, x - right, y - down + height, x - right + width, size)

    return Op(lambda frames, box: _moved(frames, box, share, dim), input_box)


def indexed(frames: Tensor, table: Tensor) -> Tensor:
    """The entry of `table`, uint8 `[256]`, for every level, as any device can find it."""
    return table.to(frames.device)[frames.int()]


def look_up(frames: Tensor, table: Tensor) -> Tensor:
    """The same, on a CPU by the fastest of all ways: as bytes."""
    if frames.device.type != "cpu":
        return indexed(frames, table)
    looked_up = bytearray(frames.contiguous().numpy()).translate(table.numpy().tobytes())
    return torch.frombuffer(looked_up, dtype=torch.uint8).view_as(frames)


def _by_table(op: Callable[[Tensor], Tensor]) -> Op:
    """An op that sees one level at a time, worked out for the 256 there are and looked up."""
    table = op(torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16))[
        0, 0
    ].flatten()
    return pointwise_op(lambda frames: look_up(frames, table))


def _by_plane(frames: Tensor, box: Box, tables: Tensor) -> Tensor:
    """The box, every plane looked up in its own table of `tables`, uint8 `[T, 3, 256]`."""
    planes, made = cut(frames, box).flatten(0, 1), frames.new_empty((*frames.shape[:2], *box[2:]))
    for plane, table, result in zip(planes, tables.flatten(0, 1), made.flatten(0, 1), strict=True):
        result.copy_(look_up(plane, table))
    return made


def _auto_contrast(frames: Tensor, box: Box) -> Tensor:
    """By torchvision, of all levels cut to a plane's range: they have the range of the plane, so they get its table."""
    darkest, lightest = (
        extreme(dim=(-2, -1))[..., None, None].cpu() for extreme in (frames.amin, frames.amax)
    )
    levels = torch.arange(256, dtype=torch.uint8).view(1, 256)
    ramps = torch.minimum(torch.maximum(levels, darkest), lightest)
    return _by_plane(frames, box, transforms.autocontrast(ramps).flatten(2))


def counted(plane: Tensor) -> np.ndarray:
    """How often each level comes in uint8 `[H, W]`, int `[256]`, as any device can count it."""
    return torch.bincount(plane.flatten(), minlength=256).cpu().numpy()


def histogram(plane: Tensor) -> np.ndarray:
    """The same, on a CPU by Pillow: twice as fast."""
    if plane.device.type != "cpu":
        return counted(plane)
    return np.array(Image.fromarray(plane.numpy()).histogram())


def equalize_table(counts: np.ndarray) -> np.ndarray:
    """uint8 `[256]`: the level that equalising gives each of the levels that come `counts` times, int `[256]`.

    Levels are spread by how many pixels are darker; the lightest that comes is left out of the step between them.
    """
    step = int(counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
    if step == 0:
        return np.arange(256, dtype=np.uint8)
    darker = np.cumsum(counts) - counts
    return np.minimum((darker + step // 2) // step, 255).astype(np.uint8)


def _equalize(frames: Tensor, box: Box) -> Tensor:
    tables = np.stack([equalize_table(histogram(plane)) for plane in frames.flatten(0, 1)])
    return _by_plane(frames, box, torch.from_numpy(tables).view(*frames.shape[:2], 256))


def _posterize(level: float, rng: np.random.Generator) -> Op:
    return pointwise_op(lambda frames: transforms.posterize(frames, 4 - int(4 * level)))


def _solarize(level: float, rng: np.random.Generator) -> Op:
    threshold = 256 - min(256, int(256 * level))
    return _by_table(
        lambda levels: transforms.solarize(levels, threshold) if threshold < 256 else levels
    )


def _add_below_half(levels: Tensor, added: int) -> Tensor:
    return torch.where(
        levels < 128, (levels.to(torch.int16) + added).clamp_(max=255).to(torch.uint8), levels
    )


def _solarize_add(level: float, rng: np.random.Generator) -> Op:
    return _by_table(lambda levels: _add_below_half(levels, min(128, int(110 * level))))


def _factor(level: float, rng: np.random.Generator) -> float:
    """Strength of an enhancement: 1 leaves the frames, the distance from 1 grows to 0.9."""
    return max(0.1, 1.0 + _sign(rng) * 0.9 * level)


def saturated(frames: Tensor, factor: float) -> Tensor:
    """Away from or towards each pixel's grey: what torchvision's `adjust_saturation` gives, in two thirds of its time.

    It multiplies bytes by numbers, which are then converted one by one; here a frame is converted first.
    """
    made = torch.empty_like(frames)
    for frame, result in zip(frames, made, strict=True):
        levels = frame.float()
        red, green, blue = levels
        grey = red.mul(0.2989).add_(green, alpha=0.587).add_(blue, alpha=0.114).floor_()
        result.copy_(levels.mul_(factor).add_(grey, alpha=1 - factor).clamp_(0, 255))
    return made


def _color(level: float, rng: np.random.Generator) -> Op:
    factor = _factor(level, rng)
    return pointwise_op(lambda frames: saturated(frames, factor))


def _contrast(level: float, rng: np.random.Generator) -> Op:
    """Away from or towards the mean grey of each frame."""
    factor, levels = _factor(level, rng), torch.arange(256, dtype=torch.uint8)

    def apply(frames: Tensor, box: Box) -> Tensor:
        greys = [
            transforms.rgb_to_grayscale(part).float().mean(dim=(-2, -1))
            for part in frames.split(CHUNK)
        ]
        tables = (
            levels.mul(factor)
            .add(torch.cat(greys).cpu(), alpha=1 - factor)
            .clamp_(0, 255)
            .to(torch.uint8)
        )
        return _by_plane(frames, box, tables[:, None].expand(-1, 3, -1))

    return Op(apply)


def _brightness(level: float, rng: np.random.Generator) -> Op:
    factor = _factor(level, rng)
    return _by_table(lambda levels: transforms.adjust_brightness(levels, factor))


def _sharpened(frames: Tensor, factor: float) -> Tensor:
    """Away from or towards frames smoothed with a 3x3 kernel of ones around a five; the border stays."""
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
    """The neighbours of the box are sharpened with it, where there are any, and cut off."""
    factor = _factor(level, rng)

    def input_box(box: Box, size: Size) -> Box:
        y, x, height, width = box
        return inside(y - 1, x - 1, y + height + 1, x + width + 1, size)

    def apply(frames: Tensor, box: Box) -> Tensor:
        y, x, height, width = box
        around = input_box(box, (frames.shape[-2], frames.shape[-1]))
        return cut(
            _sharpened(cut(frames, around), factor), (y - around[0], x - around[1], height, width)
        )

    return Op(apply, input_box)


# name: (level in [0, 1], rng) to a step; timm's "increasing" set, in its order.
OPS: dict[str, Callable[[float, np.random.Generator], Op]] = {
    "AutoContrast": lambda level, rng: Op(_auto_contrast),
    "Equalize": lambda level, rng: Op(_equalize),
    "Invert": lambda level, rng: pointwise_op(transforms.invert),
    "Rotate": _rotate,
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": _solarize,
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _color,
    "ContrastIncreasing": _contrast,
    "BrightnessIncreasing": _brightness,
    "SharpnessIncreasing": _sharpness,
    "ShearX": functools.partial(_shear, along=0),
    "ShearY": functools.partial(_shear, along=1),
    "TranslateXRel": functools.partial(_translate, dim=-1),
    "TranslateYRel": functools.partial(_translate, dim=-2),
}


@dataclass(frozen=True)
class RandAugment:
    """RandAugment (Cubuk et al. 2020) as timm draws it.

    Attributes:
        magnitude: of operations, 0 to 10.
        num_ops: operations drawn for a clip (with replacement); each is applied with probability 0.5.
        magnitude_std: standard deviation of the magnitude of one operation, cut to [0, 10].
    """

    magnitude: float = 9.0
    num_ops: int = 2
    magnitude_std: float = 0.0

    def draw(self, rng: np.random.Generator) -> list[tuple[str, float]]:
        """(operation, level in [0, 1]) of the operations that are applied."""
        drawn = []
        for name in rng.choice(list(OPS), self.num_ops):
            applied = rng.random() < APPLY_PROB
            magnitude = rng.normal(self.magnitude, self.magnitude_std)
            if applied:
                drawn.append(
                    (str(name), float(np.clip(magnitude, 0.0, MAX_MAGNITUDE)) / MAX_MAGNITUDE)
                )
        return drawn

    def steps(self, rng: np.random.Generator) -> list[Op]:
        """The operations that are applied to a clip."""
        return [OPS[name](level, rng) for name, level in self.draw(rng)]


def parse_rand_augment(text: str) -> RandAugment:
    """The policy of a string such as `rand-m7-n4-mstd0.5-inc1`.

    Raises:
        ConfigError: if it is not `rand` followed by m, n, mstd and inc1 parts (only the increasing set is offered).
    """
    head, *parts = text.split("-")
    values: dict[str, float] = {}
    for part in parts:
        match = re.fullmatch(r"(mstd|m|n(?!.*\.)|inc)(\d+(?:\.\d+)?)", part)
        if match is None:
            raise ConfigError(
                f"AUG.AA_TYPE: '{part}' in '{text}' is not m, n, mstd or inc1 with a number"
            )
        if match[1] in values:
            raise ConfigError(f"AUG.AA_TYPE: '{match[1]}' is in '{text}' twice")
        values[match[1]] = float(match[2])
    if head != "rand" or values.get("inc", 1) != 1:
        raise ConfigError(
            f"AUG.AA_TYPE: '{text}': expected a policy such as rand-m7-n4-mstd0.5-inc1"
        )
    return RandAugment(values.get("m", 9.0), int(values.get("n", 2)), values.get("mstd", 0.0))
