"""Files whose names of videos are spelled in other ways are joined all the same."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np

from nightcrawler.pseudo.ensemble import join
from nightcrawler.pseudo.labels import read_labels
from nightcrawler.pseudo.predictions import add_labels, read_results
from tests.pseudo.made import made

NAMES = ["a.mp4", "Run/b.mp4", "\u00fc.mp4"]
SPELLED = ["./a.mp4", "Run//./b.mp4", unicodedata.normalize("NFD", "\u00fc.mp4")]


def test_results_are_joined_whatever_the_spelling(tmp_path: Path) -> None:
    for number, names in enumerate((NAMES, SPELLED)):
        made(3, seed=number, names=names).save(tmp_path / f"{number}.pkl")
    read = [read_results(tmp_path / f"{number}.pkl") for number in range(2)]
    assert read[0].names == read[1].names == NAMES
    joined = join(read, ["0.pkl", "1.pkl"], ["probs", "probs"])
    assert list(joined.names) == NAMES


def test_truth_files_are_joined_whatever_the_spelling(tmp_path: Path) -> None:
    rows = [f"{name},{label}\n" for label, name in enumerate(SPELLED)]
    (tmp_path / "truth.csv").write_text("".join(rows), encoding="utf-8")
    predictions = made(3, names=NAMES)
    add_labels(predictions, read_labels(tmp_path / "truth.csv"))
    np.testing.assert_array_equal(predictions.labels, [0, 1, 2])
