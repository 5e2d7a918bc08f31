"""Fit of the camera model to unlabelled dark clips, and bright clips darkened by fitted cameras.

The noise of a sensor has variance (light / E) + (read noise / E)^2 in linear light, where E is the
number of electrons at light 1 (Foi et al., IEEE TIP 2008). The variance is measured blindly at
several levels of light and a line is fitted to it. Only pixels are used, no label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nightcrawler.config.yaml import YamlFile, read_yaml
from nightcrawler.data.dataset import sample_rng
from nightcrawler.data.lowlight.camera import (
    CameraRanges,
    darken,
    linear_light_lut,
    sample_camera,
)
from nightcrawler.data.lowlight.enhance.luma import LUMA_WEIGHTS
from nightcrawler.data.lowlight.noise import noise_response, pair_positions
from nightcrawler.data.video.decode import Decoded, VideoReader
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.utils.errors import ConfigError

# A darkened split is the same for every model and run, so its draws have a seed of their own.
SEED = 0
# Levels of light that the noise is measured at.
NUM_LEVELS = 8
# Levels with a larger share of black pixels are left out: clipping has removed their noise.
MOST_BLACK = 0.05
# Variance of the luminance of three channels with independent noise, over that of one channel.
LUMA_VARIANCE_SHARE = float((LUMA_WEIGHTS**2).sum())
# Limits of what is believed: clips beyond them are measured badly rather than that dark or clean.
LEAST_MEAN = 0.5
MOST_ELECTRONS = 1e4
MOST_READ_NOISE = 10.0
# Keys of a file of camera ranges, and the least value of each.
KEYS = {"MEAN": 0.01, "ELECTRONS": 0.01, "READ_NOISE": 0.0, "CAST": 0.0}


@dataclass(frozen=True)
class ClipStatistics:
    """Brightness, noise and colour statistics of a dark clip.

    Attributes:
        mean: mean 8-bit code.
        noise: variance of a channel's noise in linear light at the clip's mean light, over that
            mean squared.
        read_noise: read noise in electrons, extrapolated from the noise at lower light.
        cast: log mean linear light of red, green and blue, minus their mean.
    """

    mean: float
    noise: float
    read_noise: float
    cast: tuple[float, ...]


def measure_clip(frames: np.ndarray, indices: Sequence[int]) -> ClipStatistics | None:
    """Measure brightness, noise and cast of a clip.

    Noise is measured in the luminance, which video compression keeps best.

    Args:
        frames: uint8 `[n, H, W, 3]`.
        indices: their indices in the video, increasing.

    Returns:
        The statistics, or `None` if a channel is black, or no two neighbouring frames differ.
    """
    light = np.take(linear_light_lut(), frames)
    channels = light.mean(axis=(0, 1, 2), dtype=np.float64)
    if min(channels) <= 0 or min(frames.shape[1:3]) < 3:
        return None
    # Luminance of linear light, 1 at the clip's mean.
    luma = light @ LUMA_WEIGHTS / np.float32(channels @ LUMA_WEIGHTS)
    pairs = []
    for at in pair_positions(indices):
        # Repeated frames, which some recorders insert, have no noise between them.
        if (luma[at] != luma[at + 1]).any():
            pairs.append((luma[at], luma[at + 1]))
    if not pairs:
        return None
    noise, read_noise = fit_noise(*noise_by_light(pairs))
    return ClipStatistics(float(frames.mean()), noise, read_noise, _log_cast(channels))


def _log_cast(channels: np.ndarray) -> tuple[float, ...]:
    logs = np.log(channels)
    return tuple((logs - logs.mean()).tolist())


def noise_by_light(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Measure the noise at several levels of light, equally frequent.

    Immerkaer's estimate (see `noise.immerkaer`) on differences of neighbouring frames. The level
    of a pixel is the mean of its 3x3 neighbourhood.

    Args:
        pairs: luminance `[H, W]` of neighbouring frames, 1 at the clip's mean.

    Returns:
        Light and variance of one channel's noise at each level, both `[n]`.
    """
    responses = []
    levels = []
    clipped = []
    for first, second in pairs:
        responses.append((np.abs(noise_response(second - first)) / 6).reshape(-1))
        levels.append(_mean_3x3((first + second) / 2).reshape(-1))
        clipped.append(((first <= 0) | (second <= 0))[1:-1, 1:-1].reshape(-1))
    response = np.concatenate(responses)
    light = np.concatenate(levels)
    edges = np.quantile(light, np.linspace(0, 1, NUM_LEVELS + 1)[1:-1])
    group = np.searchsorted(edges, light)
    counts = np.bincount(group, minlength=NUM_LEVELS)

    def group_mean(values: np.ndarray) -> np.ndarray:
        return np.bincount(group, values, NUM_LEVELS) / np.maximum(counts, 1)

    mean_light = group_mean(light)
    mean_response = group_mean(response)
    black = group_mean(np.concatenate(clipped))
    usable = (counts > 0) & (mean_light > 0) & (mean_response > 0)
    kept = usable & (black <= MOST_BLACK)
    # A line needs two levels: clips that are black nearly everywhere use all of theirs.
    if kept.sum() < 2:
        kept = usable
    # Half the variance of a difference is that of a frame.
    luma_variance = np.pi / 2 * mean_response**2 / 2
    return mean_light[kept], (luma_variance / LUMA_VARIANCE_SHARE)[kept]


def _mean_3x3(picture: np.ndarray) -> np.ndarray:
    """Return the mean of the 3x3 around each inner pixel, `[H - 2, W - 2]`."""
    rows = picture[:-2] + picture[1:-1] + picture[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9


def fit_noise(light: np.ndarray, variance: np.ndarray) -> tuple[float, float]:
    """Fit the Poisson-Gaussian noise model to variances at several levels of light.

    E electrons at light 1 give the variance light / E + (read noise / E)^2: a line with slope and
    intercept of at least 0 is fitted by least squares of relative errors.

    Args:
        light: levels of light, `[n]`.
        variance: variance of the noise at each, `[n]`.

    Returns:
        Variance at light 1, and read noise in electrons.
    """
    # Divided by the variance, so that all levels have the same weight.
    design = np.stack([light, np.ones_like(light)], axis=1) / variance[:, None]
    slope, intercept = np.linalg.lstsq(design, np.ones_like(light), rcond=None)[0]
    if intercept < 0 or len(light) < 2:
        # Shot noise alone: a line through the origin.
        slope = float((light / variance).sum() / ((light / variance) ** 2).sum())
        intercept = 0.0
    elif slope <= 0:
        # Read noise alone: a constant.
        slope = 0.0
        intercept = float((1 / variance).sum() / (1 / variance**2).sum())
    read_noise = np.sqrt(intercept) / max(slope, 1e-9)
    return float(slope + intercept), float(min(read_noise, MOST_READ_NOISE))


def fit_camera_ranges(clips: Sequence[ClipStatistics], scene_cast: float = 0.0) -> CameraRanges:
    """Return camera ranges that cover the 10th to 90th percentile of the measured clips.

    The electrons E of a clip solve noise = 1 / E + (r / E)^2 for the median read noise r.

    Args:
        clips: statistics of the clips, at least one.
        scene_cast: cast (see `cast_std`) of such scenes in normal light, which no camera causes.
    """
    read_noises = np.array([clip.read_noise for clip in clips])
    median = float(np.median(read_noises))
    noise = np.array([clip.noise for clip in clips])
    electrons = (1 + np.sqrt(1 + 4 * noise * median**2)) / (2 * noise)
    means = np.array([clip.mean for clip in clips])
    cast = cast_std([clip.cast for clip in clips])
    least, most = _uniform_range(read_noises)
    return CameraRanges(
        mean=_log_uniform_range(np.maximum(means, LEAST_MEAN)),
        electrons=_log_uniform_range(np.minimum(electrons, MOST_ELECTRONS)),
        read_noise=(max(least, 0.0), max(most, 0.0)),
        # Independent casts add up in variance.
        cast=round(max(cast**2 - scene_cast**2, 0.0) ** 0.5, 4),
    )


def cast_std(casts: Sequence[tuple[float, ...]]) -> float:
    """Estimate the standard deviation of a channel's log gain.

    Three independent numbers lose a third of their variance with their mean, so it is scaled by
    3 / 2.

    Args:
        casts: log gains of red, green and blue of each clip, minus their mean, `[n, 3]`.
    """
    return float(np.sqrt(1.5 * (np.asarray(casts, np.float64) ** 2).mean()))


def _uniform_range(values: np.ndarray) -> tuple[float, float]:
    """Return the ends of the uniform distribution with the values' 10th and 90th percentile."""
    low, high = np.quantile(values, (0.1, 0.9))
    # The two percentiles are 8 tenths apart, so a tenth is an eighth of their distance.
    return round(float(low - (high - low) / 8), 4), round(float(high + (high - low) / 8), 4)


def _log_uniform_range(values: np.ndarray) -> tuple[float, float]:
    low, high = np.exp(_uniform_range(np.log(values)))
    return round(float(low), 4), round(float(high), 4)


# Bright clips recorded by the fitted cameras.


@dataclass(frozen=True)
class DarkenedReader:
    """Video reader that darkens bright videos by the camera model.

    Attributes:
        reader: reader of the bright frames.
        cameras: ranges that the camera of a video is drawn from.
        names: path to name; a video's camera and noise are a function of its name alone.
    """

    reader: VideoReader
    cameras: CameraRanges
    names: Mapping[str, str]

    def probe(self, path: str) -> StreamInfo:
        """Probe the bright video."""
        return self.reader.probe(path)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Decode frames and darken them.

        Args:
            path: video file.
            indices: frames to return, increasing.
            info: result of `probe`.
        """
        decoded = self.reader.decode(path, indices, info)
        rng = sample_rng(SEED, 0, self.names[path])
        camera = sample_camera(rng, self.cameras)
        return replace(decoded, frames=darken(decoded.frames, camera, rng))


def read_camera_ranges(path: Path) -> CameraRanges:
    """Read camera ranges from a YAML file.

    The file holds `MEAN`, `ELECTRONS` and `READ_NOISE`, each `[least, most]`, and the number
    `CAST`. See `CameraRanges` for their units.

    Args:
        path: the file.

    Raises:
        ConfigError: if a key is missing, unknown or has another value, with file, line and key.
    """
    file = read_yaml(path)
    for key in (*file.values, *KEYS):
        if key not in KEYS or key not in file.values:
            raise ConfigError(
                f"{file.at(key)}: {key}: expected {', '.join(KEYS)}, each of them and nothing else"
            )
    cast, _ = _read_range(file, "CAST")
    return CameraRanges(
        mean=_read_range(file, "MEAN"),
        electrons=_read_range(file, "ELECTRONS"),
        read_noise=_read_range(file, "READ_NOISE"),
        cast=cast,
    )


def _read_range(file: YamlFile, key: str) -> tuple[float, float]:
    """Return the two ends of a range, equal for a single number."""
    value = file.values[key]
    found = value if isinstance(value, list) and key != "CAST" else [value, value]
    if (
        len(found) != 2
        # A bool is an int, but no number here.
        or not all(type(end) in (int, float) for end in found)
        or not KEYS[key] <= found[0] <= found[1]
    ):
        expected = "a number" if key == "CAST" else "[least, most]"
        raise ConfigError(
            f"{file.at(key)}: {key}: {value!r}, expected {expected} from {KEYS[key]:g}"
        )
    return float(found[0]), float(found[1])
