"""Statistics of recordings: those of known noise, and clips that tell nothing."""

from __future__ import annotations

import numpy as np
import pytest

from nightcrawler.data.lowlight.clip_statistics import LEAST_NOISE, cast_std, measure_clip
from nightcrawler.data.lowlight.enhance.luma import LUMA_WEIGHTS


@pytest.mark.parametrize("sigma", [0.5, 4.0])
def test_noise_of_a_flat_picture_is_found(sigma: float) -> None:
    """Independent noise of three channels adds up in the luminance by the squares of its weights."""
    rng = np.random.default_rng(0)
    frames = (100.5 + rng.normal(0, sigma, (6, 80, 80, 3))).astype(np.uint8)
    found = measure_clip(frames, 0.5)
    assert found is not None
    # Rounding to whole levels adds a twelfth.
    luma_sigma = np.sqrt((sigma**2 + 1 / 12) * (LUMA_WEIGHTS**2).sum())
    assert found.spatial_noise == pytest.approx(luma_sigma, rel=0.05)
    assert found.temporal_noise == pytest.approx(luma_sigma, rel=0.05)
    assert found.mean == pytest.approx(100, abs=0.1)
    assert found.bits_per_pixel == 0.5


def test_a_frozen_picture_has_spatial_noise_alone() -> None:
    frames = np.repeat(np.random.default_rng(0).integers(0, 9, (1, 32, 32, 3)), 4, axis=0)
    found = measure_clip(frames.astype(np.uint8), 0.0)
    assert found is not None
    assert found.temporal_noise == LEAST_NOISE
    assert found.spatial_noise > 0.5


def test_black_short_and_tiny_clips_tell_nothing() -> None:
    frames = np.full((4, 16, 16, 3), 9, np.uint8)
    assert measure_clip(frames, 0.1) is not None
    assert measure_clip(frames * 0, 0.1) is None
    assert measure_clip(frames[:1], 0.1) is None
    assert measure_clip(frames[:, :2], 0.1) is None


def test_the_spread_of_a_cast_is_that_of_one_channel() -> None:
    logs = np.random.default_rng(0).normal(0, 0.3, (4000, 3))
    logs -= logs.mean(axis=1, keepdims=True)
    assert cast_std([tuple(row) for row in logs]) == pytest.approx(0.3, rel=0.03)
