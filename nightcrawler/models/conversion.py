"""Conversion of checkpoint entries to another shape or arrangement.

Kernels are inflated over time, position tables are interpolated, and queries, keys and values are
stacked into one layer or split.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def inflate(kernel: Tensor, time_dim: int, center: bool = False) -> Tensor:
    """Inflate a 2-D kernel over time (Carreira and Zisserman 2017, section 2).

    The kernel is repeated and divided by its length, so that a still clip gives the same as the
    image, or it is put in the middle of zeros.

    Args:
        kernel: `[O, I, H, W]`.
        time_dim: T.
        center: put it in the middle of zeros.

    Returns:
        `[O, I, T, H, W]`.
    """
    if center:
        inflated = kernel.new_zeros(*kernel.shape[:2], time_dim, *kernel.shape[2:])
        inflated[:, :, time_dim // 2] = kernel
        return inflated
    return kernel.unsqueeze(2).repeat(1, 1, time_dim, 1, 1) / time_dim


def resize_table(table: Tensor, grid: Sequence[int], wanted: Sequence[int]) -> Tensor:
    """Interpolate a table of positions linearly to another grid.

    Args:
        table: `[N, C]`.
        grid: sizes of one to three axes with N places.
        wanted: sizes of the same axes with N' places.

    Returns:
        `[N', C]`.
    """
    mode = ("linear", "bilinear", "trilinear")[len(grid) - 1]
    volume = table.float().T.unflatten(1, tuple(grid))
    return functional.interpolate(volume[None], size=tuple(wanted), mode=mode)[0].flatten(1).T


def convert(
    name: str, value: Tensor, target: Tensor, grid: Sequence[int]
) -> tuple[Tensor, str] | None:
    """Convert an entry to the model's shape.

    Args:
        name: of the entry.
        value: of the checkpoint.
        target: of the model.
        grid: the model's grid of tokens, empty without one.

    Returns:
        The converted value and a description, or `None` where no rule applies.
    """
    # A kernel of one frame is a 2-D kernel too.
    kernel = value
    if value.ndim == 5:
        kernel = value.squeeze(2)
    if target.ndim == 5 and kernel.shape == target.shape[:2] + target.shape[3:]:
        time_dim = target.shape[2]
        return inflate(kernel, time_dim), f"2-D kernel inflated over {time_dim} frames"
    if value.numel() == target.numel() and value.squeeze().shape == target.squeeze().shape:
        # The same numbers with axes of length 1 more or fewer: linear layers as 1x1 convolutions.
        return value.reshape(target.shape), f"{list(value.shape)} reshaped to {list(target.shape)}"
    return _convert_positions(name, value, target, grid)


def _convert_positions(
    name: str, value: Tensor, target: Tensor, grid: Sequence[int]
) -> tuple[Tensor, str] | None:
    """Interpolate a position table, or return `None` where sizes do not determine its grid."""
    kind = name.rpartition(".")[2]
    if not kind.startswith(("rel_pos_", "pos_embed")):
        return None
    if value.ndim != target.ndim or value.shape[-1] != target.shape[-1]:
        return None
    change = f"positions {list(value.shape)} interpolated to {list(target.shape)}"
    if kind != "pos_embed":
        resized = _resize_axis_or_square(kind, value, target)
        if resized is None:
            return None
        return resized, change
    if len(grid) != 3:
        return None
    # Class tokens come first and have no place on the grid.
    num_cls = target.shape[1] - math.prod(grid)
    source = _source_grid(value.shape[1] - num_cls, grid)
    if source is None:
        return None
    resized = resize_table(value[0, num_cls:], source, grid)[None]
    table = torch.cat([value[:, :num_cls], resized], dim=1)
    return table, f"{change}, taken as {' x '.join(map(str, source))} of them"


def _resize_axis_or_square(kind: str, value: Tensor, target: Tensor) -> Tensor | None:
    """Interpolate a position table of one axis, or of a square, to the target's size."""
    if kind.startswith("rel_pos_"):
        return resize_table(value, value.shape[:1], target.shape[:1])
    if kind == "pos_embed_temporal":
        return resize_table(value[0], value.shape[1:2], target.shape[1:2])[None]
    # A table of places does not record height and width: only squares are certain.
    side = math.isqrt(value.shape[1])
    target_side = math.isqrt(target.shape[1])
    if side**2 != value.shape[1] or target_side**2 != target.shape[1]:
        return None
    return resize_table(value[0], (side, side), (target_side, target_side))[None]


def _source_grid(tokens: int, grid: Sequence[int]) -> tuple[int, ...] | None:
    """Guess the grid of a table of all times and places, which its length does not determine.

    Try the model's number of frames (a file for another crop size), then the model's places.
    """
    if tokens <= 0:
        return None
    frames, height, width = grid
    side = math.isqrt(tokens // frames)
    if frames * side * side == tokens:
        return frames, side, side
    if tokens % (height * width) == 0:
        return tokens // (height * width), height, width
    return None


def arrange_attention(
    state: dict[str, Tensor], names: Sequence[str]
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Arrange queries, keys and values as in the model, in one layer (`qkv`) or three (`q`...).

    Args:
        state: entries of the checkpoint.
        names: of the model's entries.

    Returns:
        The arranged state, and a description of each change by name.
    """
    arranged = dict(state)
    changes: dict[str, str] = {}
    wanted = set(names)
    for name in state:
        if name in wanted:
            continue
        layer, _, leaf = name.rpartition(".")
        attention, _, kind = layer.rpartition(".")
        whole = f"{attention}.qkv.{leaf}"
        parts = [f"{attention}.{part}.{leaf}" for part in "qkv"]
        if kind == "q" and whole in wanted:
            shapes = {getattr(state.get(part), "shape", None) for part in parts}
            # All three are there, and of one shape.
            if len(shapes) == 1:
                arranged[whole] = torch.cat([arranged.pop(part) for part in parts])
                changes[whole] = "q, k and v stacked"
        elif kind == "qkv" and wanted.issuperset(parts) and len(state[name]) % 3 == 0:
            chunks = arranged.pop(name).chunk(3)
            for part, chunk in zip(parts, chunks, strict=True):
                arranged[part] = chunk
                changes[part] = "taken from qkv"
    return arranged, changes
