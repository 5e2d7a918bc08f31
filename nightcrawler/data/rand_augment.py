"""RandAugment of a whole clip: the same operations for all its frames, and only what is asked for is worked out."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as transforms

from nightcrawler.utils.errors import ConfigError

MAX_MAGNITUDE = 10.0
APPLY_PROB = 0.5
# Grey that shows where geometry leaves the frame empty.
FILL = 128
# Frames that are worked on at a time: what is in between then stays in the processor's cache.
CHUNK = 2

# (y, x, height, width) of a part of a frame, in pixels.
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Step:
    """An operation with its parameters drawn.

    Attributes:
        apply: (frames uint8 `[T, 3, H, W]`, box) to that box of the result, uint8 `[T, 3, h, w]`.
        local: whether a pixel of the result depends on the same pixel of the frame alone.
    """

    apply: Callable[[Tensor, Box], Tensor]
    local: bool = False


def whole(frames: Tensor) -> Box:
    """The box of all of `[..., H, W]`."""
    return 0, 0, frames.shape[-2], frames.shape[-1]


def cut(frames: Tensor, box: Box) -> Tensor:
    """A view of that box of `[..., H, W]`."""
    y, x, height, width = box
    return frames[..., y : y + height, x : x + width]


def _local(op: Callable[[Tensor], Tensor]) -> Step:
    return Step(lambda frames, box: op(cut(frames, box)), local=True)


def apply_steps(frames: Tensor, steps: Sequence[Step], box: Box) -> Tensor:
    """What is in a box of uint8 frames `[T, 3, H, W]` after all steps.

    Steps after the last that looks at more than one pixel only see the box: the rest is not worked out.
    """
    last = max((number for number, step in enumerate(steps) if not step.local), default=-1)
    frames = frames if last >= 0 else cut(frames, box)
    for number, step in enumerate(steps):
        frames = step.apply(frames.contiguous(), box if number == last else whole(frames))
    return frames


def _sign(rng: np.random.Generator) -> float:
    return -1.0 if rng.random() < 0.5 else 1.0


def _warp(frames: Tensor, box: Box, matrix: Tensor, about_center: bool = False) -> Tensor:
    """Sample every frame at `matrix` times the place of its pixels, bilinearly; what lies outside is grey.

    All planes of a few frames go through `grid_sample` as channels of one picture: places and weights are then worked
    out once, not once a frame. Places are measured from the frame's first corner or from its center.
    """
    height, width = frames.shape[-2:]
    half = torch.tensor([width / 2, height / 2])
    scaled = matrix * half / half[:, None]
    offset = torch.zeros(2) if about_center else scaled.sum(dim=1) - 1
    theta = torch.cat([scaled, offset[:, None]], dim=1)[None].to(frames.device)
    y, x, h, w = box
    grid = functional.affine_grid(theta, [1, 1, height, width], align_corners=False)[:, y : y + h, x : x + w]
    warped = frames.new_empty((*frames.shape[:2], h, w))
    for part, result in zip(frames.split(CHUNK), warped.split(CHUNK), strict=True):
        planes = part.flatten(0, 1)[None].float().sub_(FILL)
        sampled = functional.grid_sample(planes, grid, mode="bilinear", align_corners=False)
        result.copy_(sampled.add_(FILL).round_().view_as(result))
    return warped


def _shear(level: float, rng: np.random.Generator, along: int) -> Step:
    matrix = torch.eye(2)
    matrix[along, 1 - along] = _sign(rng) * 0.3 * level
    return Step(lambda frames, box: _warp(frames, box, matrix))


def _rotate(level: float, rng: np.random.Generator) -> Step:
    angle = math.radians(_sign(rng) * 30.0 * level)
    cos, sin = math.cos(angle), math.sin(angle)
    return Step(lambda frames, box: _warp(frames, box, torch.tensor([[cos, -sin], [sin, cos]]), about_center=True))


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


def _translate(level: float, rng: np.random.Generator, dim: int) -> Step:
    share = _sign(rng) * 0.45 * level
    return Step(lambda frames, box: _moved(frames, box, share, dim))


def indexed(frames: Tensor, table: Tensor) -> Tensor:
    """The entry of `table`, uint8 `[256]`, for every level, as any device can find it."""
    return table.to(frames.device)[frames.int()]


def look_up(frames: Tensor, table: Tensor) -> Tensor:
    """The same, on a CPU by the fastest of all ways: as bytes."""
    if frames.device.type != "cpu":
        return indexed(frames, table)
    looked_up = bytearray(frames.contiguous().numpy()).translate(table.numpy().tobytes())
    return torch.frombuffer(looked_up, dtype=torch.uint8).view_as(frames)


def _by_table(op: Callable[[Tensor], Tensor]) -> Step:
    """An op that sees one level at a time, worked out for the 256 there are and looked up."""
    table = op(torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16))[0, 0].flatten()
    return _local(lambda frames: look_up(frames, table))


def _by_plane(frames: Tensor, box: Box, tables: Tensor) -> Tensor:
    """The box, every plane looked up in its own table of `tables`, uint8 `[T, 3, 256]`."""
    planes, made = cut(frames, box).flatten(0, 1), frames.new_empty((*frames.shape[:2], *box[2:]))
    for plane, table, result in zip(planes, tables.flatten(0, 1), made.flatten(0, 1), strict=True):
        result.copy_(look_up(plane, table))
    return made


def _auto_contrast(frames: Tensor, box: Box) -> Tensor:
    """By torchvision, of all levels cut to a plane's range: they have the range of the plane, so they get its table."""
    darkest, lightest = (extreme(dim=(-2, -1))[..., None, None].cpu() for extreme in (frames.amin, frames.amax))
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


def _posterize(level: float, rng: np.random.Generator) -> Step:
    return _local(lambda frames: transforms.posterize(frames, 4 - int(4 * level)))


def _solarize(level: float, rng: np.random.Generator) -> Step:
    threshold = 256 - min(256, int(256 * level))
    return _by_table(lambda levels: transforms.solarize(levels, threshold) if threshold < 256 else levels)


def _add_below_half(levels: Tensor, added: int) -> Tensor:
    return torch.where(levels < 128, (levels.to(torch.int16) + added).clamp_(max=255).to(torch.uint8), levels)


def _solarize_add(level: float, rng: np.random.Generator) -> Step:
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


def _color(level: float, rng: np.random.Generator) -> Step:
    factor = _factor(level, rng)
    return _local(lambda frames: saturated(frames, factor))


def _contrast(level: float, rng: np.random.Generator) -> Step:
    """Away from or towards the mean grey of each frame."""
    factor, levels = _factor(level, rng), torch.arange(256, dtype=torch.uint8)

    def apply(frames: Tensor, box: Box) -> Tensor:
        greys = [transforms.rgb_to_grayscale(part).float().mean(dim=(-2, -1)) for part in frames.split(CHUNK)]
        tables = levels.mul(factor).add(torch.cat(greys).cpu(), alpha=1 - factor).clamp_(0, 255).to(torch.uint8)
        return _by_plane(frames, box, tables[:, None].expand(-1, 3, -1))

    return Step(apply)


def _brightness(level: float, rng: np.random.Generator) -> Step:
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


def _sharpness(level: float, rng: np.random.Generator) -> Step:
    """The neighbours of the box are sharpened with it, where there are any, and cut off."""
    factor = _factor(level, rng)

    def apply(frames: Tensor, box: Box) -> Tensor:
        y, x, height, width = box
        top, left = max(y - 1, 0), max(x - 1, 0)
        around = frames[..., top : y + height + 1, left : x + width + 1]
        return cut(_sharpened(around, factor), (y - top, x - left, height, width))

    return Step(apply)


# name: (level in [0, 1], rng) to a step; timm's "increasing" set, in its order.
OPS: dict[str, Callable[[float, np.random.Generator], Step]] = {
    "AutoContrast": lambda level, rng: Step(_auto_contrast),
    "Equalize": lambda level, rng: Step(_equalize),
    "Invert": lambda level, rng: _local(transforms.invert),
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
                drawn.append((str(name), float(np.clip(magnitude, 0.0, MAX_MAGNITUDE)) / MAX_MAGNITUDE))
        return drawn

    def steps(self, rng: np.random.Generator) -> list[Step]:
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
            raise ConfigError(f"AUG.AA_TYPE: '{part}' in '{text}' is not m, n, mstd or inc1 with a number")
        if match[1] in values:
            raise ConfigError(f"AUG.AA_TYPE: '{match[1]}' is in '{text}' twice")
        values[match[1]] = float(match[2])
    if head != "rand" or values.get("inc", 1) != 1:
        raise ConfigError(f"AUG.AA_TYPE: '{text}': expected a policy such as rand-m7-n4-mstd0.5-inc1")
    return RandAugment(values.get("m", 9.0), int(values.get("n", 2)), values.get("mstd", 0.0))
