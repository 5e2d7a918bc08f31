"""Lazily evaluated augmentation ops: each computes only the box that the next op needs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

# (y, x, height, width) of a part of a frame, in pixels.
Box = tuple[int, int, int, int]
# (height, width) of a frame, in pixels.
Size = tuple[int, int]
# Frames that are computed at a time: intermediate results then fit into the processor's cache.
CHUNK = 2


def _whole_frame(box: Box, size: Size) -> Box:
    return 0, 0, *size


@dataclass(frozen=True)
class Op:
    """An augmentation op whose parameters have been drawn.

    Attributes:
        apply: function of frames, uint8 `[T, 3, H, W]`, and a box to that box of the result,
            uint8 `[T, 3, h, w]`.
        input_box: function of a box of the result and the frame's size to the box of the input
            that it is computed from (default: the whole frame).
        pointwise: a pixel of the result depends on the same pixel of the input alone.
    """

    apply: Callable[[Tensor, Box], Tensor]
    input_box: Callable[[Box, Size], Box] = _whole_frame
    pointwise: bool = False


def random_sign(rng: np.random.Generator) -> float:
    """Draw -1 or 1, equally often."""
    return -1.0 if rng.random() < 0.5 else 1.0


def full_box(frames: Tensor) -> Box:
    """Return the box of the whole frame of `[..., H, W]`."""
    return 0, 0, frames.shape[-2], frames.shape[-1]


def crop(frames: Tensor, box: Box) -> Tensor:
    """Return a view of a box of `[..., H, W]`."""
    y, x, height, width = box
    return frames[..., y : y + height, x : x + width]


def clip_box(top: int, left: int, bottom: int, right: int, size: Size) -> Box:
    """Return the part of a box that lies inside a frame, at least one pixel.

    Args:
        top: first row.
        left: first column.
        bottom: row after the last.
        right: column after the last.
        size: height and width of the frame.
    """
    top = min(max(top, 0), size[0] - 1)
    left = min(max(left, 0), size[1] - 1)
    return top, left, max(min(bottom, size[0]) - top, 1), max(min(right, size[1]) - left, 1)


def pointwise_op(function: Callable[[Tensor], Tensor]) -> Op:
    """Return the op of a function that maps every pixel independently of the others."""
    return Op(lambda frames, box: function(crop(frames, box)), lambda box, size: box, True)


def apply_ops(frames: Tensor, ops: Sequence[Op], box: Box) -> Tensor:
    """Apply ops in turn and return a box of the result.

    Each op computes the input box of the next one. Pixels outside it are left undefined and are
    never read.

    Args:
        frames: uint8 `[T, 3, H, W]`, left as they are.
        ops: ops in the order of their application.
        box: wanted box of the result.

    Returns:
        uint8 `[T, 3, h, w]`.
    """
    if not ops:
        return crop(frames, box)
    size = (frames.shape[-2], frames.shape[-1])
    # Boxes of the results, from the last op back to the first.
    boxes = [box]
    for op in reversed(ops[1:]):
        boxes.append(op.input_box(boxes[-1], size))
    # The box of the full frame that `frames` holds at present.
    held = full_box(frames)
    for op, wanted in zip(ops, reversed(boxes), strict=True):
        if op.pointwise:
            relative = (wanted[0] - held[0], wanted[1] - held[1], *wanted[2:])
            frames = op.apply(frames, relative)
        else:
            # Geometry counts in coordinates of the full frame.
            frames = op.apply(_pad_to_frame(frames, held, size), wanted)
        held = wanted
    return frames


def _pad_to_frame(part: Tensor, box: Box, size: Size) -> Tensor:
    """Return frames of a size with a part at its box and the rest uninitialised."""
    if part.shape[-2:] == size:
        return part.contiguous()
    frames = part.new_empty((*part.shape[:2], *size))
    crop(frames, box).copy_(part)
    return frames
