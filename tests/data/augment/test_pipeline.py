"""Augmentation: the policy that was published, one draw for all frames, everything from the generator handed in."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor
from torchvision.transforms import RandomErasing, RandomResizedCrop

from nightcrawler.data.augment.pipeline import TrainTransform, draw_crop, draw_erase, erase

MEAN, STD = (0.45, 0.40, 0.35), (0.225, 0.25, 0.2)
SCALE, ASPECT = (0.08, 1.0), (0.75, 1.3333)
DRAWS = 2000
# Seeds are fixed, so a p-value below this is a wrong distribution, not bad luck.
LEAST_P = 1e-3


def picture(height: int = 60, width: int = 80) -> np.ndarray:
    """A smooth uint8 picture `[H, W, 3]` of many colours."""
    y, x = np.mgrid[:height, :width]
    waves = [np.sin(x / 17 + phase) + np.cos(y / 13 - phase) for phase in (0.0, 1.3, 2.9)]
    return (np.stack(waves, axis=-1) * 50 + 120).astype(np.uint8)


def same_frames(length: int = 4, height: int = 24, width: int = 32) -> np.ndarray:
    return np.repeat(picture(height, width)[None], length, axis=0)


def make_transform(**changed: Any) -> TrainTransform:
    """A transform that does nothing but normalise (for frames of 16x16), except what is changed."""
    plain: dict[str, Any] = {
        "size": 16,
        "scale": (1.0, 1.0),
        "aspect": (1.0, 1.0),
        "rand_augment": "",
        "flip_prob": 0.0,
        "erase_prob": 0.0,
        "erase_mode": "pixel",
        "erase_count": 1,
        "mean": MEAN,
        "std": STD,
    }
    return TrainTransform(**{**plain, **changed})


def one_clip(transform: TrainTransform, frames: np.ndarray, rng: np.random.Generator) -> Tensor:
    """A clip `[3, T, h, w]` of frames `[T, H, W, 3]`."""
    return transform(torch.from_numpy(frames), [rng])[0]


def normalised(frames: np.ndarray) -> np.ndarray:
    return ((frames / 255.0 - np.array(MEAN)) / np.array(STD)).transpose(3, 0, 1, 2)


def crops_drawn(height: int, width: int, scale: tuple[float, float]) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.array([draw_crop(height, width, scale, ASPECT, rng) for _ in range(DRAWS)], float)


def test_crop_areas_and_aspects_follow_the_published_policy() -> None:
    """Area uniform, aspect log-uniform: on a frame where every draw fits and rounding is small."""
    y, x, h, w = crops_drawn(2000, 2000, (0.08, 0.5)).T
    assert stats.kstest(h * w / 2000**2, stats.uniform(0.08, 0.42).cdf).pvalue > LEAST_P
    low, high = np.log(ASPECT)
    assert stats.kstest(np.log(w / h), stats.uniform(low, high - low).cdf).pvalue > LEAST_P
    assert stats.kstest(y / (2000 - h), stats.uniform.cdf).pvalue > LEAST_P
    assert stats.kstest(x / (2000 - w), stats.uniform.cdf).pvalue > LEAST_P


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240), (256, 256), (100, 400)])
def test_crops_are_distributed_as_torchvisions(height: int, width: int) -> None:
    """On real frame sizes many draws do not fit."""
    torch.manual_seed(0)
    image = torch.empty(1, height, width)
    theirs = [RandomResizedCrop.get_params(image, list(SCALE), list(ASPECT)) for _ in range(DRAWS)]
    for ours, other in zip(
        crops_drawn(height, width, SCALE).T, np.array(theirs, float).T, strict=True
    ):
        assert stats.ks_2samp(ours, other).pvalue > LEAST_P


@pytest.mark.parametrize(
    ("size", "expected"),
    [((10, 1000), (0, 493, 10, 13)), ((1000, 10), (493, 0, 13, 10)), ((40, 50), (0, 0, 40, 50))],
)
def test_a_crop_that_never_fits_is_the_largest_in_the_centre(
    size: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    """Scale 2 fits nowhere; 10 rows allow an aspect of 4/3: 13 columns."""
    assert draw_crop(*size, (2.0, 2.0), ASPECT, np.random.default_rng(0)) == expected


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_crops_lie_in_the_frame(height: int, width: int, seed: int) -> None:
    y, x, h, w = draw_crop(height, width, SCALE, ASPECT, np.random.default_rng(seed))
    assert 0 <= y <= y + h <= height
    assert 0 <= x <= x + w <= width
    assert h > 0
    assert w > 0


def test_erased_boxes_are_distributed_as_torchvisions() -> None:
    torch.manual_seed(1)
    image, rng = torch.empty(3, 224, 224), np.random.default_rng(4)
    theirs = np.array(
        [
            RandomErasing.get_params(image, (0.02, 1 / 3), (0.3, 1 / 0.3), [0.0])[:4]
            for _ in range(DRAWS)
        ]
    )
    ours = np.array([draw_erase(224, 224, 1, rng) for _ in range(DRAWS)])
    for side in range(4):
        assert stats.ks_2samp(ours[:, side], theirs[:, side]).pvalue > LEAST_P
    areas = [h * w / 224**2 for _, _, h, w in (draw_erase(224, 224, 4, rng) for _ in range(DRAWS))]
    assert stats.kstest(areas, stats.uniform(0.02 / 4, (1 / 3 - 0.02) / 4).cdf).pvalue > LEAST_P


def test_a_box_that_never_fits_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nightcrawler.data.augment.pipeline.ERASE_AREA", (2.0, 3.0))
    assert draw_erase(20, 20, 1, np.random.default_rng(0)) is None
    assert (erase(torch.ones(3, 2, 20, 20), 1.0, "const", 1, np.random.default_rng(0)) == 1).all()


def erased_box(clip: Tensor) -> tuple[slice, slice]:
    """The box of a clip of sevens `[3, T, H, W]` that was erased; it must be erased in every frame."""
    changed = (clip != 7).flatten(0, 1)
    assert (changed == changed[0]).all()
    rows, columns = changed[0].any(1).nonzero().flatten(), changed[0].any(0).nonzero().flatten()
    box = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    assert changed[0][box].all()
    return box


@pytest.mark.parametrize("mode", ["pixel", "rand", "const"])
def test_values_of_erased_pixels(mode: str) -> None:
    clip = erase(torch.full((3, 4, 64, 64), 7.0), 1.0, mode, 1, np.random.default_rng(5))
    values = clip[(..., *erased_box(clip))].flatten(2)
    if mode == "pixel":
        assert stats.kstest(values.flatten().numpy(), stats.norm.cdf).pvalue > LEAST_P
        assert len(values.unique()) > 0.95 * values.numel()
    elif mode == "rand":
        assert len(values.unique()) == 3
        assert (values == values[:, :1, :1]).all()
    else:
        assert (values == 0).all()


def test_erasing_comes_as_often_as_told() -> None:
    rng = np.random.default_rng(6)
    hits = sum(
        bool((erase(torch.full((3, 1, 8, 8), 7.0), 0.25, "const", 1, rng) != 7).any())
        for _ in range(DRAWS)
    )
    assert stats.binomtest(hits, DRAWS, 0.25).pvalue > LEAST_P


def test_without_augmentation_only_the_formula_is_left() -> None:
    frames = np.random.default_rng(7).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    before = frames.copy()
    clip = one_clip(make_transform(), frames, np.random.default_rng(0))
    assert clip.dtype == torch.float32
    assert clip.shape == (3, 5, 16, 16)
    np.testing.assert_allclose(clip.numpy(), normalised(frames), rtol=1e-5, atol=1e-5)
    assert (frames == before).all()


def test_flipping_mirrors_columns() -> None:
    frames = np.random.default_rng(8).integers(0, 256, (2, 16, 16, 3), dtype=np.uint8)
    clip = one_clip(make_transform(flip_prob=1.0), frames, np.random.default_rng(0))
    np.testing.assert_allclose(clip.numpy(), normalised(frames[:, :, ::-1]), rtol=1e-5, atol=1e-5)


def test_a_crop_of_twice_the_size_is_averaged_in_fours() -> None:
    """Bilinear at pixel centres: each new pixel lies between four old ones."""
    frames = np.random.default_rng(9).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    clip = one_clip(make_transform(), frames, np.random.default_rng(0))
    fours = frames.reshape(2, 16, 2, 16, 2, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(clip.numpy(), normalised(fours), atol=1e-5)


def test_flips_come_as_often_as_told() -> None:
    frames = np.zeros((1, 16, 16, 3), np.uint8)
    frames[:, :, :8] = 255
    transform, rng = make_transform(flip_prob=0.5), np.random.default_rng(10)
    hits = sum(bool(one_clip(transform, frames, rng)[0, 0, 0, 0] < 0) for _ in range(DRAWS))
    assert stats.binomtest(hits, DRAWS, 0.5).pvalue > LEAST_P


FULL = {
    "scale": SCALE,
    "aspect": ASPECT,
    "rand_augment": "rand-m9-n4-mstd0.5-inc1",
    "flip_prob": 0.5,
    "erase_prob": 1.0,
    "erase_count": 2,
}


@pytest.mark.parametrize("mode", ["rand", "const"])
def test_all_frames_of_a_clip_get_the_same_parameters(mode: str) -> None:
    transform, frames = make_transform(**FULL, erase_mode=mode), same_frames()
    for seed in range(60):
        clip = one_clip(transform, frames, np.random.default_rng(seed))
        assert clip.shape == (3, 4, 16, 16)
        assert torch.isfinite(clip).all()
        assert (clip == clip[:, :1]).all(), seed


def test_noise_per_pixel_is_the_only_thing_that_differs_between_frames() -> None:
    transform, frames = make_transform(**FULL, erase_mode="pixel"), same_frames()
    constant = make_transform(**{**FULL, "erase_count": 1}, erase_mode="const")
    for seed in range(20):
        clip = one_clip(transform, frames, np.random.default_rng(seed))
        moving = (clip != clip[:, :1]).any(dim=1).any(dim=0)
        assert 0 < moving.sum() <= 2 / 3 * 16 * 16
        assert (one_clip(constant, frames, np.random.default_rng(seed))[:, 0] == 0).all(dim=0).any()


def test_a_clip_is_a_function_of_its_generator() -> None:
    rng = np.random.default_rng(11)
    frames = rng.integers(0, 256, (3, 24, 32, 3), dtype=np.uint8)
    transform = make_transform(**FULL)
    torch.manual_seed(0)
    first = [one_clip(transform, frames, np.random.default_rng(seed)) for seed in range(10)]
    torch.manual_seed(1)
    np.random.seed(2)
    random.seed(3)
    again = [one_clip(transform, frames, np.random.default_rng(seed)) for seed in range(10)]
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))
    assert len({clip.numpy().tobytes() for clip in first}) == 10


def test_darkening_comes_first_and_as_often_as_told() -> None:
    seen: list[np.ndarray] = []

    def darken(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        seen.append(frames)
        return frames // 4

    frames = np.full((2, 16, 16, 3), 200, np.uint8)
    clip = one_clip(
        make_transform(darken=darken, darken_prob=1.0), frames, np.random.default_rng(0)
    )
    np.testing.assert_array_equal(seen[0], frames)
    np.testing.assert_allclose(clip.numpy(), normalised(frames // 4), rtol=1e-5, atol=1e-5)
    seen.clear()
    transform, rng = make_transform(darken=darken, darken_prob=0.3), np.random.default_rng(12)
    for _ in range(DRAWS):
        one_clip(transform, frames[:1], rng)
    assert stats.binomtest(len(seen), DRAWS, 0.3).pvalue > LEAST_P
