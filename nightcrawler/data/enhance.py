"""Ways to light dark frames before a model sees them."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from nightcrawler.utils.registry import Registry

Enhance = Callable[[np.ndarray], np.ndarray]
ENHANCEMENTS = Registry("enhancement")
LEAST_GAMMA, MOST_GAMMA = 0.1, 1.0


@functools.lru_cache(maxsize=256)
def gamma_lut(gamma: float) -> np.ndarray:
    """uint8 `[256]`: 255.999 (x / 255)^gamma, cut to whole numbers, computed in float32 as torchvision does."""
    x = np.arange(256, dtype=np.float32) / np.float32(255)
    lut = (np.power(x, np.float32(gamma)) * np.float32(256 - 1e-3)).clip(0, 255.999).astype(np.uint8)
    lut.setflags(write=False)
    return lut


def apply_gamma(frames: np.ndarray, gamma: float) -> np.ndarray:
    """Gamma correction of uint8 frames `[T, H, W, 3]` by table."""
    if frames.dtype != np.uint8:
        raise TypeError(f"frames are {frames.dtype}, expected uint8")
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
def build_none(gamma: float, target_mean: float) -> Enhance:
    """Frames as they are."""
    return _same


@ENHANCEMENTS.register("gamma")
def build_gamma(gamma: float, target_mean: float) -> Enhance:
    """One gamma for all clips (published: 0.25)."""
    return functools.partial(apply_gamma, gamma=gamma)


@ENHANCEMENTS.register("auto_gamma")
def build_auto_gamma(gamma: float, target_mean: float) -> Enhance:
    """A gamma for each clip, to a mean brightness of `target_mean`."""
    return functools.partial(_auto_gamma, target_mean=target_mean)


def build_enhancement(name: str, *, gamma: float, target_mean: float) -> Enhance:
    """The enhancement `name`: uint8 frames `[T, H, W, 3]` in and out.

    Raises:
        UserError: if there is no such enhancement.
    """
    return ENHANCEMENTS.get(name)(gamma=gamma, target_mean=target_mean)
