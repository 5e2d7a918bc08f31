"""The user's night: cameras fitted to dark clips, of which only pixels are looked at, and bright clips seen by them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nightcrawler.config.yaml import YamlFile, read_yaml
from nightcrawler.data.dataset import sample_rng
from nightcrawler.data.lowlight.camera import Cameras, darken, sample_camera, to_linear
from nightcrawler.data.lowlight.noise import LUMA, pair_places, second_difference
from nightcrawler.data.video.decode import Decoded, VideoReader
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.utils.errors import ConfigError

# A darkened split is one and the same for every model and run, so its draws have a seed of their own.
SEED = 0
NUM_LEVELS = 8
# Levels of light with more black pixels than this are not measured: black has lost its noise.
MOST_BLACK = 0.05
# Variance of the luminance of three channels' independent noise, over that of one.
LUMA_SHARE = float((LUMA**2).sum())
LEAST_MEAN, MOST_ELECTRONS, MOST_READ_NOISE = 0.5, 1e4, 10.0
# Keys of a file of cameras, and the least that each may be.
KEYS = {"MEAN": 0.01, "ELECTRONS": 0.01, "READ_NOISE": 0.0, "CAST": 0.0}


@dataclass(frozen=True)
class ClipStatistics:
    """What a dark clip tells of its camera.

    Attributes:
        mean: of its 8-bit values.
        noise: variance of a channel's noise in linear light where the light is the clip's mean, over that mean squared.
        read_noise: in electrons, as far as noise in less light tells.
        cast: logarithm of the mean linear light of red, green and blue, over their mean.
    """

    mean: float
    noise: float
    read_noise: float
    cast: tuple[float, ...]


def measure_light(frames: np.ndarray, indices: Sequence[int]) -> ClipStatistics | None:
    """Brightness, noise and cast of a clip; `None` where it is black, or no two neighbouring frames differ.

    Noise is that of the luminance, which video compression keeps best.

    Args:
        frames: uint8 `[n, H, W, 3]`.
        indices: their numbers in the video, increasing.
    """
    light = np.take(to_linear(), frames)
    channels = light.mean(axis=(0, 1, 2), dtype=np.float64)
    if min(channels) <= 0 or min(frames.shape[1:3]) < 3:
        return None
    luma = light @ LUMA / np.float32(channels @ LUMA)
    pairs = [(luma[at], luma[at + 1]) for at in pair_places(indices)]
    pairs = [(first, second) for first, second in pairs if (first != second).any()]
    if not pairs:
        return None
    noise, read_noise = fit_noise(*noise_by_light(pairs))
    return ClipStatistics(float(frames.mean()), noise, read_noise, _cast(channels))


def _cast(channels: np.ndarray) -> tuple[float, ...]:
    logs = np.log(channels)
    return tuple((logs - logs.mean()).tolist())


def noise_by_light(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """ClipStatistics and variance of a channel's noise `[n]` at several levels of light, equally frequent.

    Immerkaer's estimate on differences of neighbouring frames; the level of a pixel is the mean of the 3x3 around it.

    Args:
        pairs: luminance `[H, W]` of neighbouring frames, 1 at the clip's mean.
    """
    shape = (-1,)
    noise = np.concatenate(
        [np.abs(second_difference(second - first)).reshape(shape) for first, second in pairs]
    )
    around = np.concatenate(
        [_mean_around((first + second) / 2).reshape(shape) for first, second in pairs]
    )
    black = np.concatenate(
        [((first <= 0) | (second <= 0))[1:-1, 1:-1].reshape(shape) for first, second in pairs]
    )
    edges = np.quantile(around, np.linspace(0, 1, NUM_LEVELS + 1)[1:-1])
    level = np.searchsorted(edges, around)
    counts = np.bincount(level, minlength=NUM_LEVELS)
    means = [
        np.bincount(level, values, NUM_LEVELS) / np.maximum(counts, 1)
        for values in (around, noise, black)
    ]
    usable = (counts > 0) & (means[0] > 0) & (means[1] > 0)
    clear = usable & (means[2] <= MOST_BLACK)
    kept = clear if clear.sum() >= 2 else usable
    return means[0][kept], (np.pi / 2 * means[1] ** 2 / 2 / LUMA_SHARE)[kept]


def _mean_around(picture: np.ndarray) -> np.ndarray:
    """Mean of the 3x3 around each inner pixel, `[H - 2, W - 2]`."""
    rows = picture[:-2] + picture[1:-1] + picture[2:]
    return (rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:]) / 9


def fit_noise(light: np.ndarray, variance: np.ndarray) -> tuple[float, float]:
    """Variance at light 1, and read noise in electrons, of n levels of light and their variances `[n]`.

    Of E electrons at light 1, shot and read noise make the variance light / E + (read noise / E)^2 at any light: a line
    is laid through the levels, each weighing by its own size, its slope and height not below 0.
    """
    design = np.stack([light, np.ones_like(light)], axis=1) / variance[:, None]
    slope, height = np.linalg.lstsq(design, np.ones_like(light), rcond=None)[0]
    if height < 0 or len(light) < 2:
        slope, height = float((light / variance).sum() / ((light / variance) ** 2).sum()), 0.0
    elif slope <= 0:
        slope, height = 0.0, float((1 / variance).sum() / (1 / variance**2).sum())
    read_noise = np.sqrt(height) / max(slope, 1e-9)
    return float(slope + height), float(min(read_noise, MOST_READ_NOISE))


def fit_cameras(lights: Sequence[ClipStatistics], scene_cast: float = 0.0) -> Cameras:
    """Cameras of whom these clips might be: ranges that hold all but the outermost of them.

    The electrons E of a clip are those that make its noise, given the usual read noise r: noise = 1 / E + (r / E)^2.

    Args:
        lights: of the clips.
        scene_cast: cast (see `cast_of`) that such scenes have in normal light, which is no camera's.
    """
    read_noises = np.array([light.read_noise for light in lights])
    usual = float(np.median(read_noises))
    noise = np.array([light.noise for light in lights])
    electrons = (1 + np.sqrt(1 + 4 * noise * usual**2)) / (2 * noise)
    means = np.array([light.mean for light in lights])
    cast = cast_of([light.cast for light in lights])
    least, most = _spread(read_noises)
    return Cameras(
        mean=_log_spread(np.maximum(means, LEAST_MEAN)),
        electrons=_log_spread(np.minimum(electrons, MOST_ELECTRONS)),
        read_noise=(max(least, 0.0), max(most, 0.0)),
        cast=round(max(cast**2 - scene_cast**2, 0.0) ** 0.5, 4),
    )


def cast_of(casts: Sequence[tuple[float, ...]]) -> float:
    """Standard deviation of independent channels' logarithms that leaves these, each without its mean, `[n, 3]`.

    Without their mean, three independent numbers have two thirds of their variance.
    """
    return float(np.sqrt(1.5 * (np.asarray(casts, np.float64) ** 2).mean()))


def _spread(values: np.ndarray) -> tuple[float, float]:
    """Ends of the even distribution that has the tenth and the ninetieth percentile of the values."""
    low, high = np.quantile(values, (0.1, 0.9))
    return round(float(low - (high - low) / 8), 4), round(float(high + (high - low) / 8), 4)


def _log_spread(values: np.ndarray) -> tuple[float, float]:
    low, high = np.exp(_spread(np.log(values)))
    return round(float(low), 4), round(float(high), 4)


# Bright clips in the user's night


@dataclass(frozen=True)
class DarkenedReader:
    """Read bright videos as dark cameras would have recorded them.

    Attributes:
        reader: reads the bright frames.
        cameras: ranges that the camera of a video is drawn from, by a generator seeded with its name alone.
        names: path to name.
    """

    reader: VideoReader
    cameras: Cameras
    names: Mapping[str, str]

    def probe(self, path: str) -> StreamInfo:
        """Probe the bright video."""
        return self.reader.probe(path)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Decode the frames with the given numbers and darken them."""
        decoded = self.reader.decode(path, indices, info)
        rng = sample_rng(SEED, 0, self.names[path])
        camera = sample_camera(rng, self.cameras)
        return replace(decoded, frames=darken(decoded.frames, camera, rng))


def read_cameras(path: Path) -> Cameras:
    """Read ranges that somebody gives: `MEAN`, `ELECTRONS`, `READ_NOISE` (least and most) and `CAST`, see `Cameras`.

    Raises:
        ConfigError: naming file, line and key.
    """
    file = read_yaml(path)
    for key in {**file.values, **dict.fromkeys(KEYS)}:
        if key not in KEYS or key not in file.values:
            raise ConfigError(
                f"{file.at(key)}: {key}: expected {', '.join(KEYS)}, each of them and nothing else"
            )
    ranges = {key: _numbers(file, key) for key in KEYS}
    return Cameras(ranges["MEAN"], ranges["ELECTRONS"], ranges["READ_NOISE"], ranges["CAST"][0])


def _numbers(file: YamlFile, key: str) -> tuple[float, float]:
    value = file.values[key]
    found = value if isinstance(value, list) and key != "CAST" else [value, value]
    if (
        len(found) != 2
        or not all(type(one) in (int, float) for one in found)
        or not KEYS[key] <= found[0] <= found[1]
    ):
        expected = "a number" if key == "CAST" else "[least, most]"
        raise ConfigError(
            f"{file.at(key)}: {key}: {value!r}, expected {expected} from {KEYS[key]:g}"
        )
    return float(found[0]), float(found[1])
