"""Make the input of a graph: frames of a video, chosen as in testing with one view, resized."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from nightcrawler.data.build_clips import build_view_sampler
from nightcrawler.data.dataset import MultiViewClips
from nightcrawler.data.transforms import spatial_crop
from nightcrawler.utils.errors import UserError

# One temporal view and one spatial crop.
ONE_CLIP = (1, 1)


def fit_frames(frames: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize the short side of frames (bilinear), crop the centre, and round to whole levels.

    Args:
        frames: uint8 `[T, H, W, 3]`. Frames of the wanted size stay as they are.
        size: wanted height and width.

    Raises:
        UserError: if a size that is not square is wanted, and frames do not have it.
    """
    height, width = size
    if frames.shape[1:3] == (height, width):
        return np.ascontiguousarray(frames)
    if height != width:
        found = "x".join(map(str, frames.shape[1:3]))
        raise UserError(
            f"a video of {found} pixels; the graph takes {height}x{width}: "
            f"give --frame-size {found}"
        )
    levels = torch.from_numpy(np.ascontiguousarray(frames)).permute(3, 0, 1, 2).float()
    return spatial_crop(levels, height, 1).round().byte().permute(1, 2, 3, 0).contiguous().numpy()


def _clips(frames: np.ndarray, num_crops: int, *, size: Sequence[int]) -> Tensor:
    assert num_crops == ONE_CLIP[1]
    return torch.from_numpy(fit_frames(frames, size))[None]


def build_frames_maker(cfg: CfgNode, size: Sequence[int]) -> MultiViewClips:
    """Build the maker of a graph's input: one uint8 `[1, T, H, W, 3]` per video.

    Args:
        cfg: configuration of the trained model.
        size: height and width.
    """
    return MultiViewClips(build_view_sampler(cfg), functools.partial(_clips, size=size), [ONE_CLIP])
