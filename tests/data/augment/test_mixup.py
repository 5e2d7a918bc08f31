"""Mixing: formulas written out in float64, hard and soft targets alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nightcrawler.data.augment.mixup import (
    MixUp,
    cutmix_box,
    mix_reversed,
    mixup_target,
    one_hot_smooth,
)

K = 5


def make_mixup(**changed: float) -> MixUp:
    published = {
        "mixup_alpha": 0.8,
        "cutmix_alpha": 1.0,
        "prob": 1.0,
        "switch_prob": 0.5,
        "label_smoothing": 0.1,
    }
    return MixUp(**{**published, **changed}, num_classes=K)


def clips(batch: int = 4, height: int = 10, width: int = 14) -> torch.Tensor:
    return torch.randn(batch, 3, 2, height, width, generator=torch.Generator().manual_seed(0))


LABELS = torch.tensor([0, 3, 3, 4])
SOFT = torch.tensor([[0.6, 0.1, 0.1, 0.1, 0.1], [0, 1.0, 0, 0, 0], [0.2] * 5, [0, 0, 0.5, 0.5, 0]])


@given(st.floats(0, 1), st.integers(2, 20))
def test_smoothed_one_hot_is_the_formula(smoothing: float, num_classes: int) -> None:
    labels = [0, num_classes - 1, 1]
    expected = [
        [(1 - smoothing) * (k == label) + smoothing / num_classes for k in range(num_classes)]
        for label in labels
    ]
    got = one_hot_smooth(torch.tensor(labels), num_classes, smoothing)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got, expected, atol=1e-6)
    np.testing.assert_allclose(got.sum(1), 1.0, atol=1e-5)


@given(st.floats(0, 1))
def test_mixed_targets_are_the_formula_and_sum_to_one(lam: float) -> None:
    target = mixup_target(LABELS, K, lam, smoothing=0.1)
    for row, (one, other) in enumerate(zip(LABELS, LABELS.flip(0), strict=True)):
        expected = [0.1 / K + 0.9 * (lam * (k == one) + (1 - lam) * (k == other)) for k in range(K)]
        np.testing.assert_allclose(target[row], expected, atol=1e-6)
    np.testing.assert_allclose(target.sum(1), 1.0, atol=1e-6)


def test_the_partner_is_the_reversed_batch() -> None:
    values = torch.tensor([[1.0], [10.0], [100.0]])
    assert mix_reversed(values, 0.75).flatten().tolist() == pytest.approx([25.75, 10.0, 75.25])


@given(st.integers(1, 40), st.integers(1, 40), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_cutmix_boxes(height: int, width: int, lam: float, seed: int) -> None:
    """The corrected lam is the share of pixels that stay, whatever the frame cuts off."""
    (y_low, y_high, x_low, x_high), corrected = cutmix_box(
        height, width, lam, np.random.default_rng(seed)
    )
    assert 0 <= y_low <= y_high <= height
    assert 0 <= x_low <= x_high <= width
    mask = np.ones((height, width))
    mask[y_low:y_high, x_low:x_high] = 0
    assert corrected == pytest.approx(mask.mean(), abs=1e-12)
    assert corrected >= lam - 1e-9


def test_cutmix_boxes_by_hand() -> None:
    """lam 0.75: sides are half the frame's, (10, 15) of (20, 30); at the corner a quarter of the box is left."""
    assert cutmix_box(20, 30, 0.75, centre=(10, 15)) == ((5, 15, 8, 22), 1 - 10 * 14 / 600)
    assert cutmix_box(20, 30, 0.75, centre=(0, 0)) == ((0, 5, 0, 7), 1 - 35 / 600)
    assert cutmix_box(20, 30, 1.0, centre=(10, 15))[1] == 1.0
    assert cutmix_box(20, 30, 0.0, centre=(10, 15)) == ((0, 20, 0, 30), 0.0)
    with pytest.raises(ValueError, match="needs rng or centre"):
        cutmix_box(20, 30, 0.5)


def test_cutmix_centres_are_uniform() -> None:
    """A box without pixels begins at its centre."""
    rng = np.random.default_rng(0)
    boxes = [cutmix_box(8, 12, 1.0, rng)[0] for _ in range(3000)]
    for low, side in ((0, 8), (2, 12)):
        counts = np.bincount([box[low] for box in boxes], minlength=side)
        assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("target", [LABELS, SOFT], ids=["hard", "soft"])
def test_mixup_of_a_batch(target: torch.Tensor) -> None:
    """lam is the generator's: one draw against PROB, one Beta(0.8, 0.8)."""
    mixup = make_mixup(cutmix_alpha=0.0)
    kind, lam = mixup.draw(np.random.default_rng(3))
    assert kind == "mixup"
    clip, before = clips(), target.clone()
    mixed, mixed_target = mixup(clip, target, np.random.default_rng(3))
    soft = (target if target.ndim == 2 else one_hot_smooth(target, K, 0.1)).double()
    np.testing.assert_allclose(
        mixed, lam * clip.double() + (1 - lam) * clip.double().flip(0), atol=1e-6
    )
    np.testing.assert_allclose(mixed_target, lam * soft + (1 - lam) * soft.flip(0), atol=1e-6)
    assert torch.equal(clip, clips())
    assert torch.equal(target, before)


@pytest.mark.parametrize("target", [LABELS, SOFT], ids=["hard", "soft"])
@pytest.mark.parametrize("seed", range(6))
def test_cutmix_of_a_batch(target: torch.Tensor, seed: int) -> None:
    """Targets are mixed by the share of pixels that are really the partner's."""
    clip = clips()
    mixed, mixed_target = make_mixup(mixup_alpha=0.0)(clip, target, np.random.default_rng(seed))
    own = (mixed == clip).all(dim=1).all(dim=1)
    assert (own == own[0]).all()
    assert torch.equal(mixed, torch.where(own[:, None, None], clip, clip.flip(0)))
    share = own[0].double().mean().item()
    soft = (target if target.ndim == 2 else one_hot_smooth(target, K, 0.1)).double()
    np.testing.assert_allclose(mixed_target, share * soft + (1 - share) * soft.flip(0), atol=1e-6)
    assert torch.equal(clip, clips())


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.booleans())
@settings(deadline=None)
def test_mixed_targets_are_probabilities(seed: int, batch: int, hard: bool) -> None:
    rng = np.random.default_rng(seed)
    target = torch.from_numpy(
        rng.integers(0, K, batch) if hard else rng.dirichlet(np.ones(K), batch)
    ).to(torch.int64 if hard else torch.float32)
    mixed, mixed_target = make_mixup()(clips(batch), target, rng)
    assert mixed.shape == (batch, 3, 2, 10, 14)
    assert mixed_target.shape == (batch, K)
    assert mixed_target.dtype == torch.float32
    assert (mixed_target >= 0).all()
    np.testing.assert_allclose(mixed_target.sum(1), 1.0, atol=1e-5)


@pytest.mark.parametrize("changed", [{"prob": 0.0}, {"mixup_alpha": 0.0, "cutmix_alpha": 0.0}])
def test_without_mixing_only_the_smoothing_is_left(changed: dict[str, float]) -> None:
    mixup, clip = make_mixup(**changed), clips()
    for seed in range(20):
        mixed, target = mixup(clip, LABELS, np.random.default_rng(seed))
        assert torch.equal(mixed, clip)
        assert torch.equal(target, one_hot_smooth(LABELS, K, 0.1))
        assert torch.equal(mixup(clip, SOFT, np.random.default_rng(seed))[1], SOFT)


def test_draws_follow_prob_switch_and_beta() -> None:
    mixup, rng = make_mixup(prob=0.7, switch_prob=0.25), np.random.default_rng(5)
    drawn = [mixup.draw(rng) for _ in range(4000)]
    counts = [sum(kind == name for kind, _ in drawn) for name in ("none", "mixup", "cutmix")]
    assert stats.chisquare(counts, np.array([0.3, 0.7 * 0.75, 0.7 * 0.25]) * 4000).pvalue > 1e-3
    for name, alpha in (("mixup", 0.8), ("cutmix", 1.0)):
        lams = [lam for kind, lam in drawn if kind == name]
        assert stats.kstest(lams, stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    assert {lam for kind, lam in drawn if kind == "none"} == {1.0}


def test_only_one_kind_where_the_other_is_off() -> None:
    for off, kind in (("mixup_alpha", "cutmix"), ("cutmix_alpha", "mixup")):
        rng = np.random.default_rng(6)
        assert {make_mixup(**{off: 0.0}).draw(rng)[0] for _ in range(50)} == {kind}
