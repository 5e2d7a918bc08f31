"""Statistics of dark recordings: what a sensor's noise and compression leave in pixels and bits."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nightcrawler.data.lowlight.camera import linear_light_lut
from nightcrawler.data.lowlight.enhance.luma import LUMA_WEIGHTS
from nightcrawler.data.lowlight.noise import noise_response

# Statistics of a clip that are compared, and their names for people.
STATISTICS = ("mean", "temporal_noise", "spatial_noise", "bits_per_pixel")
# Quantiles of the clips at which statistics are compared.
QUANTILES = (0.2, 0.5, 0.8)
# Smallest statistics that are told apart: noise in 8-bit levels, bits per pixel.
LEAST_MEAN = 0.1
LEAST_NOISE = 1e-3
LEAST_BITS = 1e-4


@dataclass(frozen=True)
class ClipStatistics:
    """Brightness, noise, size and colour of a recording.

    Attributes:
        mean: mean 8-bit code.
        temporal_noise: standard deviation of the noise between neighbouring frames, in levels.
        spatial_noise: standard deviation of the noise and fine texture of a frame, in levels.
        bits_per_pixel: see `compression.RecordingFormat`.
        cast: log mean linear light of red, green and blue, minus their mean.
    """

    mean: float
    temporal_noise: float
    spatial_noise: float
    bits_per_pixel: float
    cast: tuple[float, ...]


def measure_clip(frames: np.ndarray, bits_per_pixel: float) -> ClipStatistics | None:
    """Measure brightness, noise and cast of a clip.

    Noise is that of the luminance, which compression keeps best: Immerkaer's estimate (see
    `noise.immerkaer`) of the frames, and of the differences between them.

    Args:
        frames: uint8 `[n, H, W, 3]`, neighbouring frames.
        bits_per_pixel: size of their packets, see `compression.RecordingFormat`.

    Returns:
        The statistics, or `None` if a channel is black, or there is nothing to compare.
    """
    channels = np.take(linear_light_lut(), frames).mean(axis=(0, 1, 2), dtype=np.float64)
    if len(frames) < 2 or min(frames.shape[1:3]) < 3 or min(channels) <= 0:
        return None
    luma = frames.astype(np.float32) @ LUMA_WEIGHTS
    spatial = [_mean_response(picture) for picture in luma]
    temporal = []
    for first, second in itertools.pairwise(luma):
        # Repeated frames, which some recorders insert, have no noise between them.
        if (first != second).any():
            temporal.append(_mean_response(second - first) / math.sqrt(2))
    logs = np.log(channels)
    return ClipStatistics(
        mean=max(float(frames.mean()), LEAST_MEAN),
        temporal_noise=max(float(np.mean(temporal or [0.0])), LEAST_NOISE),
        spatial_noise=max(float(np.mean(spatial)), LEAST_NOISE),
        bits_per_pixel=max(bits_per_pixel, LEAST_BITS),
        cast=tuple((logs - logs.mean()).tolist()),
    )


def _mean_response(picture: np.ndarray) -> float:
    return float(np.abs(noise_response(picture)).mean()) * math.sqrt(math.pi / 2) / 6


def cast_std(casts: Sequence[tuple[float, ...]]) -> float:
    """Estimate the standard deviation of a channel's log gain.

    Three independent numbers lose a third of their variance with their mean, so it is scaled by
    3 / 2.

    Args:
        casts: log gains of red, green and blue of each clip, minus their mean, `[n, 3]`.
    """
    return float(np.sqrt(1.5 * (np.asarray(casts, np.float64) ** 2).mean()))


def summarise(clips: Sequence[ClipStatistics]) -> dict[str, list[float]]:
    """Return `QUANTILES` of each of `STATISTICS` over clips, and the spread of their cast."""
    quantiles = np.exp(np.quantile(statistics_logs(clips), QUANTILES, axis=0))
    found = {}
    for name, values in zip(STATISTICS, quantiles.T.tolist(), strict=True):
        found[name] = [float(f"{value:.4g}") for value in values]
    found["cast"] = [round(cast_std([clip.cast for clip in clips]), 4)]
    return found


def statistics_logs(clips: Sequence[ClipStatistics]) -> np.ndarray:
    """Return the logarithms of `STATISTICS` of clips, float64 `[n, 4]`."""
    return np.log([[getattr(clip, name) for name in STATISTICS] for clip in clips])
