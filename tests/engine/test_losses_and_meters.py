"""Losses and meters against formulas written out and other libraries."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, top_k_accuracy_score
from torch.nn import functional

from nightcrawler.data.augment.mixup import one_hot_smooth
from nightcrawler.engine.evaluator import average_clips
from nightcrawler.engine.losses import (
    Loss,
    distillation,
    distillation_published,
    labelled_loss,
    soft_cross_entropy,
)
from nightcrawler.engine.meters import EpochMeter, accuracy, topk_correct, wilson_interval
from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.utils.registries import LOSSES


def test_soft_cross_entropy_is_torchs_for_one_hot_and_for_probabilities() -> None:
    logits = torch.randn(5, 7, dtype=torch.float64)
    labels = torch.tensor([0, 6, 3, 3, 1])
    hard = soft_cross_entropy(logits, functional.one_hot(labels, 7).double())
    assert hard.item() == pytest.approx(functional.cross_entropy(logits, labels).item())
    probs = torch.randn(5, 7, dtype=torch.float64).softmax(1)
    assert soft_cross_entropy(logits, probs).item() == pytest.approx(
        functional.cross_entropy(logits, probs).item()
    )


def test_weighted_classes_are_those_of_torch() -> None:
    counts = torch.tensor([20, 4, 1, 5])
    labels = torch.tensor([0] * 20 + [1] * 4 + [2] + [3] * 5)
    logits = torch.randn(30, 4, dtype=torch.float64)
    found = labelled_loss("weights", counts)(logits, functional.one_hot(labels, 4).double())
    # Weighted so that a class counts as another, however many clips it has.
    means = [functional.cross_entropy(logits[labels == k], labels[labels == k]) for k in range(4)]
    assert found.item() == pytest.approx(sum(one.item() for one in means) / 4)
    torchs = functional.cross_entropy(logits, labels, weight=30 / (4 * counts.double()))
    assert found.item() == pytest.approx(torchs.item())


def test_smoothed_labels_leave_the_weights_of_classes_as_they_are() -> None:
    """A class of one clip, and one of none, gave their weight to every clip."""
    counts = torch.tensor([5000, 500, 500, 1, 0])
    labels = torch.tensor([0, 1])
    logits = torch.randn(1, 5, dtype=torch.float64).expand(2, 5)
    loss = labelled_loss("weights", counts, smoothing=0.1)
    target = one_hot_smooth(labels, 5, 0.1).double()
    plain = -(target * logits.log_softmax(1)).sum(1)
    for row, weight in enumerate((6001 / (4 * 5000), 6001 / (4 * 500))):
        found = loss(logits[row : row + 1], target[row : row + 1]).item()
        assert found == pytest.approx(weight * plain[row].item(), rel=1e-5)
    # Half of each class weighs as their mean.
    mixed = loss(logits[:1], target.mean(0, keepdim=True)).item()
    assert mixed == pytest.approx(6001 / 8 * (1 / 5000 + 1 / 500) * plain.mean().item(), rel=1e-5)


def fitted_logits(loss: Loss, target: torch.Tensor) -> torch.Tensor:
    """The one row of logits `[K]` with the smallest loss for all targets `[B, K]`."""
    logits = torch.zeros(target.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100)

    def closure() -> float:
        optimizer.zero_grad()
        value = loss(logits.expand_as(target), target)
        value.backward()
        return value.item()

    optimizer.step(closure)
    return logits.detach()


@pytest.mark.parametrize(
    ("balance", "expected"), [("logits", [1 / 3] * 3), ("none", [0.6, 0.3, 0.1])]
)
def test_adjusted_logits_favour_no_class(balance: str, expected: list[float]) -> None:
    """The best fit of z + log(share) to labels of unequal classes is a z of equal ones."""
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    loss = labelled_loss(balance, torch.bincount(labels))
    found = fitted_logits(loss, functional.one_hot(labels, 3).double()).softmax(0)
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_a_class_without_clips_leaves_losses_finite() -> None:
    counts = torch.tensor([4, 0, 2])
    target = functional.one_hot(torch.tensor([0, 0, 2]), 3).double()
    for balance in ("weights", "logits"):
        assert torch.isfinite(labelled_loss(balance, counts)(torch.zeros(3, 3).double(), target))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_distillation_is_the_kl_of_softened_logits(temperature: float) -> None:
    student, teacher = (
        torch.randn(6, 5, dtype=torch.float64),
        torch.randn(6, 5, dtype=torch.float64),
    )
    p, q = (teacher / temperature).softmax(1), (student / temperature).softmax(1)
    expected = temperature**2 * (p * (p.log() - q.log())).sum(1).mean()
    assert distillation(student, teacher.softmax(1), temperature).item() == pytest.approx(
        expected.item()
    )


def test_distillation_takes_zeros_and_vanishes_at_the_teacher() -> None:
    target = torch.tensor([[1.0, 0.0, 0.0]])
    assert torch.isfinite(distillation(torch.zeros(1, 3), target, 2.0))
    logits = torch.randn(4, 3, dtype=torch.float64)
    assert distillation(logits, logits.softmax(1), 3.0).item() == pytest.approx(0, abs=1e-12)


def test_the_published_distillation_rounds_the_teacher_to_float16() -> None:
    """By NumPy's float16, whose smallest number above 0 is 6e-8: a teacher below counts as 0."""
    logits = np.array([[0.5, -1.0, 2.0], [1.5, 0.25, -0.75]])
    teacher = np.array([[0.3333, 0.6666, 1e-9], [0.7001, 0.2, 0.0999]])
    rounded = teacher.astype(np.float16).astype(np.float64) / 2
    log_student = logits / 2 - np.log(np.exp(logits / 2).sum(axis=1, keepdims=True))
    entropy = np.where(rounded > 0, rounded * np.log(np.where(rounded > 0, rounded, 1)), 0)
    expected = 4 * (entropy - rounded * log_student).mean()
    found = distillation_published(torch.tensor(logits), torch.tensor(teacher), 2.0)
    # Products with logarithms of float16 are float16 again: half a unit in the last place, 2^-12.
    assert found.item() == pytest.approx(expected, abs=2**-12)
    exact = distillation_published(
        torch.tensor(logits), torch.tensor(teacher), 2.0, teacher_dtype=torch.float64
    )
    assert abs(found.item() - exact.item()) > 1e-6


def test_every_named_loss_is_built_at_its_temperature() -> None:
    """Cross entropy is never softened, the distillations are."""
    logits = torch.randn(4, 5, dtype=torch.float64)
    target = torch.randn(4, 5, dtype=torch.float64).softmax(1)
    expected = {
        "hard": soft_cross_entropy(logits, target),
        "soft": soft_cross_entropy(logits, target),
        "kl": distillation(logits, target, 3.0),
        "kl_published": distillation_published(logits, target, 3.0),
    }
    assert LOSSES.names() == list(expected)
    for name, value in expected.items():
        assert LOSSES.get(name)(temperature=3.0)(logits, target).item() == value.item()


def test_topk_counts_are_sklearns() -> None:
    logits, labels = torch.randn(50, 8), torch.randint(8, (50,))
    counts = topk_correct(logits, labels, [1, 5])
    for k, count in zip([1, 5], counts, strict=True):
        expected = top_k_accuracy_score(labels, logits, k=k, normalize=False, labels=range(8))
        assert count == expected


def predictions(probs: np.ndarray, labels: np.ndarray, status: list[str]) -> Predictions:
    names = [str(i) for i in range(len(labels))]
    return Predictions(np.log(probs), probs, labels, names, np.ones(len(labels), np.int64), status)


def test_accuracy_is_sklearns_and_leaves_out_unlabelled_videos() -> None:
    rng = np.random.default_rng(1)
    probs = rng.dirichlet(np.ones(6), 80).astype(np.float32)
    labels = rng.integers(-1, 6, 80)
    figures = accuracy(predictions(probs, labels, ["ok"] * 80))
    known = labels >= 0
    expected = balanced_accuracy_score(labels[known], probs[known].argmax(1))
    assert figures["num_videos"] == known.sum()
    assert figures["mean_class"] == pytest.approx(100 * expected)
    assert figures["top1"] == pytest.approx(100 * np.mean(probs[known].argmax(1) == labels[known]))


def test_a_video_without_prediction_counts_as_wrong() -> None:
    probs = np.array([[0.9, 0.1], [np.nan, np.nan]], np.float32)
    figures = accuracy(predictions(probs, np.array([0, 0]), ["ok", "error: truncated (decode)"]))
    assert (figures["top1"], figures["num_bad"]) == (50.0, 1)


def test_wilson_interval_of_a_textbook_case() -> None:
    low, high = wilson_interval(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=2e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


def test_joined_clips_are_means_of_logits_and_of_softmax() -> None:
    clips = np.random.default_rng(0).normal(size=(9, 5))
    logits, probs = average_clips(clips)
    np.testing.assert_allclose(logits, clips.mean(0))
    np.testing.assert_allclose(probs, torch.from_numpy(clips).softmax(1).mean(0).numpy())
    np.testing.assert_allclose(average_clips(clips, "max")[0], clips.max(0))


def test_epoch_meter() -> None:
    meter = EpochMeter()
    assert np.isnan(meter.ratio("loss", "steps"))
    meter.add(loss=3.0, steps=1)
    meter.add(loss=1.0, steps=1)
    assert meter.ratio("loss", "steps") == 2.0
