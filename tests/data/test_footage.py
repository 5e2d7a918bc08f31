"""Length and light of videos, by pictures whose levels are known."""

from __future__ import annotations

import numpy as np
import pytest

from nightcrawler.data.footage import LOOKED_AT, cell_means, measure_footage
from nightcrawler.data.video.decode import Decoded


def decoded(frames: np.ndarray, fps: float = 25.0) -> Decoded:
    return Decoded(frames, list(range(len(frames))), 10 * len(frames), fps)


def test_brightness_is_the_mean_of_all_channels_and_contrast_a_matter_of_areas() -> None:
    frames = np.zeros((4, 64, 64, 3), np.uint8)
    frames[:, :, 32:] = (30, 60, 90)
    footage = measure_footage(decoded(frames))
    assert (footage.num_frames, footage.fps) == (40, 25.0)
    assert footage.brightness == pytest.approx(30.0)
    assert footage.contrast == pytest.approx(60.0)


def test_noise_alone_has_no_contrast() -> None:
    noise = np.random.default_rng(0).integers(0, 9, (8, 240, 320, 3)).astype(np.uint8)
    assert noise.std() > 2.5
    assert measure_footage(decoded(noise)).contrast < 1.0


def test_frames_are_chosen_over_the_whole_length() -> None:
    frames = np.zeros((5 * LOOKED_AT, 16, 16, 3), np.uint8)
    frames[-1] = 80
    assert measure_footage(decoded(frames)).brightness == pytest.approx(80 / LOOKED_AT)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (15, 200), (17, 33)])
def test_pictures_of_any_size_have_cells(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 7, np.uint8)
    cells = cell_means(picture)
    assert cells.size >= 1
    assert np.all(cells == 7)
