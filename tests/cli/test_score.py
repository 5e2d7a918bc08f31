"""The score command on files that do not belong to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nightcrawler.cli import score
from nightcrawler.pseudo.submission import Submission, write_submission
from nightcrawler.utils.errors import UserError
from tests.pseudo.made import made


def test_truth_of_other_names_is_refused(tmp_path: Path) -> None:
    made().save(tmp_path / "r.pkl")
    (tmp_path / "truth.csv").write_text("x/a.mp4,0\nx/b.mp4,1\n")
    with pytest.raises(UserError, match=r"truth\.csv: none of its names is in the results"):
        score.main(["--truth", str(tmp_path / "truth.csv"), str(tmp_path / "r.pkl")])


def test_garbage_is_named_in_plain_words(tmp_path: Path) -> None:
    (tmp_path / "r.pkl").write_bytes(b"\x93garbage")
    with pytest.raises(UserError, match="not a readable results file: damaged") as caught:
        score.main([str(tmp_path / "r.pkl")])
    assert "pickle" not in str(caught.value).lower()


def test_a_submission_is_scored_by_a_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "arid_pred.csv"
    names = [f"{number}.mp4" for number in range(5)]
    write_submission(path, Submission(names, np.array([0, 1, 2, 0, 1]), np.full(5, 0.9)))
    truth = tmp_path / "truth.csv"
    truth.write_text("0.mp4,0\n1.mp4,1\n2.mp4,0\n3.mp4,0\nother.mp4,2\n")
    assert score.main(["--truth", str(truth), str(path)]) == 0
    # Three of the four that are known; 30.1 and 95.4 are Wilson's limits of 3 of 4.
    assert capsys.readouterr().out == (
        f"{path}: top-1 75.00 % (95 % interval 30.1 to 95.4) of 4 videos (oracle)\n"
    )
    with pytest.raises(UserError, match="a submission has no labels: --truth must name"):
        score.main([str(path)])
