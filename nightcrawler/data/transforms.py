"""The test transform: light, normalise, resize the short side, crop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

# Frames of a clip that are resized at a time.
CHUNK = 8


def short_side_size(height: int, width: int, size: int) -> tuple[int, int]:
    """(height, width) after the short side becomes `size`; the long side is rounded down."""
    if (width <= height and width == size) or (height <= width and height == size):
        return height, width
    if width < height:
        return int(np.floor(float(height) / width * size)), size
    return size, int(np.floor(float(width) / height * size))


def uniform_crop_offsets(height: int, width: int, size: int, spatial_idx: int) -> tuple[int, int]:
    """(y, x) of a square crop: 0 at the start of the longer side, 1 in the centre, 2 at its end."""
    y = int(np.ceil((height - size) / 2))
    x = int(np.ceil((width - size) / 2))
    if height > width:
        return {0: 0, 1: y, 2: height - size}[spatial_idx], x
    return y, {0: 0, 1: x, 2: width - size}[spatial_idx]


def crop_positions(num_crops: int) -> tuple[int, ...]:
    """Spatial indices of 1 (centre) or 3 crops.

    Raises:
        ValueError: for any other number.
    """
    positions = {1: (1,), 3: (0, 1, 2)}
    if num_crops not in positions:
        raise ValueError(f"{num_crops} crops: expected 1 or 3")
    return positions[num_crops]


def empty_clips(*shape: int, device: torch.device | str = "cpu") -> Tensor:
    """Uninitialised float32 memory of clips; a CPU's from NumPy: its large pages take a fifth of the time."""
    if torch.device(device).type != "cpu":
        return torch.empty(shape, device=device)
    return torch.from_numpy(np.empty(shape, np.float32))


def join_clips(clips: Sequence[Tensor]) -> Tensor:
    """One float32 tensor `[S, 3, T, h, w]` of several, along their first dimension."""
    if len(clips) == 1:
        return clips[0]
    joined = empty_clips(sum(map(len, clips)), *clips[0].shape[1:], device=clips[0].device)
    return torch.cat(list(clips), out=joined)


def to_clip(frames: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 frames `[T, H, W, 3]` to a normalised float32 clip `[3, T, H, W]`: (x / 255 - mean) / std."""
    clip = torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2).float() / 255.0
    return normalise(clip, mean, std)


def normalise(clip: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x - mean) / std per channel of a clip `[3, T, H, W]`."""
    return (clip - torch.tensor(mean, dtype=clip.dtype).view(3, 1, 1, 1)) / torch.tensor(
        std, dtype=clip.dtype
    ).view(3, 1, 1, 1)


def normalise_levels(clip: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """(x / 255 - mean) / std per channel of levels 0..255, a clip `[3, T, H, W]` that is changed in place."""
    shift, scale = (
        255 * torch.tensor(values, dtype=clip.dtype).view(3, 1, 1, 1) for values in (mean, std)
    )
    return clip.sub_(shift).div_(scale)


def resize_short_side(clip: Tensor, size: int) -> Tensor:
    """Bilinear resize (no corner alignment, no antialiasing) of `[3, T, H, W]` to a short side of `size`."""
    height, width = clip.shape[-2:]
    wanted = short_side_size(height, width, size)
    if wanted == (height, width):
        return clip
    return functional.interpolate(clip, size=wanted, mode="bilinear", align_corners=False)


def spatial_crop(clip: Tensor, size: int, spatial_idx: int) -> Tensor:
    """Resize the short side of `[3, T, H, W]` to `size`, then take one square crop."""
    resized = resize_short_side(clip, size)
    y, x = uniform_crop_offsets(*resized.shape[-2:], size, spatial_idx)
    return resized[..., y : y + size, x : x + size]


def eval_crops(
    frames: np.ndarray,
    *,
    size: int,
    num_crops: int,
    enhance: Callable[[np.ndarray], np.ndarray],
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """All crops of one view from one resize; normalisation commutes with it and comes after, where there is less to do.

    Args:
        frames: uint8 `[T, H, W, 3]`.
        size: short side and crop, in pixels.
        num_crops: 1 or 3.
        enhance: lights uint8 frames.
        mean, std: of the normalisation, three each.

    Returns:
        float32 `[C, 3, T, size, size]`.
    """
    levels = (
        torch.from_numpy(np.ascontiguousarray(enhance(frames))).permute(3, 0, 1, 2).contiguous()
    )
    resized_size = short_side_size(*levels.shape[-2:], size)
    offsets = [
        uniform_crop_offsets(*resized_size, size, position)
        for position in crop_positions(num_crops)
    ]
    crops = empty_clips(num_crops, 3, len(frames), size, size)
    # A few frames at a time: what is in between stays in the processor's cache.
    for part, made in zip(levels.split(CHUNK, dim=1), crops.split(CHUNK, dim=2), strict=True):
        resized = normalise_levels(resize_short_side(part.float(), size), mean, std)
        for crop, (y, x) in zip(made, offsets, strict=True):
            crop.copy_(resized[..., y : y + size, x : x + size])
    return crops
