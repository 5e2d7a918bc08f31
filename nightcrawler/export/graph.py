"""The exported graph: dark uint8 frames in, class probabilities out; lighting and normalisation are part of it."""

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
from nightcrawler.data.transforms import normalise_levels, spatial_crop
from nightcrawler.utils.errors import ConfigError

INSIDE = ("none", "gamma")
HOW_ELSE = "leave frames as they are in the graph with --bright, and light them before it"


class FramesToProbs(nn.Module):
    """Lights, resizes, crops and normalises frames as testing does with a centre crop, then runs the model.

    Args:
        model: clips `[B, 3, T, size, size]` to logits `[B, K]`.
        levels: uint8 `[256]`, what each level becomes.
        mean, std: of the normalisation, three each.
        size: side of the crop, in pixels; frames of that size are neither resized nor cropped.
    """

    def __init__(
        self,
        model: nn.Module,
        levels: np.ndarray,
        mean: Sequence[float],
        std: Sequence[float],
        size: int,
    ) -> None:
        super().__init__()
        self.model, self.mean, self.std, self.size = model, tuple(mean), tuple(std), size
        self.register_buffer("levels", torch.from_numpy(levels.astype(np.float32)))

    def forward(self, frames: Tensor) -> Tensor:
        """Frames uint8 `[B, T, H, W, 3]` to probabilities float32 `[B, K]`."""
        lit = self.levels.index_select(0, frames.flatten().int()).view(frames.shape)
        crops = spatial_crop(lit.permute(0, 4, 1, 2, 3).flatten(0, 1), self.size, 1)
        clips = crops.unflatten(0, (-1, 3)).contiguous()
        return self.model(normalise_levels(clips, self.mean, self.std)).softmax(dim=1)


def build_levels(cfg: CfgNode, dark: bool) -> np.ndarray:
    """uint8 `[256]`: what testing makes of each level of a dark (or bright) clip.

    Raises:
        ConfigError: if it does more than that; names the key.
    """
    name, window, gammas = (
        build(cfg, "TEST", dark) for build in (enhancement_name_of, denoise_window_of, gammas_of)
    )
    if name not in INSIDE:
        raise ConfigError(
            f"ENHANCE.TEST {name} looks at whole pictures, the graph has room for {' and '.join(INSIDE)}: {HOW_ELSE}"
        )
    if window > 1:
        raise ConfigError(
            f"ENHANCE.DENOISE_FRAMES {window} needs frames beside those of a clip, which the graph does not see: "
            f"{HOW_ELSE}"
        )
    if len(gammas) > 1:
        raise ConfigError(f"TEST.GAMMAS {gammas}: the graph lights a clip once: {HOW_ELSE}")
    return gamma_lut(gammas[0]) if gammas else np.arange(256, dtype=np.uint8)


def build_graph(cfg: CfgNode, model: nn.Module, dark: bool) -> FramesToProbs:
    """The graph of a trained model, in evaluation mode and float32.

    Raises:
        ConfigError: if testing lights clips in a way that cannot be in it.
    """
    data = cfg.DATA
    graph = FramesToProbs(model, build_levels(cfg, dark), data.MEAN, data.STD, data.TEST_CROP_SIZE)
    # Parameters as constants; gradients stay on while tracing, so that norms are layers that runtimes fold themselves.
    return (
        graph.float().cpu().to(memory_format=torch.contiguous_format).requires_grad_(False).eval()
    )
