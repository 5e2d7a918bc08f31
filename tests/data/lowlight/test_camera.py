"""The camera model: brightness as promised, physics in linear light, everything from the generator."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightcrawler.data.lowlight.camera import (
    GAMMA,
    PRESETS,
    DarkCamera,
    darken,
    expected_light,
    illumination_map,
    sample_camera,
)

CLEAN = DarkCamera(mean=20.0, electrons=1e9, read_noise=0.0)


def street(seed: int = 0, length: int = 3, height: int = 36, width: int = 48) -> np.ndarray:
    """uint8 `[T, H, W, 3]` with shadows, midtones and lights, as a well-lit clip has them."""
    rng = np.random.default_rng(seed)
    coarse = rng.beta(1.2, 1.5, (length, height // 6, width // 6, 3)) * 255
    fine = rng.normal(0, 6, (length, height, width, 3))
    return np.clip(coarse.repeat(6, axis=1).repeat(6, axis=2) + fine, 0, 255).astype(np.uint8)


def coded(light: np.ndarray) -> np.ndarray:
    """8-bit code of linear light, float64, not rounded."""
    return 255.0 * np.clip(light.astype(np.float64), 0, 1) ** (1 / GAMMA)


@given(
    st.integers(1, 3),
    st.integers(1, 20),
    st.integers(1, 20),
    st.integers(0, 1000),
    st.sampled_from(sorted(PRESETS)),
)
@settings(deadline=None, max_examples=40)
def test_shape_and_dtype_are_kept(
    length: int, height: int, width: int, seed: int, preset: str
) -> None:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 256, (length, height, width, 3), dtype=np.uint8)
    before = frames.copy()
    dark = darken(frames, sample_camera(rng, PRESETS[preset]), rng)
    assert dark.dtype == np.uint8
    assert dark.shape == frames.shape
    assert (frames == before).all()


@pytest.mark.parametrize("value", [0, 255])
def test_black_and_white_clips_have_no_division_by_zero(value: int) -> None:
    frames = np.full((2, 8, 8, 3), value, np.uint8)
    with np.errstate(all="raise"):
        dark = darken(frames, CLEAN, np.random.default_rng(0))
    assert (dark == (0 if value == 0 else 20)).all()


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_cameras_stay_in_their_ranges(preset: str) -> None:
    cameras = [sample_camera(np.random.default_rng(seed), PRESETS[preset]) for seed in range(300)]
    for name in ("mean", "electrons", "read_noise"):
        low, high = getattr(PRESETS[preset], name)
        values = np.array([getattr(camera, name) for camera in cameras])
        assert low <= values.min() <= low + 0.1 * (high - low)
        assert high - 0.1 * (high - low) <= values.max() <= high
    spots = [camera.spot is not None for camera in cameras]
    assert 0.5 < np.mean(spots) < 0.7
    assert len({camera.mean for camera in cameras}) == 300


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_dark_clips_have_the_mean_of_their_camera(preset: str) -> None:
    """`DarkCamera.mean` is the clip's mean in 8-bit codes, before noise and rounding."""
    for seed in range(40):
        camera = sample_camera(np.random.default_rng(seed), PRESETS[preset])
        light = expected_light(street(seed), camera)
        assert coded(light).mean() == pytest.approx(camera.mean, rel=0.02), seed


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_means_of_dark_clips_are_in_the_promised_range(preset: str) -> None:
    """Noise is cut at black and rounded, which moves a mean a little."""
    low, high = PRESETS[preset].mean
    means = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        means.append(darken(street(seed), sample_camera(rng, PRESETS[preset]), rng).mean())
    assert 0.85 * low <= min(means)
    assert max(means) <= 1.15 * high


def test_the_same_seed_gives_the_same_bytes() -> None:
    def recorded(seed: int) -> bytes:
        rng = np.random.default_rng(seed)
        return darken(street(), sample_camera(rng, PRESETS["night"]), rng).tobytes()

    assert recorded(3) == recorded(3)
    assert len({recorded(seed) for seed in range(8)}) == 8


def test_noise_is_new_in_every_frame() -> None:
    frames = np.repeat(street(length=1), 4, axis=0)
    dark = darken(frames, DarkCamera(20.0, 30.0, 2.0), np.random.default_rng(0))
    assert len({frame.tobytes() for frame in dark}) == 4


def test_light_without_noise_is_the_formula() -> None:
    """Linear light times spot and cast, scaled by one gain."""
    camera = DarkCamera(15.0, 1e9, 0.0, cast=(1.5, 1.0, 0.7), spot=(0.3, 0.6, 0.5), spot_floor=0.3)
    frames = street(1)
    light = expected_light(frames, camera)
    height, width = frames.shape[1:3]
    rows, columns = np.mgrid[:height, :width]
    squared = ((rows / height - 0.3) * height / width) ** 2 + (columns / width - 0.6) ** 2
    pool = 0.3 + 0.7 * np.exp(-squared / (2 * 0.25**2))
    shaped = (frames / 255.0) ** GAMMA * pool[None, :, :, None] * np.array([1.5, 1.0, 0.7])
    np.testing.assert_allclose(light / light.mean(), shaped / shaped.mean(), rtol=1e-4)
    assert light.dtype == np.float32


def test_smoothing_averages_neighbouring_pixels_and_no_others() -> None:
    """A grey picture keeps its light; its noise falls as a Gaussian's squared weights add up to."""
    frames = np.full((4, 64, 80, 3), 128, np.uint8)
    noise = []
    for smoothing in (0.0, 0.7):
        camera = DarkCamera(100.0, 100.0, 0.0, smoothing=smoothing)
        dark = darken(frames, camera, np.random.default_rng(3)).astype(float)
        assert dark.mean() == pytest.approx(100.0, rel=0.01)
        noise.append(dark.std())
        # Frames and colours stay independent.
        centred = dark - dark.mean()
        assert abs((centred[0] * centred[1]).mean()) < 0.03 * noise[-1] ** 2
        assert abs((centred[..., 0] * centred[..., 1]).mean()) < 0.03 * noise[-1] ** 2
    weights = np.exp(-(np.arange(-2, 3) ** 2) / (2 * 0.7**2))
    weights /= weights.sum()
    assert noise[1] / noise[0] == pytest.approx((weights**2).sum(), rel=0.03)


def test_without_noise_a_brighter_pixel_stays_brighter() -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8), 3).reshape(1, 1, 256, 3)
    light = expected_light(ramp, CLEAN)[0, 0, :, 0]
    assert (np.diff(light) > 0).all()
    dark = darken(ramp, CLEAN, np.random.default_rng(0))[0, 0, :, 0].astype(int)
    assert (np.diff(dark) >= 0).all()
    assert dark[-1] > dark[0] == 0


@given(st.floats(4, 40), st.floats(1.05, 2.0), st.integers(0, 50))
@settings(deadline=None, max_examples=30)
def test_without_noise_a_brighter_camera_is_brighter_everywhere(
    mean: float, factor: float, seed: int
) -> None:
    frames = street(seed)
    darker, brighter = (dataclasses.replace(CLEAN, mean=value) for value in (mean, mean * factor))
    ratio = (
        expected_light(frames, brighter)[frames > 0] / expected_light(frames, darker)[frames > 0]
    )
    np.testing.assert_allclose(ratio, factor**GAMMA, rtol=1e-3)
    codes = [
        darken(frames, camera, np.random.default_rng(0)).astype(int)
        for camera in (darker, brighter)
    ]
    assert (codes[1] >= codes[0]).all()


@pytest.mark.parametrize("mean", [6.0, 12.0, 25.0])
def test_codes_are_light_rounded_to_the_nearest(mean: float) -> None:
    """Within one code of the formula: most of a dark clip lies below code 10, where steps of light are small."""
    camera = dataclasses.replace(CLEAN, mean=mean)
    frames = street(2)
    dark = darken(frames, camera, np.random.default_rng(0))
    assert np.abs(dark - coded(expected_light(frames, camera))).max() <= 1.0
    assert set(range(int(mean))) <= set(np.unique(dark).tolist())


def test_shot_and_read_noise_have_their_variance() -> None:
    """An even clip: variance of electrons is their number plus the square of the read noise."""
    frames = np.full((2, 100, 100, 3), 128, np.uint8)
    camera = DarkCamera(mean=60.0, electrons=400.0, read_noise=10.0)
    dark = darken(frames, camera, np.random.default_rng(1))
    electrons = (dark / 255.0) ** GAMMA / (60.0 / 255.0) ** GAMMA * 400.0
    assert electrons.mean() == pytest.approx(400.0, rel=0.02)
    assert electrons.std() == pytest.approx(np.sqrt(400.0 + 100.0), rel=0.05)


def test_less_light_is_noisier() -> None:
    frames = street(3)

    def error(electrons: float) -> float:
        clean = coded(expected_light(frames, CLEAN))
        dark = darken(
            frames, dataclasses.replace(CLEAN, electrons=electrons), np.random.default_rng(0)
        )
        return float(np.abs(dark - clean).mean())

    assert error(10.0) > 1.5 * error(100.0)


def test_the_spot_light() -> None:
    camera = dataclasses.replace(CLEAN, spot=(0.5, 0.25, 0.4), spot_floor=0.2)
    light = illumination_map(40, 80, camera)
    assert light.shape == (40, 80, 1)
    assert np.unravel_index(light.argmax(), light.shape)[:2] == (20, 20)
    assert light.max() == pytest.approx(1.0)
    assert 0.2 <= light.min() < 0.21
    assert (illumination_map(4, 6, CLEAN) == 1).all()
