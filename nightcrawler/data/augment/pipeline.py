"""Training augmentation of a whole clip: one draw of parameters for all its frames, from the generator handed in.

The order is the published one: RandAugment on full frames, random resized crop, flip, erasing. What is drawn is drawn
first, so that of RandAugment's work only what the crop shows is done. Normalisation commutes with the linear resize and
comes after it; values stay uint8 until the crop is cut.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from nightcrawler.data.augment.ops import Box, apply_ops, cut
from nightcrawler.data.augment.rand_augment import parse_rand_augment
from nightcrawler.data.transforms import empty_clips

# What `interpolate` calls, told where to write.
upsample_bilinear2d = torch.ops.aten.upsample_bilinear2d
# Frames that are resized at a time: what is in between then stays in the processor's cache.
RESIZED = 8
CROP_ATTEMPTS = ERASE_ATTEMPTS = 10
ERASE_AREA = (0.02, 1 / 3)
ERASE_LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))


def draw_crop(
    height: int,
    width: int,
    scale: Sequence[float],
    aspect: Sequence[float],
    rng: np.random.Generator,
) -> Box:
    """(y, x, height, width) of a crop: area uniform in `scale`, aspect log-uniform in `aspect` (Szegedy et al. 2015).

    After ten draws that do not fit, the largest central crop of an allowed aspect.
    """
    for _ in range(CROP_ATTEMPTS):
        area = rng.uniform(*scale) * height * width
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return (
                int(rng.integers(height - h, endpoint=True)),
                int(rng.integers(width - w, endpoint=True)),
                h,
                w,
            )
    ratio = float(np.clip(width / height, *aspect))
    w, h = min(width, round(height * ratio)), min(height, round(width / ratio))
    return (height - h) // 2, (width - w) // 2, h, w


def draw_erase(height: int, width: int, count: int, rng: np.random.Generator) -> Box | None:
    """(y, x, height, width) of a box to erase (Zhong et al. 2020), or `None` when ten draws do not fit."""
    for _ in range(ERASE_ATTEMPTS):
        area = rng.uniform(*ERASE_AREA) * height * width / count
        ratio = math.exp(rng.uniform(*ERASE_LOG_ASPECT))
        h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if h < height and w < width:
            return (
                int(rng.integers(height - h, endpoint=True)),
                int(rng.integers(width - w, endpoint=True)),
                h,
                w,
            )
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
        shapes = {"pixel": (channels, length, *box[2:]), "rand": (channels, 1, 1, 1)}
        filling = (
            rng.standard_normal(shapes[mode], dtype=np.float32)
            if mode in shapes
            else np.zeros(1, np.float32)
        )
        cut(clip, box).copy_(torch.from_numpy(filling))
    return clip


def _planes(frames: Tensor) -> Tensor:
    """uint8 `[T, H, W, 3]` as planes `[T, 3, H, W]`."""
    return frames.permute(0, 3, 1, 2).contiguous()


class TrainTransform:
    """Augments a clip of uint8 frames into normalised float32 clips.

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
        self.erase = functools.partial(
            erase, prob=erase_prob, mode=erase_mode, max_count=erase_count
        )
        self.mean, self.std = tuple(mean), tuple(std)
        self.darken, self.darken_prob = darken, darken_prob

    def __call__(self, frames: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """uint8 `[T, H, W, 3]` to float32 `[S, 3, T, size, size]` on their device, a clip by each of S generators."""
        clips = empty_clips(len(rngs), 3, len(frames), self.size, self.size, device=frames.device)
        planes = _planes(frames)
        for clip, rng in zip(clips, rngs, strict=True):
            if self.darken is not None and rng.random() < self.darken_prob:
                night = torch.from_numpy(self.darken(frames.cpu().numpy(), rng)).to(frames.device)
                self._augment(_planes(night), rng, clip)
            else:
                self._augment(planes, rng, clip)
        return clips

    def _augment(self, planes: Tensor, rng: np.random.Generator, clip: Tensor) -> None:
        """Write one clip `[3, T, size, size]` of uint8 `[T, 3, H, W]`."""
        steps = self.rand_augment.steps(rng) if self.rand_augment is not None else []
        box = draw_crop(*planes.shape[-2:], self.scale, self.aspect, rng)
        crop = apply_ops(planes, steps, box).permute(1, 0, 2, 3)
        if rng.random() < self.flip_prob:
            crop = crop.flip(-1)
        self._resize(crop, clip)
        self.erase(clip, rng=rng)

    def _resize(self, crop: Tensor, clip: Tensor) -> None:
        """Levels uint8 `[3, T, h, w]` to a normalised float32 clip of the wanted size: (x / 255 - mean) / std."""
        size = (self.size, self.size)
        for plane, made, *moments in zip(crop, clip, self.mean, self.std, strict=True):
            shift, scale = (255 * torch.tensor(moments)).tolist()
            for part, result in zip(plane.split(RESIZED), made.split(RESIZED), strict=True):
                if crop.shape[-2:] == size:
                    result.copy_(part)
                else:
                    levels = part.to(torch.float32, memory_format=torch.contiguous_format)
                    upsample_bilinear2d.out(levels[None], size, False, out=result[None])
                result.sub_(shift).div_(scale)
