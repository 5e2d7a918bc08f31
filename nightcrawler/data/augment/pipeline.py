"""Training augmentation of a clip, with one draw of parameters for all its frames.

The order is the published one: RandAugment on full frames, random resized crop, flip, erasing. All
parameters are drawn first, so that RandAugment computes only the region that the crop shows.
Normalisation commutes with the linear resize and comes after it: values stay uint8 until then.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from nightcrawler.data.augment.ops import Box, apply_ops, crop
from nightcrawler.data.transforms import empty_clips

# The kernel of `functional.interpolate`, which has no `out` argument itself.
upsample_bilinear2d = torch.ops.aten.upsample_bilinear2d
# Frames that are resized at a time: intermediate results then fit into the processor's cache.
RESIZE_CHUNK = 8
CROP_ATTEMPTS = 10
ERASE_ATTEMPTS = 10
ERASE_AREA = (0.02, 1 / 3)
ERASE_LOG_ASPECT = (math.log(0.3), math.log(1 / 0.3))


def draw_crop(
    height: int,
    width: int,
    scale: tuple[float, float],
    aspect: tuple[float, float],
    rng: np.random.Generator,
) -> Box:
    """Draw a random resized crop (Szegedy et al., CVPR 2015, section 6).

    Area is uniform and aspect ratio log-uniform. After ten draws that do not fit, the largest
    central crop of an allowed aspect ratio is returned.

    Args:
        height: rows of a frame.
        width: columns of a frame.
        scale: least and largest area, in shares of the frame.
        aspect: least and largest width over height.
        rng: generator of the draws.

    Returns:
        (y, x, height, width) in pixels.
    """
    for _ in range(CROP_ATTEMPTS):
        area = rng.uniform(*scale) * height * width
        ratio = math.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1])))
        w = round(math.sqrt(area * ratio))
        h = round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return _draw_position(height, width, h, w, rng)
    # The aspect ratio of the frame, as far as it is allowed.
    ratio = float(np.clip(width / height, *aspect))
    w = min(width, round(height * ratio))
    h = min(height, round(width / ratio))
    return (height - h) // 2, (width - w) // 2, h, w


def draw_erase(height: int, width: int, count: int, rng: np.random.Generator) -> Box | None:
    """Draw a box to erase (Zhong et al., AAAI 2020, algorithm 1).

    Args:
        height: rows of a frame.
        width: columns of a frame.
        count: boxes that share the erased area.
        rng: generator of the draws.

    Returns:
        (y, x, height, width) in pixels, or `None` after ten draws that do not fit.
    """
    for _ in range(ERASE_ATTEMPTS):
        area = rng.uniform(*ERASE_AREA) * height * width / count
        ratio = math.exp(rng.uniform(*ERASE_LOG_ASPECT))
        h = round(math.sqrt(area * ratio))
        w = round(math.sqrt(area / ratio))
        if h < height and w < width:
            return _draw_position(height, width, h, w, rng)
    return None


def _draw_position(height: int, width: int, h: int, w: int, rng: np.random.Generator) -> Box:
    """Draw the position of a box of `h` x `w` pixels inside a frame, row first."""
    y = int(rng.integers(height - h, endpoint=True))
    x = int(rng.integers(width - w, endpoint=True))
    return y, x, h, w


def erase(clip: Tensor, prob: float, mode: str, max_count: int, rng: np.random.Generator) -> Tensor:
    """Erase boxes of a normalised clip in place, the same in every frame.

    Args:
        clip: float32 `[3, T, H, W]`.
        prob: probability that anything is erased.
        mode: `pixel` fills with normal noise, new for every pixel and frame, `rand` with one
            colour, `const` with zero.
        max_count: most boxes.
        rng: generator of the draws.

    Returns:
        `clip`.
    """
    if rng.random() >= prob:
        return clip
    channels, length, height, width = clip.shape
    count = int(rng.integers(1, max_count, endpoint=True))
    for _ in range(count):
        box = draw_erase(height, width, count, rng)
        if box is None:
            continue
        if mode == "pixel":
            filling = rng.standard_normal((channels, length, *box[2:]), dtype=np.float32)
        elif mode == "rand":
            filling = rng.standard_normal((channels, 1, 1, 1), dtype=np.float32)
        else:
            filling = np.zeros(1, np.float32)
        crop(clip, box).copy_(torch.from_numpy(filling))
    return clip


def _to_planes(frames: Tensor) -> Tensor:
    """Return uint8 `[T, H, W, 3]` as contiguous planes `[T, 3, H, W]`."""
    return frames.permute(0, 3, 1, 2).contiguous()


class TrainTransform:
    """Training augmentation of uint8 frames into normalised float32 clips.

    Args:
        size: side of the square crop, in pixels.
        scale: least and largest area of the random crop, in shares of the frame.
        aspect: least and largest width over height of the random crop.
        rand_augment: RandAugment policy such as `rand-m7-n4-mstd0.5-inc1`, empty for none.
        interpolation: `bilinear` or `bicubic`, of RandAugment's geometry.
        flip_prob: probability of a horizontal flip.
        erase_prob: probability of random erasing.
        erase_mode: `pixel`, `rand` or `const`, see `erase`.
        erase_count: most erased boxes.
        mean: means of the normalisation, one a channel, of values in [0, 1].
        std: standard deviations of the normalisation.
        darken: function of frames, uint8 `[T, H, W, 3]`, and a generator to frames as a camera in
            low light would record them, or `None`.
        darken_prob: probability of `darken`.

    Raises:
        ConfigError: if `rand_augment` is no policy.
    """

    def __init__(
        self,
        *,
        size: int,
        scale: Sequence[float],
        aspect: Sequence[float],
        rand_augment: str,
        interpolation: str = "bilinear",
        flip_prob: float,
        erase_prob: float,
        erase_mode: str,
        erase_count: int,
        mean: Sequence[float],
        std: Sequence[float],
        darken: Callable[[np.ndarray, np.random.Generator], np.ndarray] | None = None,
        darken_prob: float = 0.0,
    ) -> None:
        self.size = size
        self.scale = (scale[0], scale[1])
        self.aspect = (aspect[0], aspect[1])
        self.rand_augment = None
        if rand_augment:
            # Its operations import torchvision, which takes longer than importing torch.
            from nightcrawler.data.augment.rand_augment import parse_rand_augment

            self.rand_augment = parse_rand_augment(rand_augment, interpolation)
        self.flip_prob = flip_prob
        self.erase = functools.partial(
            erase, prob=erase_prob, mode=erase_mode, max_count=erase_count
        )
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.darken = darken
        self.darken_prob = darken_prob

    def __call__(self, frames: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Augment the same frames several times.

        Args:
            frames: uint8 `[T, H, W, 3]`.
            rngs: generators, one for each of S copies.

        Returns:
            float32 `[S, 3, T, size, size]` on the device of `frames`.
        """
        clips = empty_clips(len(rngs), 3, len(frames), self.size, self.size, device=frames.device)
        planes = _to_planes(frames)
        for clip, rng in zip(clips, rngs, strict=True):
            # Nothing is drawn if `darken` is off, so that other runs keep their draws.
            if self.darken is not None and rng.random() < self.darken_prob:
                dark = torch.from_numpy(self.darken(frames.cpu().numpy(), rng)).to(frames.device)
                self._augment(_to_planes(dark), rng, clip)
            else:
                self._augment(planes, rng, clip)
        return clips

    def _augment(self, planes: Tensor, rng: np.random.Generator, clip: Tensor) -> None:
        """Write one clip, float32 `[3, T, size, size]`, of uint8 `[T, 3, H, W]`."""
        ops = self.rand_augment.sample_ops(rng) if self.rand_augment is not None else []
        height, width = planes.shape[-2:]
        box = draw_crop(height, width, self.scale, self.aspect, rng)
        cropped = apply_ops(planes, ops, box).permute(1, 0, 2, 3)
        if rng.random() < self.flip_prob:
            cropped = cropped.flip(-1)
        self._resize_and_normalise(cropped, clip)
        self.erase(clip, rng=rng)

    def _resize_and_normalise(self, levels: Tensor, clip: Tensor) -> None:
        """Write (x / 255 - mean) / std of bilinearly resized levels.

        Args:
            levels: uint8 `[3, T, h, w]`.
            clip: float32 `[3, T, size, size]`, written.
        """
        size = (self.size, self.size)
        for channel, out, *moments in zip(levels, clip, self.mean, self.std, strict=True):
            # In units of levels: a division by 255 less for each pixel.
            shift, scale = (255 * torch.tensor(moments)).tolist()
            parts = channel.split(RESIZE_CHUNK)
            for part, result in zip(parts, out.split(RESIZE_CHUNK), strict=True):
                if levels.shape[-2:] == size:
                    result.copy_(part)
                else:
                    pixels = part.to(torch.float32, memory_format=torch.contiguous_format)
                    upsample_bilinear2d.out(pixels[None], size, False, out=result[None])
                result.sub_(shift).div_(scale)
