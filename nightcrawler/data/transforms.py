"""The test transform: enhance, resize the short side, normalise, crop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nightcrawler.data.video.integrity.limits import RESIZED_FRAMES


def short_side_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Return (height, width) after the short side becomes `size`.

    The long side is rounded down.
    """
    if (width <= height and width == size) or (height <= width and height == size):
        return height, width
    if width < height:
        return int(np.floor(float(height) / width * size)), size
    return size, int(np.floor(float(width) / height * size))


def resized_size(height: int, width: int, size: int, resize: Sequence[int]) -> tuple[int, int]:
    """Return (height, width) that frames are resized to before they are cropped.

    Args:
        height: height of the frames in pixels.
        width: width of the frames in pixels.
        size: side of the crops in pixels.
        resize: short side, or height and width whatever the proportions. Empty for a short side of
            `size`.
    """
    if len(resize) == 2:
        return resize[0], resize[1]
    short = resize[0] if resize else size
    return short_side_size(height, width, short)


def uniform_crop_offsets(height: int, width: int, size: int, spatial_idx: int) -> tuple[int, int]:
    """Return the offsets of a square crop.

    Args:
        height: height of the frame in pixels.
        width: width of the frame in pixels.
        size: side of the crop in pixels.
        spatial_idx: 0 for the start of the longer side, 1 for its centre, 2 for its end.

    Returns:
        (y, x) of the upper left corner.
    """
    y = int(np.ceil((height - size) / 2))
    x = int(np.ceil((width - size) / 2))
    if height > width:
        return (0, y, height - size)[spatial_idx], x
    return y, (0, x, width - size)[spatial_idx]


def crop_positions(num_crops: int) -> tuple[int, ...]:
    """Return the spatial indices of 1 (centre) or 3 crops, see `uniform_crop_offsets`.

    Raises:
        ValueError: for any other number.
    """
    # One crop is the centre one of three, so that pairs of 1 and 3 crops can share it.
    positions = {1: (1,), 3: (0, 1, 2)}
    if num_crops not in positions:
        raise ValueError(f"num_crops {num_crops}: expected 1 or 3")
    return positions[num_crops]


def empty_clips(*shape: int, device: torch.device | str = "cpu") -> Tensor:
    """Allocate uninitialised float32 memory for clips."""
    if torch.device(device).type != "cpu":
        return torch.empty(shape, device=device)
    # NumPy's memory has large pages: to fill it takes a fifth of the time.
    return torch.from_numpy(np.empty(shape, np.float32))


def concatenate_clips(clips: Sequence[Tensor]) -> Tensor:
    """Concatenate clips `[S, ...]`, float32 or the bytes of an exported graph, along S."""
    # The common case of one enhancement and one view: nothing to copy.
    if len(clips) == 1:
        return clips[0]
    if clips[0].dtype != torch.float32:
        return torch.cat(list(clips))
    total = sum(len(clip) for clip in clips)
    joined = empty_clips(total, *clips[0].shape[1:], device=clips[0].device)
    return torch.cat(list(clips), out=joined)


def to_clip(frames: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Convert frames to a normalised clip: (x / 255 - mean) / std.

    Args:
        frames: uint8 `[T, H, W, 3]`.
        mean: of each channel, three.
        std: of each channel, three.

    Returns:
        float32 `[3, T, H, W]`.
    """
    clip = torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2).float() / 255.0
    return normalise(clip, mean, std)


def normalise(clip: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Return (x - mean) / std per channel of a clip `[3, T, H, W]`."""
    shift = torch.tensor(mean, dtype=clip.dtype).view(3, 1, 1, 1)
    scale = torch.tensor(std, dtype=clip.dtype).view(3, 1, 1, 1)
    return (clip - shift) / scale


def normalise_levels(clip: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Compute (x / 255 - mean) / std per channel in place.

    Args:
        clip: levels 0..255 as floating point, `[3, T, H, W]`.
        mean: of each channel, three.
        std: of each channel, three.

    Returns:
        The same tensor.
    """
    # Scaled constants instead of x / 255: one pass over the clip less.
    shift = 255 * torch.tensor(mean, dtype=clip.dtype).view(3, 1, 1, 1)
    scale = 255 * torch.tensor(std, dtype=clip.dtype).view(3, 1, 1, 1)
    return clip.sub_(shift).div_(scale)


def resize_short_side(clip: Tensor, size: int) -> Tensor:
    """Resize `[3, T, H, W]` to a short side of `size`.

    Interpolation is bilinear, without aligned corners and without antialiasing.
    """
    return _resized(clip, short_side_size(clip.shape[-2], clip.shape[-1], size))


def _resized(clip: Tensor, wanted: tuple[int, int]) -> Tensor:
    """Resize `[3, T, H, W]` to a height and width, as `resize_short_side` does."""
    if wanted == tuple(clip.shape[-2:]):
        return clip
    return functional.interpolate(clip, size=wanted, mode="bilinear", align_corners=False)


def spatial_crop(clip: Tensor, size: int, spatial_idx: int) -> Tensor:
    """Resize the short side of `[3, T, H, W]` to `size`, then take one square crop."""
    resized = resize_short_side(clip, size)
    height, width = resized.shape[-2:]
    y, x = uniform_crop_offsets(height, width, size, spatial_idx)
    return resized[..., y : y + size, x : x + size]


def eval_crops(
    frames: np.ndarray,
    *,
    size: int,
    num_crops: int,
    enhance: Callable[[np.ndarray], np.ndarray],
    mean: Sequence[float],
    std: Sequence[float],
    resize: Sequence[int] = (),
) -> Tensor:
    """Make all crops of one view from one resize.

    Normalisation commutes with the resize, and comes after it, where there are fewer pixels.

    Args:
        frames: uint8 `[T, H, W, 3]`.
        size: side of the crops, in pixels.
        num_crops: 1 or 3.
        enhance: enhances uint8 frames.
        mean: of each channel, three.
        std: of each channel, three.
        resize: see `resized_size`.

    Returns:
        float32 `[C, 3, T, size, size]`.
    """
    enhanced = torch.from_numpy(np.ascontiguousarray(enhance(frames)))
    levels = enhanced.permute(3, 0, 1, 2).contiguous()
    height, width = resized_size(levels.shape[-2], levels.shape[-1], size, resize)
    offsets = [
        uniform_crop_offsets(height, width, size, position)
        for position in crop_positions(num_crops)
    ]
    crops = empty_clips(num_crops, 3, len(frames), size, size)
    # A few frames at a time: intermediate values stay in the processor's cache.
    parts = levels.split(RESIZED_FRAMES, dim=1)
    for part, target in zip(parts, crops.split(RESIZED_FRAMES, dim=2), strict=True):
        resized = normalise_levels(_resized(part.float(), (height, width)), mean, std)
        for crop, (y, x) in zip(target, offsets, strict=True):
            crop.copy_(resized[..., y : y + size, x : x + size])
    return crops
