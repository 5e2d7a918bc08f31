"""Table of a vote's answers: who agrees, who has no say, what is without a prediction."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from nightcrawler.predict.answers import Ballot, count_agreement, write_answers
from nightcrawler.pseudo.submission import Submission

NAMES = ["a.mp4", "b.mp4", "=c.mp4", "d.mp4"]
PROBS = np.array([[0.8, 0.1, 0.1], [0.4, 0.35, 0.25], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]])


def ballot(models: str, labels: list[list[int]], why: dict[int, str] | None = None) -> Ballot:
    reasons = [(why or {}).get(row, "") for row in range(len(NAMES))]
    classes = ("Run", "Walk", "Sit")
    return Ballot(NAMES, tuple(models), np.array(labels), PROBS, reasons, classes)


def test_rows(tmp_path: Path) -> None:
    vote = Submission(NAMES, np.array([0, 0, 2, 0]), PROBS.max(axis=1))
    one = ballot("xyz", [[0, 0, 2, -1], [0, 1, 2, -1], [-1, 2, -1, -1]], {3: "no person"})
    write_answers(tmp_path / "p.csv", vote, [one])
    with open(tmp_path / "p.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["video", "class", "probability", "agreement", "status"],
        ["a.mp4", "Run", "0.8000", "2 of 2", "sure"],
        ["b.mp4", "Run", "0.4000", "1 of 3", "models disagree"],
        # A spreadsheet would take the name for a formula.
        ["'=c.mp4", "Sit", "0.8000", "2 of 2", "sure"],
        ["d.mp4", "", "", "", "no person"],
    ]


def test_a_model_of_several_ballots_counts_once() -> None:
    first = ballot("xy", [[0, 1, 2, -1], [0, 0, 0, 0]])
    second = ballot("xy", [[0, 0, 0, -1], [1, 1, 0, 0]])
    third = ballot("x", [[0, 0, 0, 2]])
    agreeing, heard = count_agreement(np.array([0, 0, 2, 2]), [first, second, third])
    assert heard.tolist() == [2, 2, 2, 2]
    # x: 3 of 3, 2 of 3, 1 of 3, 1 of 1. y: 1 of 2, 1 of 2, 0 of 2, 0 of 2.
    assert agreeing.tolist() == [2, 2, 0, 1]


def test_rows_of_another_order_are_joined_by_name(tmp_path: Path) -> None:
    vote = Submission(NAMES[::-1], np.array([0, 2, 0, 0]), PROBS.max(axis=1)[::-1])
    write_answers(tmp_path / "p.csv", vote, [ballot("x", [[0, 0, 2, 0]])])
    rows = (tmp_path / "p.csv").read_text().splitlines()
    assert rows[1:] == [
        "d.mp4,Run,0.3333,1 of 1,unsure",
        "'=c.mp4,Sit,0.8000,1 of 1,sure",
        "b.mp4,Run,0.4000,1 of 1,unsure",
        "a.mp4,Run,0.8000,1 of 1,sure",
    ]
