"""Ways to light dark frames before a model sees them: uint8 frames `[T, H, W, 3]` in and out.

Brightness is set by tables (here), by histograms (`enhance_clahe`), by surroundings (`enhance_retinex`) or by a network
(`enhance_zero_dce`). Temporal denoising comes before, while decoding (`enhance_denoise`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from fvcore.common.config import CfgNode

from nightcrawler.data.lowlight.enhance.clahe import apply_clahe
from nightcrawler.data.lowlight.enhance.retinex import apply_retinex
from nightcrawler.data.lowlight.enhance.zero_dce import apply_zero_dce, load_dce_net
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.registries import ENHANCEMENTS

logger = get_logger(__name__)

Enhance = Callable[[np.ndarray], np.ndarray]
LEAST_GAMMA, MOST_GAMMA = 0.1, 1.0


@dataclass(frozen=True)
class Lighting:
    """How the enhancements are set; each reads its own.

    Attributes:
        gamma: exponent of `gamma`.
        target_mean: mean brightness that `auto_gamma` aims at, of 255.
        clahe_clip, clahe_tiles: see `apply_clahe`.
        retinex_sigmas: see `apply_retinex`, in pixels.
        zero_dce_weights: file of the network's weights.
    """

    gamma: float
    target_mean: float
    clahe_clip: float
    clahe_tiles: tuple[int, ...]
    retinex_sigmas: tuple[float, ...]
    zero_dce_weights: str


@functools.lru_cache(maxsize=256)
def gamma_lut(gamma: float) -> np.ndarray:
    """uint8 `[256]`: 255.999 (x / 255)^gamma, cut to whole numbers, computed in float32 as torchvision does."""
    x = np.arange(256, dtype=np.float32) / np.float32(255)
    lut = (
        (np.power(x, np.float32(gamma)) * np.float32(256 - 1e-3)).clip(0, 255.999).astype(np.uint8)
    )
    lut.setflags(write=False)
    return lut


def _check_levels(frames: np.ndarray) -> None:
    if frames.dtype != np.uint8:
        raise TypeError(f"frames are {frames.dtype}, expected uint8")


def apply_gamma(frames: np.ndarray, gamma: float) -> np.ndarray:
    """Gamma correction of uint8 frames `[T, H, W, 3]` by table."""
    _check_levels(frames)
    return np.take(gamma_lut(gamma), frames)


def gamma_for_mean(frames: np.ndarray, target_mean: float) -> float:
    """The gamma in [0.1, 1] that brings the frames' mean closest to `target_mean` (of 255), by bisection.

    The mean after gamma is computed exactly from the histogram of values.
    """
    counts = np.bincount(frames.reshape(-1), minlength=256)
    values = np.arange(256) / 255.0
    low, high = LEAST_GAMMA, MOST_GAMMA
    for _ in range(30):
        middle = (low + high) / 2
        mean = 255 * float((counts * values**middle).sum()) / counts.sum()
        low, high = (middle, high) if mean > target_mean else (low, middle)
    return round((low + high) / 2, 3)


def _same(frames: np.ndarray) -> np.ndarray:
    return frames


def _auto_gamma(frames: np.ndarray, target_mean: float) -> np.ndarray:
    return apply_gamma(frames, gamma_for_mean(frames, target_mean))


@ENHANCEMENTS.register("none")
def build_none(lighting: Lighting) -> Enhance:
    """Frames as they are."""
    return _same


@ENHANCEMENTS.register("gamma")
def build_gamma(lighting: Lighting) -> Enhance:
    """One gamma for all clips (published: 0.25)."""
    return functools.partial(apply_gamma, gamma=lighting.gamma)


@ENHANCEMENTS.register("auto_gamma")
def build_auto_gamma(lighting: Lighting) -> Enhance:
    """A gamma for each clip, to a mean brightness of `target_mean`."""
    return functools.partial(_auto_gamma, target_mean=lighting.target_mean)


@ENHANCEMENTS.register("clahe")
def build_clahe(lighting: Lighting) -> Enhance:
    """Contrast-limited adaptive histogram equalisation of each frame's luminance."""
    return functools.partial(apply_clahe, clip=lighting.clahe_clip, tiles=lighting.clahe_tiles)


@ENHANCEMENTS.register("retinex")
def build_retinex(lighting: Lighting) -> Enhance:
    """Multi-scale retinex of luminance, one stretch for the whole clip."""
    return functools.partial(apply_retinex, sigmas=lighting.retinex_sigmas)


@ENHANCEMENTS.register("zero_dce")
def build_zero_dce(lighting: Lighting) -> Enhance:
    """Zero-DCE's network; its weights are read here and now."""
    return functools.partial(apply_zero_dce, net=load_dce_net(lighting.zero_dce_weights))


def _light(frames: np.ndarray, *, apply: Enhance) -> np.ndarray:
    _check_levels(frames)
    return apply(frames)


def build_enhancement(name: str, lighting: Lighting) -> Enhance:
    """The enhancement `name`: uint8 frames `[T, H, W, 3]` in and out.

    Raises:
        UserError: if there is no such enhancement, or its weights cannot be read.
    """
    return functools.partial(_light, apply=ENHANCEMENTS.get(name)(lighting))


def build_lighting(cfg: CfgNode) -> Lighting:
    """The settings of `ENHANCE`."""
    enhance = cfg.ENHANCE
    return Lighting(
        gamma=enhance.GAMMA,
        target_mean=enhance.TARGET_MEAN,
        clahe_clip=enhance.CLAHE_CLIP,
        clahe_tiles=tuple(enhance.CLAHE_TILES),
        retinex_sigmas=tuple(enhance.RETINEX_SIGMAS),
        zero_dce_weights=enhance.ZERO_DCE_WEIGHTS,
    )


def build_phase_name(cfg: CfgNode, phase: str, dark: bool) -> str:
    """How a split is lit in a phase (`TRAIN`, `ADAPT`, `VAL`, `TEST`); bright splits are left alone."""
    return cfg.ENHANCE[phase] if dark else "none"


def build_denoise_window(cfg: CfgNode, phase: str, dark: bool) -> int:
    """Frames that are averaged before a split is lit in a phase; 1 where it is not lit."""
    return 1 if build_phase_name(cfg, phase, dark) == "none" else cfg.ENHANCE.DENOISE_FRAMES


def build_phase_enhancement(cfg: CfgNode, phase: str, dark: bool) -> Enhance:
    """The enhancement of a split in a phase."""
    return build_enhancement(build_phase_name(cfg, phase, dark), build_lighting(cfg))


def build_gammas(cfg: CfgNode, phase: str, dark: bool) -> list[float]:
    """The gammas that a split's clips are seen with in a phase: one, several (`TEST.GAMMAS`), or none at all."""
    if build_phase_name(cfg, phase, dark) != "gamma":
        return []
    return list(cfg.TEST.GAMMAS) if phase == "TEST" and cfg.TEST.GAMMAS else [cfg.ENHANCE.GAMMA]


def build_phase_enhancements(cfg: CfgNode, phase: str, dark: bool) -> list[Enhance]:
    """The ways that each clip of a split is lit in a phase: one, or several where `TEST.GAMMAS` says so."""
    gammas = build_gammas(cfg, phase, dark)
    if not gammas:
        return [build_phase_enhancement(cfg, phase, dark)]
    return [functools.partial(apply_gamma, gamma=gamma) for gamma in gammas]


def warn_of_mismatch(adapted: str, tested: str) -> None:
    """Say so where a model is adapted to clips that are lit in another way than those it is tested on."""
    if adapted != tested:
        why = "adapting to clips that look unlike those tested on costs accuracy"
        logger.warning("ENHANCE.ADAPT is %s and ENHANCE.TEST is %s: %s", adapted, tested, why)
