"""Choosing pseudo-labels, writing them, and holding them against labels."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.data.lists import read_pseudo
from nightcrawler.pseudo.ensemble import Joined, Mixture, join, mix
from nightcrawler.pseudo.label_recipe import read_label_recipe
from nightcrawler.pseudo.labels import (
    Selection,
    choose,
    compare,
    read_labels,
    table,
    write_pseudo_labels,
)
from nightcrawler.pseudo.thresholds import Calibration
from nightcrawler.utils.errors import UserError
from tests.paths import ROOT, shared
from tests.pseudo.made import made


def joined(**options: object) -> tuple[Joined, np.ndarray]:
    found = join([made(40, seed=seed, **options) for seed in range(2)], ["a", "b"], ["probs"] * 2)  # type: ignore[arg-type]
    return found, mix(found.probs, Mixture(np.full((4, 2), 0.5)))


def test_thresholds_keep_videos_that_reach_them() -> None:
    models, mixed = joined()
    thresholds = [0.4, 0.5, 0.6, 0.7]
    found = choose(models, mixed, Selection("thresholds", thresholds))
    expected = [
        row for row in range(40) if mixed[row].max() >= thresholds[int(mixed[row].argmax())]
    ]
    assert 0 < len(expected) < 40
    assert found.rows.tolist() == expected
    assert found.labels.tolist() == mixed[expected].argmax(axis=1).tolist()
    np.testing.assert_array_equal(found.probs, mixed[expected])


def test_other_ways_of_selecting() -> None:
    models, mixed = joined()
    counts = np.bincount(mixed.argmax(axis=1), minlength=4)
    assert len(choose(models, mixed, Selection("all")).rows) == 40
    half = choose(models, mixed, Selection("top_fraction", fraction=0.5))
    assert np.bincount(half.labels, minlength=4).tolist() == [-(-count // 2) for count in counts]
    same = choose(models, mixed, Selection("balanced", fraction=0.4))
    assert np.bincount(same.labels, minlength=4).tolist() == [min(4, count) for count in counts]
    prior = choose(models, mixed, Selection("balanced", fraction=0.2, prior=[1, 1, 1, 5]))
    assert np.bincount(prior.labels, minlength=4).tolist() == [
        min(n, c) for n, c in zip((1, 1, 1, 5), counts, strict=True)
    ]


def test_videos_without_a_prediction_get_no_label() -> None:
    models, mixed = joined(bad=[0, 7])
    assert set(range(40)) - set(choose(models, mixed, Selection("all")).rows.tolist()) == {0, 7}


def test_none_left_is_an_error() -> None:
    models, mixed = joined()
    with pytest.raises(UserError, match="none of 40 videos"):
        choose(models, mixed, Selection("thresholds", [1.0] * 4))
    nothing, mixed = joined(bad=range(40))
    with pytest.raises(UserError, match="none of 40 videos has a prediction"):
        choose(nothing, mixed, Selection("all"))
    apart = join([made(40, seed=seed) for seed in range(2)], ["a", "b"], ["probs"] * 2)
    other = mixed.argmax(axis=1)[:, None] != np.arange(4)
    with pytest.raises(UserError, match="on none of 40 videos enough models agree"):
        choose(
            replace(apart, probs=[other / 3, other / 3]),
            mixed,
            Selection("calibrated", calibration=Calibration(agree=1.0)),
        )


def test_what_is_written_is_what_training_reads(tmp_path: Path) -> None:
    names = [f"Run/Run, {row}.mp4" for row in range(40)]
    models, mixed = joined(names=names)
    found = choose(models, mixed, Selection("top_fraction", fraction=0.3))
    write_pseudo_labels(tmp_path / "pseudo/s.csv", models, found)
    (tmp_path / "Run").mkdir()
    (tmp_path / names[found.rows[0]]).touch()
    items = read_pseudo(tmp_path / "pseudo/s.csv", [tmp_path], 4)
    assert [item.name for item in items] == [names[row] for row in found.rows]
    assert [item.label for item in items] == found.labels.tolist()
    probs = np.array([item.probs for item in items])
    np.testing.assert_allclose(
        probs, found.probs / found.probs.sum(axis=1, keepdims=True), rtol=1e-8
    )
    assert read_labels(tmp_path / "pseudo/s.csv") == {item.name: item.label for item in items}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the list is empty"),
        ("path,label\n", "the list is empty"),
        ("a,1\nb\n", "row 2 is 'b'"),
        ("a,one\n", "row 1 is 'a,one'"),
        ("a,1.0\n", "row 1"),
        ("a,99999999999999999999\n", "row 1"),
        (f"a,{5000 * '1'}\n", "row 1"),
        ("a,1\na,2\n", "row 2: a second row of 'a'"),
        ('a,1\n"b,2\n', "row 2: unexpected end of data"),
        ("a,\xff\n", "not UTF-8 text"),
    ],
)
def test_a_bad_list_is_a_one_line_error(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=said) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)


def test_lists_may_have_a_header_and_a_mark(tmp_path: Path) -> None:
    path = tmp_path / "l.csv"
    path.write_bytes(b"\xef\xbb\xbfpath,label\r\na,-1\r\n\r\nb, 3\r\n")
    assert read_labels(path) == {"a": -1, "b": 3}


def test_figures_of_a_class_are_their_definitions() -> None:
    truth = {"a": 0, "b": 0, "c": 1, "d": 1, "e": -1, "f": 1}
    figures = compare(
        ["a", "c", "d", "e", "x"], np.array([0, 0, 1, 1, 1]), truth, ["Run", "Sit", "Jump"]
    )
    rows = [(one.name, one.rows, one.known, one.correct, one.true, one.covered) for one in figures]
    assert rows == [
        ("Run", 2, 2, 1, 2, 1),
        ("Sit", 3, 1, 1, 3, 2),
        ("Jump", 0, 0, 0, 0, 0),
        ("all", 5, 3, 2, 5, 3),
    ]
    assert [figures[0].precision, figures[0].coverage, figures[1].coverage] == [0.5, 0.5, 2 / 3]
    lines = list(table(figures, [0.1, 0.25, 1.0]))
    assert lines[0].split() == [
        "class",
        "rows",
        "known",
        "right",
        "precision",
        "coverage",
        "threshold",
    ]
    assert lines[2].split() == ["Sit", "3", "1", "1", "100.00", "%", "66.7", "%", "0.2500"]
    assert lines[3].split() == ["Jump", "0", "0", "0", "-", "-", "1.0000"]
    assert lines[4].split() == ["all", "5", "3", "2", "66.67", "%", "60.0", "%"]


PUBLISHED = [(4484, 93.78, 49.5), (7051, 94.78, 75.6), (8712, 90.77, 93.9), (9295, 89.56, 100.0)]


@pytest.mark.parametrize("stage", [1, 2, 3, 4])
def test_the_published_files_are_worth_what_was_measured(stage: int) -> None:
    folder = shared() / "reference"
    truth, pseudo = (
        read_labels(folder / "lists/arid.csv"),
        read_labels(folder / f"pseudo/stage{stage}.csv"),
    )
    figures = compare(
        pseudo, np.array(list(pseudo.values())), truth, [str(label) for label in range(11)]
    )[-1]
    assert (
        figures.rows,
        round(100 * figures.precision, 2),
        round(100 * figures.coverage, 1),
    ) == PUBLISHED[stage - 1]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_the_published_files_respect_the_thresholds_of_the_recipe(stage: int) -> None:
    recipe = read_label_recipe(ROOT / f"configs/pseudo/ug2_2022/stage{stage}.yaml")
    assert recipe.thresholds is not None
    with open(shared() / f"reference/pseudo/stage{stage}.csv", newline="") as file:
        rows = [(int(row[1]), max(map(float, row[2:]))) for row in csv.reader(file)]
    for label, threshold in enumerate(recipe.thresholds):
        least = min(confidence for one, confidence in rows if one == label)
        assert threshold <= least < threshold + 0.1
