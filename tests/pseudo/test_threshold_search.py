"""The threshold search against a search over every possible threshold, with scikit-learn's figures."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import f1_score, precision_score, recall_score

from nightcrawler.pseudo.threshold_search import NO_EVIDENCE, lower_bound, search


def made(seed: int, num_videos: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted classes, confidences of one decimal (so that there are ties), labels (some unknown)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, num_videos)
    classes = np.where(rng.random(num_videos) < 0.7, labels, rng.integers(0, 3, num_videos))
    confidences = np.round(
        0.3 + 0.4 * (classes == labels) * rng.random(num_videos) + 0.3 * rng.random(num_videos), 1
    )
    labels[rng.random(num_videos) < 0.2] = -1
    return classes, confidences, labels


def figures(
    classes: np.ndarray, confidences: np.ndarray, labels: np.ndarray, label: int
) -> dict[float, list[float]]:
    """Precision, recall and F1 of a class for each threshold that its videos of known label allow."""
    known = labels >= 0
    candidates = sorted(set(confidences[known & (classes == label)]))
    found = {}
    for threshold in candidates:
        guess = ((classes == label) & (confidences >= threshold))[known]
        true = (labels == label)[known]
        found[threshold] = [
            float(score(true, guess)) for score in (precision_score, recall_score, f1_score)
        ]
    return found


@pytest.mark.parametrize("confidence", [0.5, 0.8, 0.95])
def test_the_lower_bound_is_the_one_of_scipy(confidence: float) -> None:
    pairs = [(1, 1), (0, 3), (9, 10), (4, 5), (25, 27)]
    right, clips = np.array(pairs).T
    wanted = []
    for hits, trials in pairs:
        test = binomtest(hits, trials, alternative="greater")
        wanted.append(test.proportion_ci(confidence, method="wilson").low)
    assert lower_bound(right, clips, confidence) == pytest.approx(wanted, abs=1e-12)


def test_one_lucky_clip_reaches_no_precision() -> None:
    """Class 0 has one right clip, class 1 ten, class 2 four: 4 / (4 + z^2) = 0.85 with z = 0.84."""
    classes = np.array([0] + [1] * 10 + [2] * 4)
    confidences = np.full(15, 0.6)
    plain = search(classes, confidences, classes, 3, "precision", 0.8)
    assert plain.reached.tolist() == [True, True, True]
    bounded = search(classes, confidences, classes, 3, "precision", 0.8, confidence=0.8)
    assert bounded.reached.tolist() == [False, True, True]
    found = search(classes, confidences, classes, 3, "precision", 0.8, 5, 0.8)
    assert found.reached.tolist() == [False, True, False]
    assert [one.clips for one in found.evidence] == [1, 10, 4]
    assert [one.right for one in found.evidence] == [1, 10, 4]


def share_that_passes(precision: float, support: int, confidence: float) -> float:
    """Return the share of 300 classes of 15 clips, of random confidence, that reach 0.8 somewhere."""
    rng = np.random.default_rng(1)
    passed = 0
    for _ in range(300):
        labels = np.where(rng.random(15) < precision, 0, 1)
        found = search(
            np.zeros(15, int), rng.random(15), labels, 2, "precision", 0.8, support, confidence
        )
        passed += int(found.reached[0])
    return passed / 300


def test_bad_classes_seldom_pass_and_good_ones_do() -> None:
    """The figures of docs/label_free.md."""
    assert share_that_passes(0.6, 1, 0.5) == pytest.approx(0.66, abs=0.05)
    assert share_that_passes(0.6, 5, 0.8) == pytest.approx(0.10, abs=0.05)
    assert share_that_passes(0.97, 5, 0.8) == pytest.approx(0.96, abs=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_every_goal_is_the_best_of_all_thresholds(seed: int) -> None:
    classes, confidences, labels = made(seed)
    for label in range(3):
        every = figures(classes, confidences, labels, label)
        f1 = search(classes, confidences, labels, 3, "f1")
        best = max(f for _, _, f in every.values())
        assert f1.thresholds[label] == min(
            t for t, (_, _, f) in every.items() if f == pytest.approx(best, abs=1e-12)
        )
        precision = search(classes, confidences, labels, 3, "precision", 0.8)
        good = [t for t, (p, _, _) in every.items() if p >= 0.8]
        assert precision.reached[label] == bool(good)
        highest = max(p for p, _, _ in every.values())
        assert precision.thresholds[label] == (
            min(good) if good else min(t for t in every if every[t][0] == highest)
        )
        recall = search(classes, confidences, labels, 3, "recall", 0.5)
        good = [t for t, (_, r, _) in every.items() if r >= 0.5]
        assert recall.reached[label] == bool(good)
        assert recall.thresholds[label] == (max(good) if good else min(every))


def test_f1_is_no_multiple_of_precision() -> None:
    """The published search took 3 x precision for F1 and so kept only its surest video."""
    classes, confidences = np.zeros(10, int), np.linspace(1.0, 0.1, 10)
    labels = np.array([0] + [1] + [0] * 8)
    assert search(classes, confidences, labels, 2, "f1").thresholds[0] == pytest.approx(0.1)
    assert search(classes, confidences, labels, 2, "precision", 1.0).thresholds[0] == 1.0


def test_a_goal_out_of_reach_is_said() -> None:
    classes, confidences = np.zeros(4, int), np.array([0.9, 0.8, 0.7, 0.6])
    labels = np.array([1, 0, 0, 1])
    found = search(classes, confidences, labels, 2, "precision", 0.9)
    assert not found.reached[0]
    assert found.thresholds[0] == 0.7
    assert not search(classes, confidences, np.array([1, 0, 1, 1]), 2, "recall", 1.0).reached[1]


def test_a_class_that_is_never_predicted_keeps_only_certainty() -> None:
    found = search(np.zeros(3, int), np.full(3, 0.5), np.array([0, 0, 1]), 3, "precision", 0.5)
    assert found.thresholds.tolist() == [0.5, NO_EVIDENCE, NO_EVIDENCE]
    assert found.reached.tolist() == [True, False, False]


def test_videos_of_unknown_label_count_for_nothing() -> None:
    classes, confidences, labels = made(3)
    known = labels >= 0
    for goal in ("precision", "recall", "f1"):
        whole = search(classes, confidences, labels, 3, goal, 0.7)
        part = search(classes[known], confidences[known], labels[known], 3, goal, 0.7)
        np.testing.assert_array_equal(whole.thresholds, part.thresholds)
