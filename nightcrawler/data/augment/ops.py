"""Steps of augmentation whose parameters are drawn: of each, only what is looked at later is worked out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

# (y, x, height, width) of a part of a frame, in pixels.
Box = tuple[int, int, int, int]
# (height, width) of a frame, in pixels.
Size = tuple[int, int]


def _everywhere(box: Box, size: Size) -> Box:
    return 0, 0, *size


@dataclass(frozen=True)
class Op:
    """An operation with its parameters drawn.

    Attributes:
        apply: (frames uint8 `[T, 3, H, W]`, box) to that box of the result, uint8 `[T, 3, h, w]`.
        input_box: (box of the result, size of a frame) to the box that it is made of: all of the frame, where not told.
        local: whether a pixel of the result depends on the same pixel of the frame alone.
    """

    apply: Callable[[Tensor, Box], Tensor]
    input_box: Callable[[Box, Size], Box] = _everywhere
    local: bool = False


def whole(frames: Tensor) -> Box:
    """The box of all of `[..., H, W]`."""
    return 0, 0, frames.shape[-2], frames.shape[-1]


def cut(frames: Tensor, box: Box) -> Tensor:
    """A view of that box of `[..., H, W]`."""
    y, x, height, width = box
    return frames[..., y : y + height, x : x + width]


def inside(top: int, left: int, bottom: int, right: int, size: Size) -> Box:
    """The box between these edges that is inside a frame; one pixel where nothing is."""
    top, left = min(max(top, 0), size[0] - 1), min(max(left, 0), size[1] - 1)
    return top, left, max(min(bottom, size[0]) - top, 1), max(min(right, size[1]) - left, 1)


def pointwise_op(op: Callable[[Tensor], Tensor]) -> Op:
    """The step of an op of frames whose pixels do not see one another."""
    return Op(lambda frames, box: op(cut(frames, box)), lambda box, size: box, local=True)


def apply_ops(frames: Tensor, steps: Sequence[Op], box: Box) -> Tensor:
    """What is in a box of uint8 frames `[T, 3, H, W]` after all steps.

    Each step makes the box that the next one reaches for. What is beside it is left undefined, and not looked at.
    """
    if not steps:
        return cut(frames, box)
    size, boxes = (frames.shape[-2], frames.shape[-1]), [box]
    for step in reversed(steps[1:]):
        boxes.append(step.input_box(boxes[-1], size))
    there = whole(frames)
    for step, wanted in zip(steps, reversed(boxes), strict=True):
        if step.local:
            frames = step.apply(frames, (wanted[0] - there[0], wanted[1] - there[1], *wanted[2:]))
        else:
            frames = step.apply(_in_place(frames, there, size), wanted)
        there = wanted
    return frames


def _in_place(part: Tensor, box: Box, size: Size) -> Tensor:
    """Frames of a size in which a part is where it belongs."""
    if part.shape[-2:] == size:
        return part.contiguous()
    frames = part.new_empty((*part.shape[:2], *size))
    cut(frames, box).copy_(part)
    return frames
