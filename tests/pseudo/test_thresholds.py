"""Thresholds per class, and the ways of choosing them without labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightcrawler.pseudo.thresholds import (
    class_balanced,
    keep_all,
    most_probable,
    selected,
    top_fraction,
)

CLASSES = np.array([0, 0, 0, 0, 1, 1, 2])
CONFIDENCES = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])


def test_most_probable_takes_the_first_of_equals() -> None:
    classes, confidences = most_probable(np.array([[0.2, 0.4, 0.4], [0.5, 0.25, 0.25]]))
    assert classes.tolist() == [1, 0]
    assert confidences.tolist() == [0.4, 0.5]


def test_a_threshold_is_reached_by_its_equal() -> None:
    kept = selected(CLASSES, CONFIDENCES, np.array([0.8, 0.45, 0.31]))
    assert kept.tolist() == [True, True, False, False, True, False, False]
    assert selected(CLASSES, CONFIDENCES, keep_all(3)).all()


@pytest.mark.parametrize(
    ("fraction", "counts"), [(0.5, [2, 1, 1]), (0.51, [3, 2, 1]), (1.0, [4, 2, 1])]
)
def test_top_fraction_keeps_the_most_confident_of_each_class(
    fraction: float, counts: list[int]
) -> None:
    kept = selected(CLASSES, CONFIDENCES, top_fraction(CLASSES, CONFIDENCES, 3, fraction))
    assert np.bincount(CLASSES[kept], minlength=3).tolist() == counts
    for label in range(3):
        own = label == CLASSES
        assert min(CONFIDENCES[own & kept]) > max(CONFIDENCES[own & ~kept], default=0)


def test_rounding_up_is_not_fooled_by_floating_point() -> None:
    classes, confidences = np.zeros(100, int), np.linspace(0, 1, 100)
    assert 0.07 * 100 > 7
    assert selected(classes, confidences, top_fraction(classes, confidences, 1, 0.07)).sum() == 7


def test_ties_at_the_threshold_are_all_kept() -> None:
    confidences = np.array([0.9, 0.5, 0.5, 0.5])
    assert selected(
        np.zeros(4, int), confidences, top_fraction(np.zeros(4, int), confidences, 1, 0.5)
    ).all()


def test_balanced_gives_each_class_its_share() -> None:
    classes = np.repeat([0, 1, 2], [60, 30, 10])
    confidences = np.random.default_rng(0).permutation(100) / 100
    kept = selected(classes, confidences, class_balanced(classes, confidences, 0.6, [1, 1, 1]))
    assert np.bincount(classes[kept]).tolist() == [20, 20, 10]
    kept = selected(
        classes, confidences, class_balanced(classes, confidences, 0.5, [0.6, 0.3, 0.1])
    )
    assert np.bincount(classes[kept]).tolist() == [30, 15, 5]


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=40),
    st.floats(0.01, 1),
    st.randoms(use_true_random=False),
)
@settings(max_examples=100, deadline=None)
def test_the_order_of_rows_is_irrelevant(
    rows: list[tuple[int, int]], fraction: float, random: object
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    results = []
    for some in (rows, shuffled):
        classes, confidences = np.array([c for c, _ in some]), np.array([p / 6 for _, p in some])
        for thresholds in (
            top_fraction(classes, confidences, 4, fraction),
            class_balanced(classes, confidences, fraction, [1, 1, 1, 1]),
        ):
            results.append(thresholds.tolist())
            kept = selected(classes, confidences, thresholds)
            assert set(classes[kept]) == set(classes)
    assert results[:2] == results[2:]
    counts = np.bincount([c for c, _ in rows], minlength=4)
    kept = selected(classes, confidences, np.array(results[0]))
    assert (
        np.bincount(classes[kept], minlength=4)
        >= [math.floor(fraction * count) for count in counts]
    ).all()
