"""Training augmentation of a whole clip: one draw of parameters for all its frames, from the generator handed in.

The order is the published one: RandAugment on full frames, random resized crop, flip, erasing. Normalisation commutes
with the linear resize and comes after it, on the crop only; values stay uint8 until the crop is cut.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2 import functional as transforms

from nightcrawler.data.views import empty_clips, normalise_levels
from nightcrawler.utils.errors import ConfigError

MAX_MAGNITUDE = 10.0
APPLY_PROB = 0.5
# Grey that shows where geometry leaves the frame empty.
FILL = 128
# Frames that are worked on at a time: what is in between then stays in the processor's cache.
CHUNK = 2
RESIZED = 8
CROP_ATTEMPTS = ERASE_ATTEMPTS = 10
ERASE_AREA = (0.02, 1 / 3)
ERASE_LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))

Op = Callable[[Tensor, float, np.random.Generator], Tensor]


def _sign(rng: np.random.Generator) -> float:
    return -1.0 if rng.random() < 0.5 else 1.0


def _warp(frames: Tensor, matrix: Tensor, about_center: bool = False) -> Tensor:
    """Sample every frame at `matrix` times the place of its pixels, bilinearly; what lies outside is grey.

    All planes of a few frames go through `grid_sample` as channels of one picture: places and weights are then worked
    out once, not once a frame. Places are measured from the frame's first corner or from its center.
    """
    height, width = frames.shape[-2:]
    half = torch.tensor([width / 2, height / 2])
    scaled = matrix * half / half[:, None]
    offset = torch.zeros(2) if about_center else scaled.sum(dim=1) - 1
    theta = torch.cat([scaled, offset[:, None]], dim=1)[None]
    grid = functional.affine_grid(theta, [1, 1, height, width], align_corners=False)
    warped = torch.empty_like(frames)
    for part, result in zip(frames.split(CHUNK), warped.split(CHUNK), strict=True):
        planes = part.flatten(0, 1)[None].float().sub_(FILL)
        sampled = functional.grid_sample(planes, grid, mode="bilinear", align_corners=False)
        result.copy_(sampled.add_(FILL).round_().view_as(part))
    return warped


def _shear(frames: Tensor, amount: float, along: int) -> Tensor:
    matrix = torch.eye(2)
    matrix[along, 1 - along] = amount
    return _warp(frames, matrix)


def _translate(frames: Tensor, share: float, dim: int) -> Tensor:
    """Move the picture along a dimension by a share of its side, in whole pixels."""
    size = frames.shape[dim]
    shift = round(share * size)
    kept = size - abs(shift)
    moved = torch.full_like(frames, FILL)
    moved.narrow(dim, max(shift, 0), kept).copy_(frames.narrow(dim, max(-shift, 0), kept))
    return moved


def _rotate(frames: Tensor, level: float, rng: np.random.Generator) -> Tensor:
    angle = math.radians(_sign(rng) * 30.0 * level)
    cos, sin = math.cos(angle), math.sin(angle)
    return _warp(frames, torch.tensor([[cos, -sin], [sin, cos]]), about_center=True)


def _by_chunk(frames: Tensor, op: Callable[[Tensor], Tensor]) -> Tensor:
    return torch.cat([op(part) for part in frames.split(CHUNK)])


def _by_table(frames: Tensor, op: Callable[[Tensor], Tensor]) -> Tensor:
    """An op that sees one value at a time, worked out for the 256 levels and looked up."""
    table = op(torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16))[0, 0]
    looked_up = bytearray(frames.contiguous().numpy()).translate(table.numpy().tobytes())
    return torch.frombuffer(looked_up, dtype=torch.uint8).view_as(frames)


def _equalize(frames: Tensor) -> Tensor:
    """Pillow's, plane by plane: the same bytes as torchvision's in half the time."""
    equalized = np.empty(frames.shape, np.uint8)
    planes = equalized.reshape(-1, *frames.shape[-2:])
    for plane, result in zip(frames.flatten(0, 1).numpy(), planes, strict=True):
        result[:] = ImageOps.equalize(Image.fromarray(plane))
    return torch.from_numpy(equalized)


def _posterize(frames: Tensor, level: float, rng: np.random.Generator) -> Tensor:
    return transforms.posterize(frames, 4 - int(4 * level))


def _solarize(frames: Tensor, level: float, rng: np.random.Generator) -> Tensor:
    threshold = 256 - min(256, int(256 * level))
    return frames if threshold > 255 else _by_table(frames, lambda x: transforms.solarize(x, threshold))


def _add_below_half(levels: Tensor, added: int) -> Tensor:
    return torch.where(levels < 128, (levels.to(torch.int16) + added).clamp_(max=255).to(torch.uint8), levels)


def _solarize_add(frames: Tensor, level: float, rng: np.random.Generator) -> Tensor:
    return _by_table(frames, lambda x: _add_below_half(x, min(128, int(110 * level))))


def _factor(level: float, rng: np.random.Generator) -> float:
    """Strength of an enhancement: 1 leaves the frames, the distance from 1 grows to 0.9."""
    return max(0.1, 1.0 + _sign(rng) * 0.9 * level)


def _color(frames: Tensor, level: float, rng: np.random.Generator) -> Tensor:
    factor = _factor(level, rng)
    return _by_chunk(frames, lambda part: transforms.adjust_saturation(part, factor))


def _contrast(frames: Tensor, level: float, rng: np.random.Generator) -> Tensor:
    factor = _factor(level, rng)
    return _by_chunk(frames, lambda part: transforms.adjust_contrast(part, factor))


def _brightness(frames: Tensor, level: float, rng: np.random.Generator) -> Tensor:
    factor = _factor(level, rng)
    return _by_table(frames, lambda x: transforms.adjust_brightness(x, factor))


def _sharpness(frames: Tensor, level: float, rng: np.random.Generator) -> Tensor:
    """Away from or towards frames smoothed with a 3x3 kernel of ones around a five; the border stays."""
    factor, sharpened = _factor(level, rng), frames.clone()
    for part, result in zip(frames.split(CHUNK), sharpened.split(CHUNK), strict=True):
        wide = part.to(torch.int16)
        inner = wide[..., 1:-1, 1:-1]
        rows = wide[..., :-2, :] + wide[..., 1:-1, :] + wide[..., 2:, :]
        sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * inner
        smooth = sums.float().div_(13).round_()
        result[..., 1:-1, 1:-1] = smooth.lerp_(inner.float(), factor).clamp_(0, 255)
    return sharpened


# name: op(frames uint8 [T, 3, H, W], level in [0, 1], rng); timm's "increasing" set, in its order.
OPS: dict[str, Op] = {
    "AutoContrast": lambda frames, level, rng: _by_chunk(frames, transforms.autocontrast),
    "Equalize": lambda frames, level, rng: _equalize(frames),
    "Invert": lambda frames, level, rng: transforms.invert(frames),
    "Rotate": _rotate,
    "PosterizeIncreasing": _posterize,
    "SolarizeIncreasing": _solarize,
    "SolarizeAdd": _solarize_add,
    "ColorIncreasing": _color,
    "ContrastIncreasing": _contrast,
    "BrightnessIncreasing": _brightness,
    "SharpnessIncreasing": _sharpness,
    "ShearX": lambda frames, level, rng: _shear(frames, _sign(rng) * 0.3 * level, along=0),
    "ShearY": lambda frames, level, rng: _shear(frames, _sign(rng) * 0.3 * level, along=1),
    "TranslateXRel": lambda frames, level, rng: _translate(frames, _sign(rng) * 0.45 * level, dim=-1),
    "TranslateYRel": lambda frames, level, rng: _translate(frames, _sign(rng) * 0.45 * level, dim=-2),
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

    def __call__(self, frames: Tensor, rng: np.random.Generator) -> Tensor:
        """Augment uint8 frames `[T, 3, H, W]`."""
        for name, level in self.draw(rng):
            frames = OPS[name](frames, level, rng)
        return frames


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


def draw_crop(
    height: int, width: int, scale: Sequence[float], aspect: Sequence[float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """(y, x, height, width) of a crop: area uniform in `scale`, aspect log-uniform in `aspect` (Szegedy et al. 2015).

    After ten draws that do not fit, the largest central crop of an allowed aspect.
    """
    for _ in range(CROP_ATTEMPTS):
        area = rng.uniform(*scale) * height * width
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(height - h, endpoint=True)), int(rng.integers(width - w, endpoint=True)), h, w
    ratio = float(np.clip(width / height, *aspect))
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (height - h) // 2, (width - w) // 2, h, w


def draw_erase(height: int, width: int, count: int, rng: np.random.Generator) -> tuple[int, int, int, int] | None:
    """(y, x, height, width) of a box to erase (Zhong et al. 2020), or `None` when ten draws do not fit."""
    for _ in range(ERASE_ATTEMPTS):
        area = rng.uniform(*ERASE_AREA) * height * width / count
        ratio = math.exp(rng.uniform(*ERASE_LOG_ASPECT))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if h < height and w < width:
            return int(rng.integers(height - h, endpoint=True)), int(rng.integers(width - w, endpoint=True)), h, w
    return None


def erase(clip: Tensor, prob: float, mode: str, max_count: int, rng: np.random.Generator) -> Tensor:
    """Erase up to `max_count` boxes of a normalised clip `[3, T, H, W]`, the same in every frame, in place.

    `pixel` fills with normal noise, new for every pixel and frame; `rand` with one colour; `const` with zero.
    """
    if rng.random() >= prob:
        return clip
    channels, length, height, width = clip.shape
    count = int(rng.integers(1, max_count, endpoint=True))
    for _ in range(count):
        box = draw_erase(height, width, count, rng)
        if box is None:
            continue
        y, x, h, w = box
        shapes = {"pixel": (channels, length, h, w), "rand": (channels, 1, 1, 1)}
        if mode in shapes:
            clip[:, :, y : y + h, x : x + w] = torch.from_numpy(rng.standard_normal(shapes[mode], dtype=np.float32))
        else:
            clip[:, :, y : y + h, x : x + w] = 0.0
    return clip


class TrainTransform:
    """Augments a clip of uint8 frames into a normalised float32 clip.

    Args:
        size: side of the square crop, in pixels.
        scale, aspect: of the random crop.
        rand_augment: policy string, empty for none.
        flip_prob: of a horizontal flip.
        erase_prob, erase_mode, erase_count: of random erasing.
        mean, std: of the normalisation, three each.
        darken: (frames, rng) to frames through a night camera, where wanted.
        darken_prob: its probability.
    """

    def __init__(
        self,
        *,
        size: int,
        scale: Sequence[float],
        aspect: Sequence[float],
        rand_augment: str,
        flip_prob: float,
        erase_prob: float,
        erase_mode: str,
        erase_count: int,
        mean: Sequence[float],
        std: Sequence[float],
        darken: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        darken_prob: float = 0.0,
    ) -> None:
        self.size, self.scale, self.aspect = size, tuple(scale), tuple(aspect)
        self.rand_augment = parse_rand_augment(rand_augment) if rand_augment else None
        self.flip_prob = flip_prob
        self.erase = functools.partial(erase, prob=erase_prob, mode=erase_mode, max_count=erase_count)
        self.mean, self.std = tuple(mean), tuple(std)
        self.darken, self.darken_prob = darken, darken_prob

    def __call__(self, frames: np.ndarray, rng: np.random.Generator) -> Tensor:
        """uint8 `[T, H, W, 3]` to float32 `[3, T, size, size]`."""
        if self.darken is not None and rng.random() < self.darken_prob:
            frames = self.darken(frames, rng)
        clip = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        if self.rand_augment is not None:
            clip = self.rand_augment(clip.contiguous(), rng)
        y, x, h, w = draw_crop(*clip.shape[-2:], self.scale, self.aspect, rng)
        cut = clip[..., y : y + h, x : x + w].permute(1, 0, 2, 3)
        if rng.random() < self.flip_prob:
            cut = cut.flip(-1)
        return self.erase(self._resized(cut), rng=rng)

    def _resized(self, cut: Tensor) -> Tensor:
        """Levels uint8 `[3, T, h, w]` to a normalised float32 clip of the wanted size."""
        size, clip = (self.size, self.size), empty_clips(3, cut.shape[1], self.size, self.size)
        for part, made in zip(cut.split(RESIZED, dim=1), clip.split(RESIZED, dim=1), strict=True):
            levels = part.to(torch.float32, memory_format=torch.contiguous_format)
            if cut.shape[-2:] != size:
                levels = functional.interpolate(levels, size=size, mode="bilinear", align_corners=False)
            made.copy_(normalise_levels(levels, self.mean, self.std))
        return clip
