"""The test transform: sizes and crops written out by hand, pixels against float64."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import functional as tv_functional

from nightcrawler.data.transforms import (
    crop_positions,
    eval_crops,
    resize_short_side,
    short_side_size,
    spatial_crop,
    to_clip,
    uniform_crop_offsets,
)

MEAN, STD = (0.45, 0.40, 0.35), (0.225, 0.25, 0.2)


def identity(frames: np.ndarray) -> np.ndarray:
    return frames


def random_frames(length: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (length, height, width, 3), dtype=np.uint8)


def normalised(frames: np.ndarray) -> np.ndarray:
    """float64 `[3, T, H, W]`."""
    return ((frames / 255.0 - np.array(MEAN)) / np.array(STD)).transpose(3, 0, 1, 2)


def bilinear(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """float64 `[..., H, W]` sampled at pixel centres, edges repeated: two matrices of weights."""

    def weights(old: int, new: int) -> np.ndarray:
        matrix = np.zeros((new, old))
        for row in range(new):
            place = max((row + 0.5) * old / new - 0.5, 0.0)
            low = min(int(place), old - 1)
            high = min(low + 1, old - 1)
            matrix[row, low] += 1 - (place - low)
            matrix[row, high] += place - low
        return matrix

    return weights(image.shape[-2], size[0]) @ image @ weights(image.shape[-1], size[1]).T


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(1, 512))
def test_the_short_side_becomes_size(height: int, width: int, size: int) -> None:
    new_height, new_width = short_side_size(height, width, size)
    assert min(new_height, new_width) == size
    assert (new_height >= new_width) == (height >= width) or new_height == new_width
    exact = size * max(height, width) / min(height, width)
    assert exact - 1 - 1e-9 < max(new_height, new_width) <= exact + 1e-9


@given(st.integers(8, 400), st.integers(8, 400), st.integers(0, 2))
def test_crop_offsets(height: int, width: int, position: int) -> None:
    """Along the longer side: start, middle (half rounded up), end; along the other the middle."""
    size = min(height, width)
    slack = max(height, width) - size
    along = [0, math.ceil(slack / 2), slack][position]
    y, x = uniform_crop_offsets(height, width, size, position)
    assert (y, x) == ((along, 0) if height > width else (0, along))


def test_crop_offsets_when_both_sides_are_longer() -> None:
    assert [uniform_crop_offsets(50, 81, 40, position) for position in range(3)] == [
        (5, 0),
        (5, 21),
        (5, 41),
    ]
    assert [uniform_crop_offsets(81, 51, 40, position) for position in range(3)] == [
        (0, 6),
        (21, 6),
        (41, 6),
    ]


def test_crop_positions() -> None:
    assert crop_positions(1) == (1,)
    assert crop_positions(3) == (0, 1, 2)
    for number in (0, 2, 5):
        with pytest.raises(ValueError, match=f"num_crops {number}: expected 1 or 3"):
            crop_positions(number)


def test_to_clip_is_the_formula() -> None:
    frames = random_frames(2, 5, 7)
    clip = to_clip(frames, MEAN, STD)
    assert clip.dtype == torch.float32
    assert clip.shape == (3, 2, 5, 7)
    np.testing.assert_allclose(clip.numpy(), normalised(frames), rtol=1e-5, atol=1e-6)


def test_to_clip_takes_reversed_and_read_only_frames() -> None:
    frames = random_frames(3, 4, 4)
    frames.setflags(write=False)
    np.testing.assert_allclose(
        to_clip(frames[::-1], MEAN, STD).numpy(), normalised(frames[::-1]), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("height", "width"), [(48, 64), (64, 48), (47, 63), (31, 101), (101, 31), (16, 16), (9, 12)]
)
def test_crops_equal_float64_bilinear(height: int, width: int) -> None:
    frames, size = random_frames(2, height, width), 24
    short = min(height, width)
    new = (math.floor(height / short * size), math.floor(width / short * size))
    resized = bilinear(normalised(frames), new)
    crops = eval_crops(frames, size=size, num_crops=3, enhance=identity, mean=MEAN, std=STD)
    assert crops.shape == (3, 3, 2, size, size)
    for position, crop in enumerate(crops):
        y, x = (
            [0, math.ceil((side - size) / 2), side - size][position] if side > size else 0
            for side in new
        )
        np.testing.assert_allclose(
            crop.numpy(), resized[..., y : y + size, x : x + size], atol=2e-5
        )


@pytest.mark.parametrize("resize", [(32,), (32, 43), (24, 31)])
@pytest.mark.parametrize(("height", "width"), [(48, 64), (64, 36), (30, 101)])
def test_crops_of_another_size_equal_those_of_torchvision(
    height: int, width: int, resize: tuple[int, ...]
) -> None:
    frames, size = random_frames(3, height, width), 24
    crop = eval_crops(
        frames, size=size, num_crops=1, enhance=identity, mean=MEAN, std=STD, resize=resize
    )[0]
    levels = torch.from_numpy(frames).permute(0, 3, 1, 2)
    resized = tv_functional.resize(levels, list(resize), antialias=False)
    # Where the margin is odd, torchvision's centre is one pixel before or behind ours.
    y, x = (math.ceil((side - size) / 2) for side in resized.shape[-2:])
    expected = normalised(
        resized[..., y : y + size, x : x + size].permute(0, 2, 3, 1).contiguous().numpy()
    )
    # It rounds to whole levels after the resize.
    assert np.abs(crop.numpy() - expected).max() <= 0.501 / 255 / min(STD)


def test_a_single_crop_is_the_centre_of_three() -> None:
    frames = random_frames(2, 30, 53)
    three = eval_crops(frames, size=20, num_crops=3, enhance=identity, mean=MEAN, std=STD)
    one = eval_crops(frames, size=20, num_crops=1, enhance=identity, mean=MEAN, std=STD)
    assert torch.equal(one[0], three[1])
    clip = to_clip(frames, MEAN, STD)
    for position in range(3):
        # Normalised before the resize instead of after it: the same but for rounding.
        torch.testing.assert_close(
            spatial_crop(clip, 20, position), three[position], rtol=1e-5, atol=1e-5
        )


def test_frames_are_lit_before_anything_else() -> None:
    frames = random_frames(1, 24, 24)
    lit = eval_crops(frames, size=24, num_crops=1, enhance=lambda x: 255 - x, mean=MEAN, std=STD)
    np.testing.assert_allclose(lit[0].numpy(), normalised(255 - frames), rtol=1e-5, atol=1e-5)


@given(st.integers(2, 60), st.integers(2, 60), st.integers(1, 40))
@settings(deadline=None, max_examples=60)
def test_crops_are_square_for_any_size(height: int, width: int, size: int) -> None:
    frames = np.full((1, height, width, 3), 200, np.uint8)
    crops: Tensor = eval_crops(
        frames, size=size, num_crops=3, enhance=identity, mean=(0.0,) * 3, std=(1.0,) * 3
    )
    assert crops.shape == (3, 3, 1, size, size)
    torch.testing.assert_close(crops, torch.full_like(crops, 200 / 255))


def test_a_clip_of_the_right_size_is_not_resampled() -> None:
    clip = torch.rand(3, 1, 20, 33)
    assert torch.equal(resize_short_side(clip, 20), clip)
