"""RandAugment: the policy that was published, the operations of timm, no work on unseen pixels."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import stats
from timm.data.auto_augment import _RAND_INCREASING_TRANSFORMS, LEVEL_TO_ARG, NAME_TO_OP
from torch import Tensor
from torchvision.transforms.v2.functional import (
    adjust_contrast,
    adjust_saturation,
    autocontrast,
    equalize,
)

from nightcrawler.data.augment.image_ops import (
    OPS,
    count_levels,
    histogram,
    look_up,
    look_up_by_indexing,
)
from nightcrawler.data.augment.ops import apply_ops, crop, full_box
from nightcrawler.data.augment.rand_augment import RandAugment, parse_rand_augment
from nightcrawler.utils.errors import ConfigError
from tests.data.augment.test_pipeline import DRAWS, LEAST_P, picture, same_frames


def grainy_picture() -> np.ndarray:
    """The same with noise, on which a filter shows."""
    noise = np.random.default_rng(0).normal(0, 12, (60, 80, 3))
    return np.clip(picture() + noise, 0, 255).astype(np.uint8)


def applied(name: str, frames: Tensor, level: float, rng: np.random.Generator) -> Tensor:
    """All of frames `[T, 3, H, W]` after an operation."""
    return apply_ops(frames, [OPS[name](level, rng)], full_box(frames))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rand-m7-n4-mstd0.5-inc1", RandAugment(7.0, 4, 0.5)),
        ("rand-mstd0.5-inc1-n4-m7", RandAugment(7.0, 4, 0.5)),
        ("rand-m9-inc1", RandAugment(9.0, 2, 0.0)),
        ("rand-m2.5-n1-inc1", RandAugment(2.5, 1, 0.0)),
    ],
)
def test_a_policy_is_read(text: str, expected: RandAugment) -> None:
    assert parse_rand_augment(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "augmix-m7-n4",
        "m7-n4",
        "rand-m7-n4-",
        "rand-m7--n4",
        "rand-mseven",
        "rand-m-1",
        "rand-m7 -n4",
        "rand-p0.5",
        "rand-tweights",
        "rand-m7-inc0",
        "rand-m7-inc2",
        "rand_m7",
        "Rand-m7",
        "rand-m1e3",
        "rand-m7-n2.5",
        "rand-m7-m9",
    ],
)
def test_a_bad_policy_names_the_argument_and_the_text(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^rand_augment ") as caught:
        parse_rand_augment(text)
    assert f"'{text}'" in str(caught.value)


def test_operations_are_drawn_evenly_and_half_of_them_applied() -> None:
    policy, rng = RandAugment(7.0, 4, 0.5), np.random.default_rng(0)
    drawn = [policy.draw(rng) for _ in range(DRAWS)]
    names = [name for applied in drawn for name, _ in applied]
    assert list(OPS) == list(_RAND_INCREASING_TRANSFORMS)
    assert stats.chisquare([names.count(name) for name in OPS]).pvalue > LEAST_P
    lengths = np.bincount([len(applied) for applied in drawn], minlength=5)
    assert stats.chisquare(lengths, DRAWS * stats.binom(4, 0.5).pmf(np.arange(5))).pvalue > LEAST_P


def test_magnitudes_are_normal_and_clipped() -> None:
    rng = np.random.default_rng(1)
    policy = RandAugment(7.0, 4, 0.5)
    levels = [level for _ in range(DRAWS) for _, level in policy.draw(rng)]
    assert stats.kstest(levels, stats.norm(0.7, 0.05).cdf).pvalue > LEAST_P
    wide = [level for _ in range(500) for _, level in RandAugment(9.0, 4, 3.0).draw(rng)]
    assert (min(wide) >= 0.0, max(wide)) == (True, 1.0)
    assert np.mean(np.equal(wide, 1.0)) == pytest.approx(stats.norm(9, 3).sf(10), abs=0.06)
    assert {level for _ in range(50) for _, level in RandAugment(7.0, 4, 0.0).draw(rng)} == {0.7}


def timm_results(name: str, level: float, image: np.ndarray) -> list[np.ndarray]:
    """timm's result for either sign of the magnitude, bilinear where it interpolates, as float64 `[H, W, 3]`."""
    results, drawing = {}, {"fillcolor": (128,) * 3, "resample": Image.Resampling.BILINEAR}
    for seed in range(12):
        random.seed(seed)
        amount = LEVEL_TO_ARG[name](10 * level, {}) if LEVEL_TO_ARG[name] else ()
        result = NAME_TO_OP[name](Image.fromarray(image), *amount, **drawing)
        results[amount] = np.asarray(result, float)
    return list(results.values())


# Mean absolute difference allowed: bilinear edges and integer translation, rounding of grey values, exact.
GEOMETRY = {"Rotate": 2.0, "ShearX": 2.0, "ShearY": 2.0, "TranslateXRel": 0.5, "TranslateYRel": 0.5}
EXACT = 0.02
BLENDS = dict.fromkeys(
    ["ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing"], 1.0
)


@pytest.mark.parametrize(
    ("name", "level"),
    # Pillow takes no 0 bits any more, which is what the whole level of posterising means.
    [
        (name, level)
        for name in _RAND_INCREASING_TRANSFORMS
        for level in (1 / 3, 0.9 if "Poster" in name else 1.0)
    ],
)
def test_operations_are_those_of_timm(name: str, level: float) -> None:
    """A third and the whole of the largest translation are whole pixels of an 80x60 picture."""
    image = picture() if name in GEOMETRY else grainy_picture()
    frames = torch.from_numpy(image).permute(2, 0, 1)[None]
    expected, allowed = timm_results(name, level, image), {**GEOMETRY, **BLENDS}.get(name, EXACT)
    matched = set()
    for seed in range(12):
        result = applied(name, frames, level, np.random.default_rng(seed))
        assert (result.dtype, result.shape) == (torch.uint8, frames.shape)
        got = result[0].permute(1, 2, 0).double().numpy()
        errors = [np.abs(got - one).mean() for one in expected]
        assert min(errors) <= allowed
        matched.add(int(np.argmin(errors)))
    assert matched == set(range(len(expected)))


@pytest.mark.parametrize(
    "name", sorted(set(OPS) - {"AutoContrast", "Equalize", "Invert", "PosterizeIncreasing"})
)
def test_level_zero_leaves_the_frames(name: str) -> None:
    frames = torch.from_numpy(same_frames()).permute(0, 3, 1, 2).contiguous()
    result = applied(name, frames, 0.0, np.random.default_rng(0))
    assert (result.int() - frames.int()).abs().max() <= 1


def test_the_whole_level_of_posterising_is_black() -> None:
    frames = torch.from_numpy(picture()).permute(2, 0, 1)[None]
    assert (applied("PosterizeIncreasing", frames, 1.0, np.random.default_rng(0)) == 0).all()


def some_frames() -> Tensor:
    """Three frames `[3, 3, 60, 80]`: with noise, without, of one level."""
    frames = torch.from_numpy(
        np.stack([grainy_picture(), picture(), np.full((60, 80, 3), 9, np.uint8)])
    )
    return frames.permute(0, 3, 1, 2).contiguous()


@pytest.mark.parametrize(
    ("name", "theirs"), [("Equalize", equalize), ("AutoContrast", autocontrast)]
)
def test_spreading_levels_is_torchvisions(name: str, theirs: Callable[[Tensor], Tensor]) -> None:
    frames = some_frames()
    assert torch.equal(applied(name, frames, 0.5, np.random.default_rng(0)), theirs(frames))


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("ContrastIncreasing", adjust_contrast), ("ColorIncreasing", adjust_saturation)],
)
@pytest.mark.parametrize("level", [0.0, 0.3, 0.7, 1.0])
def test_contrast_and_saturation_are_torchvisions(
    name: str, theirs: Callable[[Tensor, float], Tensor], level: float
) -> None:
    frames = some_frames()
    expected = [theirs(frames, max(0.1, 1 + sign * 0.9 * level)) for sign in (-1, 1)]
    for seed in range(6):
        result = applied(name, frames, level, np.random.default_rng(seed))
        assert any(torch.equal(result, one) for one in expected)


def test_levels_are_looked_up_and_counted_alike_on_every_device() -> None:
    rng = np.random.default_rng(13)
    plane, table = (
        torch.from_numpy(rng.integers(0, 256, size, dtype=np.uint8)) for size in ((30, 40), 256)
    )
    assert torch.equal(look_up_by_indexing(plane, table), look_up(plane, table))
    np.testing.assert_array_equal(count_levels(plane), histogram(plane))
    np.testing.assert_array_equal(
        count_levels(plane), np.bincount(plane.numpy().ravel(), minlength=256)
    )


@st.composite
def boxes(draw: st.DrawFn, height: int, width: int) -> tuple[int, int, int, int]:
    y, x = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
    return y, x, draw(st.integers(1, height - y)), draw(st.integers(1, width - x))


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from(sorted(OPS)), st.floats(0, 1)), max_size=4),
    boxes(22, 30),
    st.integers(0, 2**32 - 1),
)
def test_only_the_crop_is_computed_and_it_is_the_same(
    drawn: list[tuple[str, float]], box: tuple[int, int, int, int], seed: int
) -> None:
    frames = torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (3, 3, 22, 30), dtype=np.uint8)
    )
    before = frames.clone()
    ops = [OPS[name](level, np.random.default_rng(seed)) for name, level in drawn]
    everything = frames
    for op in ops:
        everything = op.apply(everything, full_box(everything))
    assert torch.equal(apply_ops(frames, ops, box), crop(everything, box))
    assert torch.equal(frames, before)


def test_geometry_is_filled_with_grey() -> None:
    """A white frame turned by 30 degrees has grey corners of 128."""
    frames = torch.full((1, 3, 60, 60), 255, dtype=torch.uint8)
    turned = applied("Rotate", frames, 1.0, np.random.default_rng(0))
    assert turned[0, :, 0, 0].tolist() == turned[0, :, -1, -1].tolist() == [128] * 3
    assert turned[0, 0, 30, 30] == 255
