"""The models inside the package: found by name, and taken where the user names none."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import nightcrawler
from nightcrawler.cli import main as program
from nightcrawler.models.zoo import demo_models
from nightcrawler.predict.checkpoints import find_checkpoint
from nightcrawler.predict.trust import TRUST
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.project import packaged_root
from tests import tiny

NAMES = [
    "demo/mvit_b32_k600",
    "demo/poseconv",
    "demo/sf32_k700",
    "demo/uniformer_b32_k600",
    "demo/uniformer_b32_ssv2",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.chdir(empty)
    return empty


def test_names_and_files(folder: Path) -> None:
    assert list(demo_models()) == NAMES
    for name in NAMES:
        path = packaged_root() / "configs/demo_weights" / f"{Path(name).name}.safetensors"
        assert find_checkpoint(name) == path
        assert find_checkpoint(Path(name)) == path


def test_files_of_the_user_come_first(folder: Path) -> None:
    own = folder / NAMES[0]
    own.parent.mkdir()
    own.touch()
    assert find_checkpoint(NAMES[0]) == Path(NAMES[0])


def test_an_unknown_name_lists_the_known_ones(folder: Path) -> None:
    with pytest.raises(
        UserError, match=r"demo/no_such_model: no such checkpoint; .*demo/sf32_k700"
    ):
        nightcrawler.load("demo/no_such_model")


def test_load_by_name(folder: Path, tmp_path: Path) -> None:
    tiny.write_video(tmp_path / "a.mp4", 0, 0, dark=True)
    predictor = nightcrawler.load("demo/uniformer_b32_k600", device="cpu")
    assert predictor.name == "uniformer_b32_k600"
    (result,) = predictor.predict(tmp_path / "a.mp4")
    assert result.status in TRUST
    assert len(result.classes) == 11
    assert float(result.probabilities.sum()) == pytest.approx(1)


def test_predict_without_models_takes_all_that_can_run_and_tells_their_worth(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nightcrawler.predict.defaults.brings_model", lambda: False)
    clip = tmp_path / "a.mp4"
    tiny.write_video(clip, 0, 0, dark=True)
    assert program.main(["predict", str(clip), "--csv", "out.csv"]) == 0
    shown = capsys.readouterr()
    notes = [line for line in shown.err.splitlines() if line.startswith("note: ")]
    assert len(notes) == 1
    for part in ("synthetic clips in normal light only", "about 25 %", "chance 9", "--experiment"):
        assert part in notes[0]
    with open(folder / "out.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 2
    # The mixture is the mean of the four models, each with the same weight.
    predictors = [nightcrawler.load(name) for name in NAMES if name != "demo/poseconv"]
    probs = np.mean([one.predict(clip)[0].probabilities for one in predictors], axis=0)
    best = int(probs.argmax())
    assert predictors[0].class_names[best] == rows[1][2]
    assert float(rows[1][3]) == pytest.approx(float(probs[best]), abs=1e-5)


def test_a_model_of_the_user_needs_no_note(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip = tmp_path / "a.mp4"
    tiny.write_video(clip, 0, 0, dark=True)
    assert program.main(["predict", str(clip), "--experiment", NAMES[3]]) == 0
    assert "note: " not in capsys.readouterr().err
