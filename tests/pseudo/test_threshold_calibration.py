"""Thresholds from clips of known classes: each rule by hand on few videos, and what holds whatever the predictions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrawler.pseudo.ensemble import Joined, Mixture, join, mix
from nightcrawler.pseudo.label_recipe import read_label_recipe
from nightcrawler.pseudo.labels import Selection, choose
from nightcrawler.pseudo.threshold_search import Evidence, ThresholdSearch, search
from nightcrawler.pseudo.thresholds import (
    Calibration,
    agreeing,
    calibrated,
    search_precision,
)
from nightcrawler.utils.errors import ConfigError, UserError
from tests.paths import ROOT
from tests.pseudo.made import made, yaml_file

FREE = Calibration(agree=0, floor=0.0, ceiling=100.0)
# Enough clips for any rule, and too few.
MANY = Evidence(predicted=50)
FEW = Evidence(predicted=4)


def joined_of(
    *models: list[list[float]], labels: list[int] | None = None
) -> tuple[Joined, np.ndarray]:
    """Models' probabilities joined, and their mean."""
    probs = [np.array(model) for model in models]
    num_videos, num_classes = probs[0].shape
    known = np.array(labels if labels is not None else [-1] * num_videos)
    names, ok = [f"{row}.mp4" for row in range(num_videos)], np.ones(num_videos, bool)
    joined = Joined(
        names,
        known,
        ok,
        ["ok"] * num_videos,
        probs,
        [str(label) for label in range(num_classes)],
        [ok] * len(probs),
    )
    return joined, np.mean(probs, axis=0)


def test_models_agree_by_number_or_by_share() -> None:
    joined, mixed = joined_of(
        [[0.9, 0.1], [0.9, 0.1], [0.4, 0.6]],
        [[0.8, 0.2], [0.4, 0.6], [0.3, 0.7]],
        [[0.7, 0.3], [0.4, 0.6], [0.2, 0.8]],
    )
    classes = mixed.argmax(axis=1)
    assert classes.tolist() == [0, 0, 1]
    wanted: list[tuple[float, list[bool]]] = [
        (0, [True, True, True]),
        (1, [True, True, True]),
        (2, [True, False, True]),
        (0.34, [True, False, True]),
        (1.0, [True, False, True]),
    ]
    for agree, expected in wanted:
        assert agreeing(joined, classes, agree).tolist() == expected, agree
    with pytest.raises(UserError, match="there are only 3 models"):
        agreeing(joined, classes, 4)


def test_a_share_is_of_those_who_have_an_opinion() -> None:
    sure = np.array([[0.9, 0.1]] * 3)
    other = np.array([[0.1, 0.9]] * 3)
    flat = np.full((3, 2), 0.5)
    silent = np.array([False, False, True])
    heard = np.ones(3, bool)
    joined = Joined(
        list("abc"),
        np.full(3, -1),
        heard,
        ["ok"] * 3,
        [sure, sure, other, flat],
        ["Run", "Walk"],
        [heard, heard, heard, silent],
    )
    classes = np.zeros(3, np.int64)
    # Two of three agree in the first rows; in the last, the fourth counts, with class 0.
    assert agreeing(joined, classes, 0.75).tolist() == [False, False, True]
    assert agreeing(joined, classes, 0.6).tolist() == [True, True, True]
    assert agreeing(joined, classes, 3).tolist() == [False, False, True]


def test_precision_is_sought_among_clips_that_count() -> None:
    """Of four clips called class 0, the surest is wrong but only one of the two models calls it so."""
    first = [[0.99, 0.01], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]]
    second = [[0.3, 0.7], [0.8, 0.2], [0.7, 0.3], [0.6, 0.4], [0.2, 0.8]]
    known, mixed = joined_of(first, second, labels=[1, 0, 0, 1, 1])
    found = search_precision(known, mixed, Calibration(1.0, agree=2, support=1, confidence=0.5))
    assert found.thresholds.tolist() == pytest.approx([0.7, 0.8])
    assert found.reached.tolist() == [True, True]
    plain = Calibration(precision=1.0, agree=0, support=1, confidence=0.5)
    assert search_precision(known, mixed, plain).thresholds[0] == pytest.approx(0.7)
    with pytest.raises(
        UserError, match="none of the 5 clips to calibrate with has a prediction and a label"
    ):
        search_precision(replace(known, labels=np.full(5, -1)), mixed, FREE)


# Ten videos of class 0 with confidences 0.90, 0.89, ..., and two of class 1.
CLASSES = np.array([0] * 10 + [1] * 2)
CONFIDENCES = np.array([0.9 - 0.01 * number for number in range(10)] + [0.7, 0.6])


@pytest.mark.parametrize(
    ("rules", "reached", "fraction", "kept", "settled"),
    [
        (FREE, [True, True], 0.5, [3, 1], ["precision", "precision"]),
        (FREE, [False, True], 0.5, [5, 1], ["fraction", "precision"]),
        (Calibration(floor=1.0, ceiling=100.0), [True, True], 0.5, [6, 2], ["floor", "floor"]),
        (Calibration(floor=0.0, ceiling=0.25), [True, True], 0.5, [2, 1], ["ceiling", "precision"]),
        (Calibration(floor=0.0, ceiling=1.0), [False, False], 1.0, [6, 2], ["ceiling", "fraction"]),
    ],
)
def test_rules_in_their_order(
    rules: Calibration, reached: list[bool], fraction: float, kept: list[int], settled: list[str]
) -> None:
    found = ThresholdSearch(np.array([0.875, 0.65]), np.array(reached), [MANY, MANY])
    thresholds, by = calibrated(CLASSES, CONFIDENCES, found, fraction, [1.0, 1.0], rules)
    counts = np.bincount(CLASSES[thresholds[CLASSES] <= CONFIDENCES], minlength=2)
    assert (counts.tolist(), by) == (kept, settled)


def test_too_few_clips_are_told_from_a_class_that_fails() -> None:
    found = ThresholdSearch(np.array([0.875, 0.65]), np.array([False, False]), [MANY, FEW])
    assert calibrated(CLASSES, CONFIDENCES, found, 0.5, [1.0, 1.0], FREE)[1] == [
        "fraction",
        "support",
    ]


def test_a_class_of_bad_precision_does_not_keep_everything() -> None:
    """The case of the reading: class 3 is right for 3 of 10 clips, whatever its confidence."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 4, 400)
    confidences = rng.uniform(0.3, 1, 400)
    likely = np.where(classes == 3, 0.3, np.where(confidences > 0.6, 0.92, 0.55))
    labels = np.where(rng.random(400) < likely, classes, (classes + 1) % 4)
    rules = Calibration()
    found = search(
        classes, confidences, labels, 4, "precision", 0.8, rules.support, rules.confidence
    )
    assert found.reached.tolist() == [True, True, True, False]
    for one in found.evidence[:3]:
        assert one.lower_bound >= 0.8
    thresholds, by = calibrated(classes, confidences, found, 0.5, [1.0] * 4, rules)
    kept = (confidences >= thresholds[classes])[classes == 3].mean()
    assert kept == pytest.approx(0.5, abs=0.01)
    assert by == ["precision", "precision", "precision", "fraction"]


def test_the_prior_shares_out() -> None:
    """Of 12 videos, a prior of 3 to 1 grants class 0 nine and class 1 three."""
    found = ThresholdSearch(np.array([0.0, 0.0]), np.array([True, True]), [MANY, MANY])
    thresholds, by = calibrated(
        CLASSES, CONFIDENCES, found, 1.0, [3.0, 1.0], Calibration(floor=0.0, ceiling=1.0)
    )
    assert np.bincount(CLASSES[thresholds[CLASSES] <= CONFIDENCES]).tolist() == [9, 2]
    assert by == ["ceiling", "precision"]


@given(
    st.integers(0, 500),
    st.floats(0, 1),
    st.floats(1, 4),
    st.floats(0.05, 1),
    st.sampled_from([0, 1, 2, 0.5, 1.0]),
)
def test_bounds_hold_whatever_the_predictions(
    seed: int, floor: float, ceiling: float, fraction: float, agree: float
) -> None:
    rng = np.random.default_rng(seed)
    models = [made(30, 4, seed + number) for number in range(2)]
    joined = join(models, ["a", "b"], ("probs", "probs"))
    mixed = mix(joined.probs, Mixture(np.full((4, 2), 0.5)))
    found, prior = (
        ThresholdSearch(rng.uniform(0, 1, 4), rng.random(4) < 0.7, [MANY] * 4),
        rng.integers(0, 9, 4) + np.eye(4)[seed % 4],
    )
    rules = Calibration(agree=agree, floor=floor, ceiling=ceiling)
    selection = Selection("calibrated", None, fraction, prior.tolist(), rules, found)
    candidates = agreeing(joined, mixed.argmax(axis=1), agree)
    try:
        pseudo = choose(joined, mixed, selection)
    except UserError:
        counts = np.zeros(4, int)
    else:
        counts = np.bincount(pseudo.labels, minlength=4)
        assert candidates[pseudo.rows].all()
        assert (pseudo.labels == mixed[pseudo.rows].argmax(axis=1)).all()
    available = np.bincount(mixed.argmax(axis=1)[candidates], minlength=4)
    fair = candidates.sum() * prior / prior.sum()
    assert (counts >= np.minimum(np.floor(floor * fair), available)).all()
    assert (counts <= np.maximum(np.ceil(ceiling * fair), 1)).all()


def test_a_new_label_needs_more_agreement_than_one_of_the_round_before() -> None:
    """Clips 0 and 1: all three agree; 2 to 4: two of three. Only 3 had this label before."""
    joined, mixed = joined_of(
        [[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]],
        [[0.8, 0.2], [0.2, 0.8], [0.9, 0.1], [0.9, 0.1], [0.1, 0.9]],
        [[0.7, 0.3], [0.2, 0.8], [0.4, 0.6], [0.4, 0.6], [0.6, 0.4]],
    )
    found = search(np.array([0, 1]), np.array([0.5, 0.5]), np.array([0, 1]), 2, "precision", 0.1, 1)
    rules = replace(FREE, agree=2, agree_new=3)
    selection = Selection("calibrated", calibration=rules, found=found)
    before = {"1.mp4": 0, "3.mp4": 0, "4.mp4": 0}
    assert choose(joined, mixed, selection, before).rows.tolist() == [0, 1, 3]
    # In a first round all labels are new, and none newer than another.
    assert choose(joined, mixed, selection).rows.tolist() == [0, 1, 2, 3, 4]
    # Nothing before that could be kept is not the same as no round before.
    assert choose(joined, mixed, selection, {}).rows.tolist() == [0, 1]
    same = Selection("calibrated", calibration=replace(rules, agree_new=None), found=found)
    assert choose(joined, mixed, same, before).rows.tolist() == [0, 1, 2, 3, 4]


# --- recipes ----------------------------------------------------------------------------------------------------

RECIPE = "CLASSES: [a, b]\nLABELS: label-free\nMODELS: {m: here}\nSELECT:\n  METHOD: calibrated\n"


def test_the_default_recipe_has_the_defaults() -> None:
    """One place for each number would be none in the recipe, which people read and copy."""
    recipe = read_label_recipe(ROOT / "configs/pseudo/default.yaml")
    assert recipe.calibration == Calibration()
    assert recipe.fractions == [0.5]


def test_a_recipe_says_what_is_to_be_reached(tmp_path: Path) -> None:
    assert read_label_recipe(yaml_file(tmp_path, RECIPE)).calibration == Calibration()
    lines = (
        "PRECISION: 0.9",
        "SPLIT: mine",
        "AGREE: 2",
        "PRIOR: {b: 0.75, a: 0.25}",
        "FLOOR: 0",
        "CEILING: 5",
        "SUPPORT: 3",
        "CONFIDENCE: 0.95",
        "AGREE_NEW: 3",
    )
    text = RECIPE + "".join(f"  {line}\n" for line in (*lines, "FRACTION: 0.3"))
    recipe = read_label_recipe(yaml_file(tmp_path, text))
    assert recipe.calibration == Calibration(0.9, "mine", 2, (0.25, 0.75), 0.0, 5.0, 3, 0.95, 3)
    assert recipe.fractions == [0.3]
    equal = read_label_recipe(yaml_file(tmp_path, RECIPE + "  PRIOR: equal\n")).calibration
    assert equal == Calibration(prior="equal")


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("PRECISION: 1.5", "SELECT.PRECISION: 1.5, expected a number 0 to 1"),
        ("PRECISION: high", "SELECT.PRECISION: 'high'"),
        ("SPLIT: 3", "SELECT.SPLIT: 3, expected the name of a split"),
        ("AGREE: -1", "SELECT.AGREE: -1, expected a number of models"),
        ("AGREE: 1.5", "SELECT.AGREE: 1.5"),
        ("AGREE_NEW: 1.5", "SELECT.AGREE_NEW: 1.5, expected a number of models"),
        ("AGREE_NEW: 0.5", "SELECT.AGREE_NEW: 0.5, expected at least AGREE (0.75)"),
        ("PRIOR: most", "SELECT.PRIOR: 'most', expected labelled, equal"),
        ("PRIOR: {a: 1}", "SELECT.PRIOR: expected a number for each of CLASSES"),
        ("FLOOR: 2", "SELECT.FLOOR: 2, expected a number 0 to 1"),
        ("SUPPORT: 0", "SELECT.SUPPORT: 0, expected a whole number from 1"),
        ("SUPPORT: 2.5", "SELECT.SUPPORT: 2.5, expected a whole number from 1"),
        ("CONFIDENCE: 1", "SELECT.CONFIDENCE: 1, expected a number 0.5 to 0.9999"),
        ("PRECISION: 1", "SELECT.PRECISION: 1, which no number of clips shows"),
        ("FRACTION: [0.5, 1.0]", "SELECT.FRACTION: [0.5, 1.0], expected one number for all"),
        ("CEILING: 0.5", "SELECT.CEILING: 0.5, expected a number from 1"),
        ("THRESHOLDS: {a: 1, b: 1}", "SELECT.THRESHOLDS.a: unknown key"),
    ],
)
def test_faults_name_file_line_and_key(tmp_path: Path, line: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_label_recipe(yaml_file(tmp_path, f"{RECIPE}  {line}\n"))
    assert str(caught.value).startswith(f"{tmp_path / 'recipe.yaml'}:6: {fault}")
