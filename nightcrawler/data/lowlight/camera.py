"""Camera model of low light: the clip that a sensor would have recorded with few photons.

8-bit codes are decoded to linear light, shaped by a spot light and a colour cast, and scaled to the
dark clip's mean. Photon shot noise and read noise are added in electrons (the Poisson-Gaussian
sensor model of Foi et al., IEEE TIP 2008, with the Gaussian limit of the Poisson part), the picture
is smoothed as cameras do, and the result is encoded to 8 bits. Video compression, which also
removes dark detail, is another module's: `lowlight.compression`.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

# Display gamma that relates codes to linear light.
GAMMA = 2.2
# Share of drawn cameras whose scene is lit by a spot.
SPOT_PROB = 0.6
# Frames that a video is darkened in at a time, in memory of 24 bytes a pixel.
PART_FRAMES = 32
# Resolution of the table from linear light to codes: the darkest codes are far closer than 1 / 256.
NUM_LIGHT_LEVELS = 1 << 20


@dataclass(frozen=True)
class DarkCamera:
    """Parameters of one camera in one dark scene.

    Attributes:
        mean: mean 8-bit code of the dark clip, before noise and rounding.
        electrons: photo-electrons of a pixel at the clip's mean linear light.
        read_noise: standard deviation of the read noise, in electrons.
        cast: gains of red, green and blue.
        spot: (y, x, radius) of a spot light in shares of the frame, or `None` for even light.
        spot_floor: light outside the spot, as a share of the light at its centre.
        smoothing: standard deviation of the Gaussian that smooths light and noise, in pixels.
    """

    mean: float
    electrons: float
    read_noise: float
    cast: tuple[float, float, float] = (1.0, 1.0, 1.0)
    spot: tuple[float, float, float] | None = None
    spot_floor: float = 1.0
    smoothing: float = 0.0


@dataclass(frozen=True)
class CameraRanges:
    """Ranges that cameras are drawn from.

    Attributes:
        mean: least and largest mean 8-bit code, drawn log-uniformly.
        electrons: least and largest photo-electrons at that mean, drawn log-uniformly.
        read_noise: least and largest read noise, in electrons, drawn uniformly.
        cast: standard deviation of the log gain of each channel.
        smoothing: standard deviation of the Gaussian that smooths light and noise, in pixels, the
            same for all cameras.
    """

    mean: tuple[float, float]
    electrons: tuple[float, float]
    read_noise: tuple[float, float]
    cast: float
    smoothing: float = 0.0


PRESETS = {
    "night": CameraRanges(
        mean=(9.0, 26.0), electrons=(15.0, 60.0), read_noise=(1.0, 3.0), cast=0.25
    ),
    "darker": CameraRanges(
        mean=(5.0, 15.0), electrons=(4.0, 20.0), read_noise=(1.5, 4.0), cast=0.35
    ),
}


def sample_camera(rng: np.random.Generator, ranges: CameraRanges) -> DarkCamera:
    """Draw a camera from ranges."""
    # The order of the draws is fixed: the same generator gives the same camera in every version.
    cast = np.exp(rng.normal(0.0, ranges.cast, 3))
    has_spot = rng.random() < SPOT_PROB
    spot = (rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8), rng.uniform(0.3, 0.8))
    return DarkCamera(
        mean=float(np.exp(rng.uniform(*np.log(ranges.mean)))),
        electrons=float(np.exp(rng.uniform(*np.log(ranges.electrons)))),
        read_noise=float(rng.uniform(*ranges.read_noise)),
        cast=(float(cast[0]), float(cast[1]), float(cast[2])),
        spot=spot if has_spot else None,
        spot_floor=float(rng.uniform(0.15, 0.5)) if has_spot else 1.0,
        smoothing=ranges.smoothing,
    )


@functools.lru_cache(maxsize=1)
def linear_light_lut() -> np.ndarray:
    """Return the linear light of each 8-bit code, float32 `[256]`, 1 at white."""
    return ((np.arange(256) / 255.0) ** GAMMA).astype(np.float32)


@functools.lru_cache(maxsize=1)
def _code_lut() -> np.ndarray:
    """Return the code, uint8 `[NUM_LIGHT_LEVELS + 1]`, of linear light 0 to 1 in equal steps."""
    levels = np.arange(NUM_LIGHT_LEVELS + 1) / NUM_LIGHT_LEVELS
    return np.rint(255.0 * levels ** (1 / GAMMA)).astype(np.uint8)


def illumination_map(height: int, width: int, camera: DarkCamera) -> np.ndarray:
    """Return the relative illumination of each pixel, float32 `[H, W, 1]`.

    A Gaussian spot, 1 at its centre, over the even floor `camera.spot_floor`.

    Args:
        height: rows of a frame.
        width: columns of a frame.
        camera: camera whose `spot` is drawn.
    """
    if camera.spot is None:
        return np.ones((height, width, 1), np.float32)
    y, x, radius = camera.spot
    # Both distances in shares of the width, so that the spot is round.
    rows = (np.arange(height) / height - y)[:, None] * height / width
    columns = (np.arange(width) / width - x)[None]
    spot = np.exp(-(rows**2 + columns**2) / (2 * (radius / 2) ** 2))
    return (camera.spot_floor + (1 - camera.spot_floor) * spot).astype(np.float32)[..., None]


def _relative_light(frames: np.ndarray, camera: DarkCamera) -> np.ndarray:
    """Return the linear light of frames under the camera's illumination and cast, float32."""
    light = np.take(linear_light_lut(), frames)
    height, width = frames.shape[1:3]
    light *= illumination_map(height, width, camera) * np.asarray(camera.cast, np.float32)
    return light


def _gain(light: np.ndarray, camera: DarkCamera) -> np.float32:
    """Return the gain that brings relative light to the camera's mean code."""
    # A gain g on light is g^(1 / GAMMA) on codes, so one step brings the mean code to the camera's.
    mean_code = 255.0 * float((light ** np.float32(1 / GAMMA)).mean())
    return np.float32((camera.mean / max(mean_code, 1e-3)) ** GAMMA)


def expected_light(frames: np.ndarray, camera: DarkCamera) -> np.ndarray:
    """Return the noise-free linear light that reaches the sensor.

    Args:
        frames: uint8 `[T, H, W, 3]`, normal light.
        camera: camera that records them.

    Returns:
        float32 `[T, H, W, 3]`, 1 at white. The mean of its 8-bit codes is `camera.mean`.
    """
    light = _relative_light(frames, camera)
    light *= _gain(light, camera)
    return light


def darken(frames: np.ndarray, camera: DarkCamera, rng: np.random.Generator) -> np.ndarray:
    """Simulate the recording of a well-lit clip by a camera in low light.

    n electrons have shot noise of variance n, drawn from its Gaussian limit, and read noise of
    variance `camera.read_noise` squared.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> frames = np.full((2, 8, 8, 3), 128, np.uint8)
        >>> dark = darken(frames, sample_camera(rng, PRESETS["night"]), rng)
        >>> dark.shape, bool(dark.mean() < 30)
        ((2, 8, 8, 3), True)

    Args:
        frames: uint8 `[T, H, W, 3]`, normal light.
        camera: camera that records them.
        rng: generator of the noise.

    Returns:
        uint8 `[T, H, W, 3]`.
    """
    light = expected_light(frames, camera)
    return _expose(light, _electrons_per_light(light, camera), camera, rng)


def darken_video(frames: np.ndarray, camera: DarkCamera, rng: np.random.Generator) -> np.ndarray:
    """Simulate the recording of a whole video, a part at a time.

    The same as `darken`, but for the brightness, which is that of some frames of a long video.

    Args:
        frames: uint8 `[T, H, W, 3]`, normal light.
        camera: camera that records them.
        rng: generator of the noise.

    Returns:
        uint8 `[T, H, W, 3]`.
    """
    step = -(-len(frames) // PART_FRAMES)
    sample = _relative_light(frames[::step], camera)
    gain = _gain(sample, camera)
    sample *= gain
    electrons_per_light = _electrons_per_light(sample, camera)
    dark = np.empty_like(frames)
    for start in range(0, len(frames), PART_FRAMES):
        light = _relative_light(frames[start : start + PART_FRAMES], camera)
        light *= gain
        dark[start : start + PART_FRAMES] = _expose(light, electrons_per_light, camera, rng)
    return dark


def _electrons_per_light(light: np.ndarray, camera: DarkCamera) -> np.float32:
    return np.float32(camera.electrons / max(float(light.mean()), 1e-8))


def _expose(
    light: np.ndarray,
    electrons_per_light: np.float32,
    camera: DarkCamera,
    rng: np.random.Generator,
) -> np.ndarray:
    """Add noise to light, which is overwritten, smooth it, and encode it to uint8."""
    noise = rng.standard_normal(light.shape, dtype=np.float32)
    # Standard deviation in electrons, converted back to light.
    noise *= (
        np.sqrt(light * electrons_per_light + np.float32(camera.read_noise**2))
        / electrons_per_light
    )
    light += noise
    if camera.smoothing > 0:
        # Commands that smooth nothing start without it.
        from scipy.ndimage import gaussian_filter

        spread = (0.0, camera.smoothing, camera.smoothing, 0.0)
        gaussian_filter(light, spread, output=light, mode="nearest", truncate=3.0)
    levels = (np.clip(light, 0.0, 1.0) * NUM_LIGHT_LEVELS + 0.5).astype(np.int32)
    return np.take(_code_lut(), levels)
