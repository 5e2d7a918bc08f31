"""Build the exported graph: dark uint8 frames in, class probabilities out.

Scaling, enhancement, crop and normalisation are part of the graph, in the order of testing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from nightcrawler.data.lowlight.enhance.build import (
    denoise_window_of,
    enhancement_name_of,
    gammas_of,
)
from nightcrawler.data.lowlight.enhance.gamma import gamma_lut
from nightcrawler.data.transforms import normalise_levels
from nightcrawler.export.resampling import center_taps, resized_sides, scale_pixels, scaled_sides
from nightcrawler.utils.errors import ConfigError

# Enhancements that map each level on its own, so that a table in the graph does them.
INSIDE = ("none", "gamma")
REMEDY = "export with --bright, which leaves frames as they are, and enhance them before the graph"


class FramesToProbs(nn.Module):
    """Scale, enhance, resize, crop and normalise frames as testing does, then run the model.

    Frames may have any size. Scaling is that of decoding (`DATA.DECODE_SHORT_SIDE`): frames that
    were scaled before are left as they are.

    Args:
        model: clips `[B, 3, T, size, size]` to logits `[B, K]`.
        levels: uint8 `[256]`, the new level of each level.
        mean: three means of the normalisation.
        std: three standard deviations of the normalisation.
        size: side of the centre crop in pixels.
        resize: see `transforms.resized_size`.
        short_side: short side that larger frames are scaled down to first, 0 for none.
    """

    levels: Tensor

    def __init__(
        self,
        model: nn.Module,
        levels: np.ndarray,
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
        resize: Sequence[int] = (),
        short_side: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.size = size
        self.resize = tuple(resize)
        self.short_side = short_side
        self.register_buffer("levels", torch.from_numpy(levels.astype(np.float32)))

    def forward(self, frames: Tensor) -> Tensor:
        """Return probabilities float32 `[B, K]` of frames uint8 `[B, T, H, W, 3]`."""
        clips = self._crop(frames).permute(0, 4, 1, 2, 3).contiguous()
        return self.model(normalise_levels(clips, self.mean, self.std)).softmax(dim=1)

    def _crop(self, frames: Tensor) -> Tensor:
        """Return the enhanced central crop, float32 `[B, T, size, size, 3]` in levels."""
        height = torch.full((), frames.shape[2], dtype=torch.float64)
        width = torch.full((), frames.shape[3], dtype=torch.float64)
        if self.short_side:
            height, width = scaled_sides(height, width, self.short_side)
        tall, wide = resized_sides(height, width, self.size, self.resize)
        rows = center_taps(height, tall, self.size)
        columns = center_taps(width, wide, self.size)
        # Only pixels that the crop is interpolated from are scaled and enhanced.
        if self.short_side:
            picked = scale_pixels(frames, height, width, rows.pixels, columns.pixels)
        else:
            picked = frames.index_select(2, rows.pixels).index_select(3, columns.pixels)
        lit = self.levels.index_select(0, picked.flatten().int()).view(picked.shape)
        above, below = lit.split(self.size, dim=2)
        lines = torch.lerp(above, below, rows.shares[:, None, None])
        left, right = lines.split(self.size, dim=3)
        return torch.lerp(left, right, columns.shares[:, None])


def build_levels(cfg: CfgNode, dark: bool) -> np.ndarray:
    """Build the table of the enhancement of testing.

    Args:
        cfg: configuration of the trained model.
        dark: the table of dark clips, else that of bright ones.

    Returns:
        uint8 `[256]`, the new level of each level.

    Raises:
        ConfigError: if testing does more than a table can; names the key.
    """
    name = enhancement_name_of(cfg, "TEST", dark)
    window = denoise_window_of(cfg, "TEST", dark)
    gammas = gammas_of(cfg, "TEST", dark)
    if name not in INSIDE:
        raise ConfigError(
            f"ENHANCE.TEST {name} needs whole pictures, the graph has room for "
            f"{' and '.join(INSIDE)}: {REMEDY}"
        )
    if window > 1:
        raise ConfigError(
            f"ENHANCE.DENOISE_FRAMES {window} needs frames beside those of a clip, which the graph "
            f"does not get: {REMEDY}"
        )
    if len(gammas) > 1:
        raise ConfigError(f"TEST.GAMMAS {gammas}: the graph enhances a clip once: {REMEDY}")
    if gammas:
        return gamma_lut(gammas[0])
    return np.arange(256, dtype=np.uint8)


def build_graph(cfg: CfgNode, model: nn.Module, dark: bool) -> FramesToProbs:
    """Build the graph of a trained model, in evaluation mode and float32.

    Args:
        cfg: configuration of the trained model.
        model: clips to logits.
        dark: enhance frames as testing enhances dark clips.

    Raises:
        ConfigError: if testing enhances clips in a way that cannot be in a graph.
    """
    data = cfg.DATA
    graph = FramesToProbs(
        model,
        build_levels(cfg, dark),
        data.MEAN,
        data.STD,
        size=data.TEST_CROP_SIZE,
        resize=data.TEST_RESIZE,
        short_side=data.DECODE_SHORT_SIDE,
    )
    # Parameters are constants of the graph. Gradients stay enabled while it is traced: norms then
    # remain layers, which runtimes fold into their neighbours.
    graph.float().cpu().to(memory_format=torch.contiguous_format)
    return graph.requires_grad_(False).eval()
