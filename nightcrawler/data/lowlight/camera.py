"""A night camera: what a sensor with too little light would have recorded of a well-lit clip.

8-bit values become linear light; an optional spot of light and a colour cast are laid over it; a gain brings the mean
to what the night leaves; photons arrive with shot noise and are read with read noise; the result is coded back to
8 bits. (Video compression, which also eats dark detail, is the writer's.)
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

GAMMA = 2.2
SPOT_PROB = 0.6
NUM_STEPS = 1 << 20


@dataclass(frozen=True)
class DarkCamera:
    """One camera in one night.

    Attributes:
        mean: mean of the dark clip, 8-bit, before noise and rounding.
        electrons: photo-electrons of a pixel at the clip's mean light.
        read_noise: standard deviation of the electronics, in electrons.
        cast: gain of red, green and blue.
        spot: (y, x, radius) of a pool of light in shares of the frame, or `None` for even light.
        spot_floor: light outside the pool, as a share of its centre's.
    """

    mean: float
    electrons: float
    read_noise: float
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    spot: tuple[float, float, float] | None = None
    spot_floor: float = 1.0


@dataclass(frozen=True)
class Cameras:
    """What cameras are drawn from.

    Attributes:
        mean: least and most mean of a dark clip (8-bit), drawn evenly in its logarithm.
        electrons: least and most photo-electrons at that mean, likewise.
        read_noise: least and most read noise, in electrons, drawn evenly.
        cast: standard deviation of the logarithm of each channel's gain.
    """

    mean: tuple[float, float]
    electrons: tuple[float, float]
    read_noise: tuple[float, float]
    cast: float


PRESETS = {
    "night": Cameras(mean=(9.0, 26.0), electrons=(15.0, 60.0), read_noise=(1.0, 3.0), cast=0.25),
    "darker": Cameras(mean=(5.0, 15.0), electrons=(4.0, 20.0), read_noise=(1.5, 4.0), cast=0.35),
}


def sample_camera(rng: np.random.Generator, cameras: Cameras) -> DarkCamera:
    """Draw a camera."""
    cast = np.exp(rng.normal(0.0, cameras.cast, 3))
    has_spot = rng.random() < SPOT_PROB
    spot = (rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.8))
    return DarkCamera(
        mean=float(np.exp(rng.uniform(*np.log(cameras.mean)))),
        electrons=float(np.exp(rng.uniform(*np.log(cameras.electrons)))),
        read_noise=float(rng.uniform(*cameras.read_noise)),
        cast=(float(cast[0]), float(cast[1]), float(cast[2])),
        spot=spot if has_spot else None,
        spot_floor=float(rng.uniform(0.15, 0.5)) if has_spot else 1.0,
    )


@functools.lru_cache(maxsize=1)
def to_linear() -> np.ndarray:
    """float32 `[256]`: linear light, 1 at white, of each 8-bit code."""
    return ((np.arange(256) / 255.0) ** GAMMA).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _to_coded() -> np.ndarray:
    """uint8 code of linear light in steps of 1 / NUM_STEPS."""
    return np.rint(255.0 * (np.arange(NUM_STEPS + 1) / NUM_STEPS) ** (1 / GAMMA)).astype(np.uint8)


def light_map(height: int, width: int, camera: DarkCamera) -> np.ndarray:
    """Share of the light at each pixel, float32 `[H, W, 1]`: a Gaussian pool over an even floor."""
    if camera.spot is None:
        return np.ones((height, width, 1), np.float32)
    y, x, radius = camera.spot
    rows = (np.arange(height) / height - y)[:, None] * height / width
    columns = (np.arange(width) / width - x)[None]
    pool = np.exp(-(rows**2 + columns**2) / (2 * (radius / 2) ** 2))
    return (camera.spot_floor + (1 - camera.spot_floor) * pool).astype(np.float32)[..., None]


def expected_light(frames: np.ndarray, camera: DarkCamera) -> np.ndarray:
    """Linear light without noise, float32 `[T, H, W, 3]`, 1 at white; the mean of its codes is `camera.mean`."""
    light = np.take(to_linear(), frames)
    light *= light_map(*frames.shape[1:3], camera) * np.asarray(camera.cast, np.float32)
    # A gain g on light is g^(1 / GAMMA) on codes, so one step brings the mean code to the camera's.
    mean_code = 255.0 * float((light ** np.float32(1 / GAMMA)).mean())
    light *= np.float32((camera.mean / max(mean_code, 1e-3)) ** GAMMA)
    return light


def darken(frames: np.ndarray, camera: DarkCamera, rng: np.random.Generator) -> np.ndarray:
    """The clip as the camera would have recorded it.

    The shot noise of n electrons is drawn from its Gaussian limit, variance n.

    Args:
        frames: uint8 `[T, H, W, 3]`, normal light.
        camera: the camera.
        rng: where noise comes from.

    Returns:
        uint8 `[T, H, W, 3]`.
    """
    light = expected_light(frames, camera)
    per_light = np.float32(camera.electrons / max(float(light.mean()), 1e-8))
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    noise *= np.sqrt(light * per_light + np.float32(camera.read_noise**2)) / per_light
    light += noise
    return np.take(_to_coded(), (np.clip(light, 0.0, 1.0) * NUM_STEPS + 0.5).astype(np.int32))
