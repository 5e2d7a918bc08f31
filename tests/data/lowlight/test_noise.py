"""Noise of known size is found in pictures and videos; still texture is not taken for it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrawler.data.lowlight.noise import choose_pairs, immerkaer, noise_sigma


def grey(pictures: np.ndarray) -> np.ndarray:
    """uint8 `[n, H, W, 3]` of luminances `[n, H, W]`."""
    return np.repeat(np.clip(np.rint(pictures), 0, 255).astype(np.uint8)[..., None], 3, axis=-1)


@pytest.mark.parametrize("sigma", [0.5, 3.0, 12.0])
def test_noise_of_a_plane_is_its_standard_deviation(sigma: float) -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:120, :160]
    plane = 0.3 * rows + 0.2 * columns + 40
    assert immerkaer(plane) == pytest.approx(0, abs=1e-9)
    assert immerkaer(plane + rng.normal(0, sigma, plane.shape)) == pytest.approx(sigma, rel=0.05)


def test_the_filter_is_immerkaers() -> None:
    """Against the 3x3 mask and the formula of the paper, written out."""
    picture = np.random.default_rng(1).uniform(0, 255, (9, 11))
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]])
    total = sum(
        abs((picture[y : y + 3, x : x + 3] * mask).sum()) for y in range(7) for x in range(9)
    )
    assert immerkaer(picture) == pytest.approx(
        math.sqrt(math.pi / 2) * total / (6 * (11 - 2) * (9 - 2))
    )
    assert immerkaer(picture[:2]) == 0


@pytest.mark.parametrize("sigma", [2.0, 8.0])
def test_still_texture_is_not_taken_for_noise(sigma: float) -> None:
    rng = np.random.default_rng(2)
    texture = rng.uniform(60, 190, (80, 100))
    frames = grey(texture + rng.normal(0, sigma, (6, 80, 100)))
    assert noise_sigma(frames, range(6)) == pytest.approx(sigma, rel=0.06)
    assert noise_sigma(frames[:1], [0]) > 30
    # Pairs that are not neighbours, and repeated frames, tell nothing.
    apart = np.stack([frames[0], 255 - frames[1], 255 - frames[2]])
    assert noise_sigma(apart, [0, 7, 8]) == pytest.approx(sigma, rel=0.1)
    assert noise_sigma(np.repeat(frames, 2, axis=0), range(12)) == pytest.approx(sigma, rel=0.06)
    assert noise_sigma(frames[[0, 0]], range(2)) == 0


@given(st.integers(1, 1000))
def test_pairs_are_neighbours_spread_over_the_video(count: int) -> None:
    chosen = choose_pairs(count, 8)
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, count - 1)
    assert len(chosen) <= 16
    assert count == 1 or all(index - 1 in chosen or index + 1 in chosen for index in chosen)
    assert count > 8 or chosen == list(range(count))
