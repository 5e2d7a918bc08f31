"""Builders of enhancements: functions from uint8 frames `[T, H, W, 3]` to brighter ones.

Their names are in `utils.registries.ENHANCEMENTS`.
Brightness is changed by gamma tables (`gamma`), tile histograms (`clahe`), surround normalisation
(`retinex`) or a network (`zero_dce`). Temporal denoising (`denoise`) precedes them, at decoding.
Modules that need torch are imported by their builders.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from nightcrawler.config.node import get_cfg
from nightcrawler.data.lowlight.enhance.clahe import apply_clahe
from nightcrawler.data.lowlight.enhance.gamma import apply_auto_gamma, apply_gamma, check_uint8
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.registries import ENHANCEMENTS

logger = get_logger(__name__)

Enhance = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EnhanceParams:
    """Parameters of all enhancements, of which each reads its own.

    Attributes:
        gamma: exponent of `gamma` on values in [0, 1].
        target_mean: mean brightness that `auto_gamma` aims at, 0 to 255.
        clahe_clip: most that a bin of `clahe` may hold, in means of a bin.
        clahe_tiles: rows and columns of tiles of `clahe`.
        retinex_sigmas: standard deviations of the surrounds of `retinex`, in pixels.
        zero_dce_weights: file of the weights of `zero_dce`.
    """

    gamma: float
    target_mean: float
    clahe_clip: float
    clahe_tiles: tuple[int, ...]
    retinex_sigmas: tuple[float, ...]
    zero_dce_weights: str


def _identity(frames: np.ndarray) -> np.ndarray:
    return frames


def build_none(params: EnhanceParams) -> Enhance:
    """Build the identity."""
    return _identity


def build_gamma(params: EnhanceParams) -> Enhance:
    """Build a gamma correction that is the same for all clips (published: 0.25)."""
    return functools.partial(apply_gamma, gamma=params.gamma)


def build_auto_gamma(params: EnhanceParams) -> Enhance:
    """Build a gamma correction that brings each clip to the mean brightness `target_mean`."""
    return functools.partial(apply_auto_gamma, target_mean=params.target_mean)


def build_clahe(params: EnhanceParams) -> Enhance:
    """Build contrast-limited adaptive histogram equalisation of each frame's luminance."""
    return functools.partial(apply_clahe, clip=params.clahe_clip, tiles=params.clahe_tiles)


def build_retinex(params: EnhanceParams) -> Enhance:
    """Build multi-scale retinex of luminance, with one stretch for the whole clip."""
    from nightcrawler.data.lowlight.enhance.retinex import apply_retinex

    return functools.partial(apply_retinex, sigmas=params.retinex_sigmas)


def build_zero_dce(params: EnhanceParams) -> Enhance:
    """Build Zero-DCE and read its weights, so that a missing file is an error at the start.

    Raises:
        UserError: if the weights cannot be read.
    """
    from nightcrawler.data.lowlight.enhance.zero_dce import apply_zero_dce, load_dce_net

    return functools.partial(apply_zero_dce, net=load_dce_net(params.zero_dce_weights))


def _checked(frames: np.ndarray, *, apply: Enhance) -> np.ndarray:
    check_uint8(frames)
    return apply(frames)


def build_enhancement(name: str, params: EnhanceParams) -> Enhance:
    """Build an enhancement by name.

    Args:
        name: one of `ENHANCEMENTS.names()`.
        params: parameters of all enhancements.

    Returns:
        Function from uint8 frames `[T, H, W, 3]` to enhanced ones. It raises TypeError for other
        dtypes.

    Raises:
        UserError: if there is no such enhancement, or its weights cannot be read.
    """
    # A partial of module-level functions, so that it can be pickled into loader workers.
    return functools.partial(_checked, apply=ENHANCEMENTS.get(name)(params))


@functools.cache
def _default_params() -> EnhanceParams:
    return enhance_params_from_cfg(get_cfg())


def enhance(frames: np.ndarray, name: str = "gamma", **params: Any) -> np.ndarray:
    """Enhance dark frames.

    Example:
        >>> import numpy as np
        >>> dark = np.full((8, 4, 4, 3), 16, np.uint8)
        >>> bright = enhance(dark, "gamma", gamma=0.25)
        >>> bright.shape, int(bright[0, 0, 0, 0])
        ((8, 4, 4, 3), 128)

    Args:
        frames: RGB frames, uint8 `[T, H, W, 3]`.
        name: `none`, `gamma`, `auto_gamma`, `clahe`, `retinex`, `zero_dce` or any other registered
            enhancement.
        **params: fields of `EnhanceParams`, such as `gamma`, `target_mean` or `zero_dce_weights`.
            The others have the defaults of the configuration.

    Returns:
        uint8 `[T, H, W, 3]`, a new array.

    Raises:
        TypeError: if `frames` is not uint8, or a parameter is unknown.
        ValueError: if `frames` has another shape.
        UserError: if there is no such enhancement, or its weights cannot be read.
    """
    if not isinstance(frames, np.ndarray):
        raise TypeError(f"frames are {type(frames).__name__}, expected a uint8 array [T, H, W, 3]")
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(f"frames have shape {list(frames.shape)}, expected [T, H, W, 3]")
    known = [field.name for field in fields(EnhanceParams)]
    unknown = sorted(set(params) - set(known))
    if unknown:
        raise TypeError(
            f"enhance has no parameter '{unknown[0]}'; expected some of {', '.join(known)}"
        )
    result = build_enhancement(name, replace(_default_params(), **params))(frames)
    # `none` and flat clips come back as they are: a caller may write into the result all the same.
    return result.copy() if result is frames else result


# From configuration: values of section `ENHANCE`, and the enhancements of a split in a phase.


def enhance_params_from_cfg(cfg: CfgNode) -> EnhanceParams:
    """Return the parameters in section `ENHANCE`."""
    section = cfg.ENHANCE
    return EnhanceParams(
        gamma=section.GAMMA,
        target_mean=section.TARGET_MEAN,
        clahe_clip=section.CLAHE_CLIP,
        clahe_tiles=tuple(section.CLAHE_TILES),
        retinex_sigmas=tuple(section.RETINEX_SIGMAS),
        zero_dce_weights=section.ZERO_DCE_WEIGHTS,
    )


def enhancement_name_of(cfg: CfgNode, phase: str, dark: bool) -> str:
    """Return the name of a split's enhancement in a phase.

    Args:
        cfg: configuration.
        phase: `TRAIN`, `ADAPT`, `VAL` or `TEST`.
        dark: the split's clips are dark (bright ones, and joints, are never enhanced).
    """
    return cfg.ENHANCE[phase] if dark and cfg.DATA.INPUT == "frames" else "none"


def denoise_window_of(cfg: CfgNode, phase: str, dark: bool) -> int:
    """Return the number of frames averaged by denoising, 1 where clips are not enhanced."""
    if enhancement_name_of(cfg, phase, dark) == "none":
        return 1
    return cfg.ENHANCE.DENOISE_FRAMES


def gammas_of(cfg: CfgNode, phase: str, dark: bool) -> list[float]:
    """Return the gammas of a split's clips in a phase.

    Several with `TEST.GAMMAS`, one for plain `gamma`, none for other enhancements.
    """
    if enhancement_name_of(cfg, phase, dark) != "gamma":
        return []
    if phase == "TEST" and cfg.TEST.GAMMAS:
        return list(cfg.TEST.GAMMAS)
    return [cfg.ENHANCE.GAMMA]


def build_phase_enhancement(cfg: CfgNode, phase: str, dark: bool) -> Enhance:
    """Build the enhancement of a split in a phase.

    Raises:
        UserError: if the name in `ENHANCE.{phase}` is unknown, or weights cannot be read.
    """
    try:
        return build_enhancement(
            enhancement_name_of(cfg, phase, dark), enhance_params_from_cfg(cfg)
        )
    except UserError as error:
        raise UserError(f"ENHANCE.{phase}: {error}") from None


def build_phase_enhancements(cfg: CfgNode, phase: str, dark: bool) -> list[Enhance]:
    """Build all enhancements of each clip of a split: one, or one a gamma of `TEST.GAMMAS`."""
    gammas = gammas_of(cfg, phase, dark)
    if not gammas:
        return [build_phase_enhancement(cfg, phase, dark)]
    return [functools.partial(apply_gamma, gamma=gamma) for gamma in gammas]


def warn_of_mismatch(adapted: str, tested: str) -> None:
    """Warn if a model is adapted to clips enhanced otherwise than those it is tested on.

    Args:
        adapted: name of the enhancement of adaptation.
        tested: name of the enhancement of testing.
    """
    if adapted != tested:
        logger.warning(
            "ENHANCE.ADAPT is %s and ENHANCE.TEST is %s: adapting to clips that look unlike those "
            "tested on costs accuracy",
            adapted,
            tested,
        )
