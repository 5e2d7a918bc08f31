"""Measures of the report against formulas written out, scipy and scikit-learn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import accuracy_score

from nightcrawler.report import measures
from nightcrawler.report.measures import TopPredictions


def predictions(
    classes: list[int], labels: list[int], confidences: list[float] | None = None
) -> TopPredictions:
    names = [f"{row}.mp4" for row in range(len(classes))]
    shown = np.array(confidences if confidences is not None else [0.5] * len(classes))
    return TopPredictions(names, np.array(classes), shown, np.array(labels), "label-free", (1,))


@settings(deadline=None)
@given(st.integers(0, 300), st.integers(0, 300))
def test_an_interval_is_wilsons(correct: int, more: int) -> None:
    total = correct + more
    found = measures.share(correct, total)
    if not total:
        assert (found["percent"], found["low"], found["high"]) == (None, 0.0, 100.0)
        return
    low, high = binomtest(correct, total).proportion_ci(0.95, "wilson")
    assert found["percent"] == pytest.approx(100 * correct / total)
    # 1.96 stands for the quantile.
    assert (found["low"], found["high"]) == pytest.approx((100 * low, 100 * high), abs=0.01)


def test_accuracy_is_scikit_learns_and_confusion_is_counted_pair_by_pair() -> None:
    rng = np.random.default_rng(0)
    # Class 6 is neither true nor predicted, and has its row and column all the same.
    classes, labels = rng.integers(0, 6, 400), rng.integers(0, 6, 400)
    found = predictions(classes.tolist(), labels.tolist())
    assert measures.score(found)["percent"] == pytest.approx(100 * accuracy_score(labels, classes))
    pairs = list(zip(labels.tolist(), classes.tolist(), strict=True))
    expected = [[pairs.count((row, column)) for column in range(7)] for row in range(7)]
    assert measures.confusion(found, 7) == expected
    assert sum(map(sum, expected)) == 400


def test_a_confusion_matrix_of_no_clips_is_zero() -> None:
    assert measures.confusion(predictions([], []), 2) == [[0, 0], [0, 0]]
    assert measures.confusion(predictions([-1, 1], [0, -1]), 2) == [[0, 0], [0, 0]]


def test_unknown_labels_do_not_count_and_missing_predictions_are_wrong() -> None:
    found = predictions([0, 1, -1, 1], [0, -1, 1, 0])
    assert (measures.score(found)["correct"], measures.score(found)["total"]) == (1, 3)
    assert measures.confusion(found, 2) == [[1, 1], [0, 0]]


def test_calibration_error_by_hand() -> None:
    """Two clips in (0.5, 0.6]: mean 0.56, half right; one in (0.9, 1]: 0.95, wrong; one in (0, 0.1] whole right."""
    found = predictions([0, 0, 0, 0], [0, 1, 1, 0], [0.52, 0.6, 0.95, 0.1])
    answer = measures.calibration(found)
    expected = 2 / 4 * abs(0.5 - 0.56) + 1 / 4 * abs(0 - 0.95) + 1 / 4 * abs(1 - 0.1)
    assert answer["ece"] == pytest.approx(100 * expected)
    assert [one["accuracy"]["total"] for one in answer["bins"]] == [1, 2, 1]
    assert [one["confidence"] for one in answer["bins"]] == pytest.approx([10, 56, 95])


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=60))
def test_calibration_error_bin_by_bin(rows: list[tuple[float, bool]]) -> None:
    """ECE = sum n_b / n |acc_b - conf_b| over bins ((b-1)/10, b/10], the first with 0."""
    found = predictions(
        [0] * len(rows), [0 if hit else 1 for _, hit in rows], [one for one, _ in rows]
    )
    answer = measures.calibration(found)
    if not rows:
        assert answer == {"ece": None, "clips": 0, "mean": None, "bins": []}
        return
    ece, edges = 0.0, np.linspace(0, 1, 11)
    for place in range(10):
        low, high = edges[place], edges[place + 1]
        here = [row for row in rows if low < row[0] <= high or (place == 0 and row[0] == 0)]
        if here:
            accuracy = sum(hit for _, hit in here) / len(here)
            ece += len(here) / len(rows) * abs(accuracy - sum(one for one, _ in here) / len(here))
    assert answer["ece"] == pytest.approx(100 * ece)
    assert sum(one["accuracy"]["total"] for one in answer["bins"]) == len(rows)


def test_agreement_leaves_clips_without_a_prediction_out() -> None:
    models = [predictions(one, [0] * 4) for one in ([0, 1, 2, -1], [0, 1, 1, 1], [0, 0, 2, 1])]
    table = measures.agreement(models)
    # First and second: three clips, two alike; first and third: three, two; second and third: four, two.
    assert table[0][1] == pytest.approx(200 / 3)
    assert table[1][2] == table[2][1] == pytest.approx(50)
    assert [table[at][at] for at in range(3)] == [100, 100, 100]
    assert measures.mean_agreement(table) == pytest.approx((200 / 3 + 200 / 3 + 50) / 3)


def test_drift_by_hand() -> None:
    before = {"a": 0, "b": 1, "c": 1, "d": 2}
    found = measures.drift(before, {"b": 1, "c": 2, "d": 0, "e": 0, "f": 1})
    assert {key: found[key] for key in ("both", "changed", "new", "gone")} == {
        "both": 3,
        "changed": 2,
        "new": 2,
        "gone": 1,
    }
    assert found["percent"] == pytest.approx(200 / 3)
    assert found["flows"] == [[1, 2, 1], [2, 0, 1]]
    assert measures.drift(before, {"x": 1})["percent"] is None


def test_right_and_wrong_of_what_moved_by_hand() -> None:
    """a is gone (right), b the same (wrong), c changed (to right), d the same (right), e, f new, g unknown."""
    before = {"a": 0, "b": 1, "c": 1, "d": 2, "g": 0}
    after = {"b": 1, "c": 2, "d": 2, "e": 0, "f": 1, "g": 0}
    truth = {"a": 0, "b": 0, "c": 2, "d": 2, "e": 0, "f": 2, "g": -1}
    found = measures.drift(before, after, truth)
    right = {kind: (one["correct"], one["total"]) for kind, one in found["right"].items()}
    assert right == {"same": (1, 2), "changed": (1, 1), "new": (1, 2), "gone": (1, 1)}
    # b and c were wrong; only b stays as it was.
    assert (found["still_wrong"]["correct"], found["still_wrong"]["total"]) == (1, 2)
    assert found["moved"] == pytest.approx(100 * 4 / 7)
    without = measures.drift(before, after)
    assert without["still_wrong"]["total"] == 0
    assert all(one["total"] == 0 for one in without["right"].values())


def test_models_merge_where_a_third_of_their_differences_is_gone() -> None:
    # The models of the demo: 54 % before the first labels, then 67, 70 and 71 %.
    assert [measures.merged(54, now) for now in (54, 67, 70, 71)] == [False, False, True, True]
    assert not measures.merged(100, 100)


def test_brightness_bins_hold_equally_many_clips() -> None:
    values = np.array([30.0, 5.0, 20.0, 10.0, 8.0])
    bins = measures.by_brightness(values, np.array([True, False, True, True, False]), 2)
    assert [
        (one["low"], one["high"], one["accuracy"]["correct"], one["accuracy"]["total"])
        for one in bins
    ] == [
        (5.0, 10.0, 1, 3),
        (20.0, 30.0, 2, 2),
    ]
    assert measures.by_brightness(values[:0], np.zeros(0, bool)) == []


def test_the_surest_mistakes_come_first() -> None:
    found = predictions([1, 1, -1, 0, 1], [0, 0, 0, 0, -1], [0.4, 0.9, 0.0, 1.0, 1.0])
    shown = measures.mistakes(found, 20)
    assert [(one["name"], one["label"], one["class"], one["confidence"]) for one in shown] == [
        ("1.mp4", 0, 1, pytest.approx(90)),
        ("0.mp4", 0, 1, pytest.approx(40)),
    ]
    assert len(measures.mistakes(found, 1)) == 1


def test_separation_by_hand() -> None:
    probs = np.array(
        [
            [0.8, 0.1, 0.1],  # Right.
            [0.2, 0.6, 0.2],  # Right.
            [0.5, 0.1, 0.4],  # Wrong: of class 2.
            [0.3, 0.3, 0.4],  # Of no known class: left out.
            [0.9, 0.05, 0.05],  # Without a prediction: left out.
        ]
    )
    found = measures.TopPredictions(
        names=list("abcde"),
        classes=np.array([0, 1, 0, 2, -1]),
        confidences=probs.max(axis=1),
        labels=np.array([0, 1, 2, -1, 0]),
        use="label-free",
        seeds=(),
        probs=probs,
    )
    # Without class 0: 1/2 (unknown), 3/4, 4/5 (known). Without class 1: 8/9, 1/2 (unknown), 5/9.
    # Without class 2: 8/9, 3/4, 5/6 (unknown). So both known ones are above it, both, and one.
    expected = {"right": 100.0, "known": (100 + 100 + 50) / 3}
    assert measures.separation(found) == pytest.approx(expected)
    assert measures.separation(replace(found, probs=None)) == {"right": 100.0, "known": None}
    all_right = replace(found, labels=np.array([0, 1, 0, -1, 0]))
    assert measures.separation(all_right)["right"] is None
