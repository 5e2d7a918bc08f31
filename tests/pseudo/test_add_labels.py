"""Labels that were kept apart: read as all lists are, checked against the classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.pseudo.labels import read_labels
from nightcrawler.pseudo.predictions import add_labels
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import write_csv_rows
from tests.pseudo.made import made

NAMES = ["a, b.mp4", 'c"d.mp4', "e.mp4"]


def test_any_name_that_our_own_lists_hold_is_scored(tmp_path: Path) -> None:
    write_csv_rows(tmp_path / "t.csv", [("path", "label"), *zip(NAMES, (3, 1, 2), strict=True)])
    predictions = made(3, names=NAMES, labels=[-1, -1, 0])
    add_labels(predictions, read_labels(tmp_path / "t.csv"))
    assert predictions.labels.tolist() == [3, 1, 0], "labels that are known stay"


def test_a_label_that_is_no_class_is_an_error() -> None:
    with pytest.raises(UserError, match=r"'e\.mp4': true label 9, expected 0\.\.3"):
        add_labels(made(3, names=NAMES), {"e.mp4": 9})


def test_what_is_no_text_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe,1\n")
    with pytest.raises(UserError, match=r"t\.csv: not UTF-8 text"):
        read_labels(tmp_path / "t.csv")
