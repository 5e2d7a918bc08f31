"""Light before the estimator: noise that is averaged away, and frames that stay as they are."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from nightcrawler.prepare.pose_files import PoseRecipe, build_light

SIGMA = 4.0


def noisy(seed: int) -> np.ndarray:
    """A still grey wall whose camera is noisy, uint8 `[9, 64, 64, 3]`."""
    rng = np.random.default_rng(seed)
    # One noise for the three channels, as that of the luminance is.
    noise = rng.normal(0, SIGMA, (9, 64, 64, 1)).repeat(3, axis=-1)
    return np.rint(np.full((9, 64, 64, 3), 100.0) + noise).astype(np.uint8)


@pytest.mark.parametrize(
    ("window", "least", "most"), [(1, 0.99, 1.01), (3, 0.55, 0.7), (5, 0.42, 0.6)]
)
def test_noise_of_still_frames_falls_as_that_of_a_mean(
    window: int, least: float, most: float
) -> None:
    """By the root of the number of frames, or less where noise looks like a movement."""
    recipe = PoseRecipe(light="gamma", denoise_frames=window)
    params = dataclasses.replace(recipe.light_params, gamma=1.0)
    lit = build_light(dataclasses.replace(recipe, light_params=params))(noisy(0))
    assert least < lit[4].std() / noisy(0)[4].std() < most


def test_a_person_who_moves_is_not_smeared() -> None:
    """A bright square that jumps by its width stays where it is."""
    frames = np.full((3, 32, 96, 3), 20, np.uint8)
    for number in range(3):
        frames[number, 8:24, 16 + 24 * number : 32 + 24 * number] = 200
    recipe = PoseRecipe(light="gamma")
    params = dataclasses.replace(recipe.light_params, gamma=1.0)
    lit = build_light(dataclasses.replace(recipe, light_params=params))(frames)
    np.testing.assert_allclose(lit.astype(int), frames, atol=2)


def test_without_a_light_frames_stay_as_recorded() -> None:
    frames = noisy(1)
    np.testing.assert_array_equal(build_light(PoseRecipe(light="none"))(frames), frames)
