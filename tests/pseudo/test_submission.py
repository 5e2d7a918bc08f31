"""The challenge's file in its three forms."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.pseudo.submission import FORMS, Submission, read_submission, write_submission
from nightcrawler.utils.errors import UserError

PROBS = np.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]])
ONE = Submission(["b,1.mp4", "a é.mp4"], np.array([2, 1]), np.array([0.25, 0.75]), PROBS)


@pytest.mark.parametrize("form", FORMS)
def test_round_trip(form: str, tmp_path: Path) -> None:
    write_submission(tmp_path / "s.csv", ONE, form)
    found = read_submission(tmp_path / "s.csv")
    assert found.names == ONE.names
    np.testing.assert_array_equal(found.labels, ONE.labels)
    np.testing.assert_array_equal(found.confidences, ONE.confidences)
    if form == "number":
        assert found.probs is None
    else:
        np.testing.assert_array_equal(found.probs, PROBS)


@pytest.mark.parametrize("form", FORMS)
def test_names_stay_as_published(form: str, tmp_path: Path) -> None:
    """A program scores the file, so that no name is changed for spreadsheets."""
    names = ["=1.mp4", "-2.mp4"]
    write_submission(
        tmp_path / "s.csv", Submission(names, ONE.labels, ONE.confidences, PROBS), form
    )
    lines = (tmp_path / "s.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in lines[1:]] == names
    assert read_submission(tmp_path / "s.csv").names == names


def test_the_forms_as_text(tmp_path: Path) -> None:
    texts = {}
    for form in FORMS:
        write_submission(tmp_path / "s.csv", ONE, form)
        texts[form] = (tmp_path / "s.csv").read_text(encoding="utf-8").splitlines()
    assert texts["number"] == [
        "VideoID,Video,ClassID,Probability",
        '0,"b,1.mp4",2,0.25',
        "1,a é.mp4,1,0.75",
    ]
    assert texts["all_probs"][0] == "VideoID,Video,ClassID,Probability,p0,p1,p2"
    assert texts["all_probs"][2] == "1,a é.mp4,1,0.75,0.125,0.75,0.125"
    assert texts["challenge"][0] == texts["number"][0]
    assert texts["challenge"][2] == '1,a é.mp4,1,"[0.125, 0.75, 0.125]"'
    assert all(len(row) == 4 for row in csv.reader(texts["challenge"]))


def test_float32_numbers_survive(tmp_path: Path) -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(5), 200).astype(np.float32)
    labels = probs.argmax(axis=1)
    one = Submission(
        [str(i) for i in range(200)],
        labels,
        probs.max(axis=1).astype(np.float64),
        probs.astype(float),
    )
    write_submission(tmp_path / "s.csv", one, "all_probs")
    found = read_submission(tmp_path / "s.csv")
    assert found.probs is not None
    np.testing.assert_array_equal(found.probs.astype(np.float32), probs)


def test_all_probabilities_must_be_there_to_be_written(tmp_path: Path) -> None:
    plain = Submission(ONE.names, ONE.labels, ONE.confidences)
    with pytest.raises(UserError, match="not all voters have them"):
        write_submission(tmp_path / "s.csv", plain, "challenge")
    assert not (tmp_path / "s.csv").exists()


HEADER = "VideoID,Video,ClassID,Probability"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "row 1: expected VideoID"),
        ("a,b\n", "row 1: expected VideoID"),
        (HEADER + "\n", "0 videos"),
        (HEADER + "\n0,a,1,0.5\n1,b,1\n", "row 3: 3 fields, expected 4"),
        (HEADER + "\n0,a,one,0.5\n", "row 2: invalid literal"),
        (HEADER + "\n0,a,99999999999999999999,0.5\n", "row 2: "),
        (HEADER + "\n0,a,1000000000000000,0.5\n", "row 2 'a': a class or a probability"),
        (HEADER + "\n0,a,-1,0.5\n", "row 2 'a': a class or a probability"),
        (HEADER + "\n0,a,1,1.5\n", "row 2 'a': a class or a probability"),
        (HEADER + "\n0,a,1,nan\n", "row 2 'a': a class or a probability"),
        (HEADER + '\n0,a,7,"[0.5, 0.5]"\n', "row 2 'a': a class or a probability"),
        (HEADER + ",p0,p1\n0,a,1,0.5,0.5,-0.5\n", "row 2 'a': a class or a probability"),
        (HEADER + ",p0,p1\n0,a,2,0.5,0.5,0.5\n", "row 2 'a': a class or a probability"),
        (HEADER + '\n0,a,0,"[0.5, 0.5]"\n1,b,0,"[1]"\n', "2 videos, 3 probabilities"),
        (HEADER + "\n0,a,0,0.5\n1,a,0,0.5\n", r"video 'a' \(rows 1 and 2\) more than once"),
    ],
)
def test_a_bad_file_is_a_one_line_error(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        read_submission(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="generate its mode first"):
        read_submission(tmp_path / "arid_pred_4.csv")
