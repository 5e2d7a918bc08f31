"""Retinex against SciPy's Gaussian filter in float64, and what it is for: uneven light, steady clips."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from nightcrawler.data.lowlight.enhance.retinex import OFFSET, apply_retinex, blur, reflectance


def surroundings(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean over the pixels inside the picture, in float64."""
    reach = {"sigma": sigma, "mode": "constant", "truncate": 2 * max(picture.shape) / sigma}
    return ndimage.gaussian_filter(picture, **reach) / ndimage.gaussian_filter(
        np.ones_like(picture), **reach
    )


def noise(*size: int, high: int = 60) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, size, dtype=np.uint8)


@pytest.mark.parametrize("sigma", [0.7, 3.0, 15.0, 250.0])
def test_the_blur_is_a_gaussian_that_ends_with_the_picture(sigma: float) -> None:
    picture = noise(21, 34).astype(np.float64)
    found = blur(torch.from_numpy(picture).float(), sigma).numpy()
    np.testing.assert_allclose(found, surroundings(picture, sigma), rtol=1e-4)


def test_reflectance_is_the_mean_of_log_ratios() -> None:
    picture, sigmas = noise(25, 18).astype(np.float64), (2.0, 9.0, 40.0)
    ratios = [
        np.log((picture + OFFSET) / (surroundings(picture, sigma) + OFFSET)) for sigma in sigmas
    ]
    found = reflectance(torch.from_numpy(picture).float(), sigmas).numpy()
    np.testing.assert_allclose(found, np.mean(ratios, axis=0), atol=1e-5)


def test_a_clip_spans_the_range_between_its_percentiles() -> None:
    """99 of 100 pixels at or above black, 1 of 100 white: levels are linear in reflectance between the limits."""
    frames = np.repeat(noise(2, 40, 40, 1), 3, axis=3)
    lit = apply_retinex(frames, sigmas=(5.0,))[..., 0].astype(float)
    r = np.stack(
        [
            np.log((f + OFFSET) / (surroundings(f, 5.0) + OFFSET))
            for f in frames[..., 0].astype(float)
        ]
    )
    low, high = np.percentile(r[:, ::2, ::2], (1, 99))
    np.testing.assert_allclose(lit, np.clip((r - low) / (high - low), 0, 1) * 255, atol=0.51)


def test_light_that_fades_across_the_picture_is_evened_out() -> None:
    """The same stripes under light that falls to a fifth: their contrast comes out nearly alike on both sides."""
    stripes = np.where(np.arange(60)[:, None] // 3 % 2, 200.0, 100.0)
    light = np.linspace(1.0, 0.2, 80)
    frames = np.repeat((stripes * light)[None, ..., None], 3, axis=3).astype(np.uint8)
    lit = apply_retinex(frames, sigmas=(6.0, 12.0))

    def contrast(picture: np.ndarray, columns: slice) -> float:
        return float(picture[0, 12:48, columns].std())

    before = contrast(frames, slice(5, 15)) / contrast(frames, slice(65, 75))
    after = contrast(lit, slice(5, 15)) / contrast(lit, slice(65, 75))
    assert before > 2.5
    assert after < 1.3


def test_all_frames_share_the_limits() -> None:
    """A calm frame beside a lively one stays calm; alone it would fill the range."""
    lively = noise(1, 32, 32, 3, high=200)
    calm = lively // 8 + 60
    both = apply_retinex(np.concatenate([calm, lively]), sigmas=(8.0,))
    alone = apply_retinex(calm, sigmas=(8.0,))
    assert alone.std() > 2 * both[0].std()


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_clip_without_contrast_comes_back(value: int) -> None:
    frames = np.full((2, 9, 12, 3), value, np.uint8)
    assert (apply_retinex(frames, sigmas=(15.0, 80.0)) == value).all()
