"""The score command on files that do not belong to it."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.cli import score
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
