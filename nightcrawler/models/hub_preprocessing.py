"""Preprocessing that a model folder's own processor does, measured by running it.

Processors write the same arithmetic in several ways (scale, offset, mean), so it is read off their
outputs for black and white pictures: with x in [0, 1], they return (x - mean) / std.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from nightcrawler.utils.errors import UserError

# Larger than a crop of any model, and not square: a resize to a square shows.
PROBE_SIDES = (1080, 1440)
DIGITS = 6


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing of a model folder.

    Attributes:
        mean: of the normalisation, per RGB channel, for pixels in [0, 1].
        std: of the normalisation, per RGB channel.
        size: side of the square crop in pixels.
        resize: short side, or height and width, that frames are resized to before the crop.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    size: int
    resize: tuple[int, ...]


def read_preprocessing(folder: Path, num_frames: int) -> Preprocessing:
    """Return the preprocessing of a model folder.

    Args:
        folder: with the settings of a processor.
        num_frames: T of the model.

    Raises:
        UserError: if the folder has no processor that can be run.
    """
    from transformers import AutoVideoProcessor

    try:
        processor = AutoVideoProcessor.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        black = _processed(processor, num_frames, 0)
        white = _processed(processor, num_frames, 255)
    # A folder may say anything.
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{folder}: its preprocessing cannot be read ({reason}): put the "
            "preprocessor_config.json of the model that it was trained from into the folder"
        ) from None
    height, width = black.shape[-2:]
    if height != width:
        raise UserError(f"{folder}: crops frames to {height}x{width}, expected a square")
    std = 1 / (white - black).mean((0, 1, 3, 4))
    mean = -black.mean((0, 1, 3, 4)) * std
    return Preprocessing(_rounded(mean), _rounded(std), height, _resize_of(processor))


def _processed(processor: Any, num_frames: int, level: int) -> Tensor:
    """Return a video of one level after preprocessing, float64 `[1, T, 3, H, W]`."""
    video = np.full((num_frames, *PROBE_SIDES, 3), level, np.uint8)
    (clip,) = processor([video], return_tensors="pt").values()
    return clip.double()


def _rounded(values: Tensor) -> tuple[float, ...]:
    return tuple(round(value, DIGITS) for value in values.tolist())


def _resize_of(processor: Any) -> tuple[int, ...]:
    """Return the sides that a processor resizes to, in the form of `DATA.TEST_RESIZE`."""
    if not processor.do_resize:
        return ()
    size = processor.size
    if size.shortest_edge:
        return (size.shortest_edge,)
    return (size.height, size.width)
