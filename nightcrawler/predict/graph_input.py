"""Make the input of a graph: frames of a video, chosen as in testing with one view."""

from __future__ import annotations

import functools

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from nightcrawler.data.build_clips import build_view_sampler
from nightcrawler.data.build_video import build_video_reader
from nightcrawler.data.dataset import MultiViewClips
from nightcrawler.data.video.decode import VideoReader
from nightcrawler.utils.errors import UserError

# Names of a graph's input and output.
INPUT = "frames"
OUTPUT = "probs"
# One temporal view and one spatial crop.
ONE_CLIP = (1, 1)
# Height and width of frames, `None` for any.
FrameSize = tuple[int | None, int | None]


def check_size(frames: np.ndarray, size: FrameSize) -> None:
    """Refuse frames that a graph does not take.

    Args:
        frames: uint8 `[T, H, W, 3]`.
        size: height and width of the graph's frames, `None` for any.

    Raises:
        UserError: if the frames have another size.
    """
    for found, wanted in zip(frames.shape[1:3], size, strict=True):
        if wanted not in (None, found):
            given = "x".join(map(str, frames.shape[1:3]))
            raise UserError(
                f"a video of {given} pixels; the graph takes {size[0]}x{size[1]}: "
                f"give --frame-size {given}, or leave it out for frames of any size"
            )


def _clips(frames: np.ndarray, num_crops: int, *, size: FrameSize) -> Tensor:
    assert num_crops == ONE_CLIP[1]
    check_size(frames, size)
    return torch.from_numpy(np.ascontiguousarray(frames))[None]


def build_frames_maker(cfg: CfgNode, size: FrameSize, num_views: int = 1) -> MultiViewClips:
    """Build the maker of a graph's input: one uint8 `[V, T, H, W, 3]` per video.

    Args:
        cfg: configuration of the trained model.
        size: height and width, `None` for any.
        num_views: V, temporal views.
    """
    pairs = [(num_views, ONE_CLIP[1])]
    return MultiViewClips(build_view_sampler(cfg), functools.partial(_clips, size=size), pairs)


def build_camera_reader(cfg: CfgNode) -> VideoReader:
    """Build the reader of frames in the file's own size: scaling down is part of the graph.

    Args:
        cfg: configuration of the trained model.
    """
    unscaled = cfg.clone()
    unscaled.defrost()
    unscaled.DATA.DECODE_SHORT_SIDE = 0
    return build_video_reader(unscaled)
