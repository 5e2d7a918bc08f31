"""Videos that cannot be decoded: counted and listed in training, kept as rows without prediction in testing."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.tester import build_tester
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils.errors import UserError
from tests import tiny

TRAIN = "labeled_train/Train"
ONE_EPOCH = ("SOLVER.MAX_EPOCH", 1)


def rows_of(path: Path) -> list[list[str]]:
    with open(path, newline="") as file:
        return list(csv.reader(file))


def test_some_bad_clips_are_replaced_counted_and_listed(own_data: Path, tmp_path: Path) -> None:
    tiny.damage(own_data / TRAIN / "b2.mp4")
    (own_data / TRAIN / "b5.avi").unlink()
    out = tmp_path / "run"
    build_trainer(tiny.config(own_data, out, "DATA.MAX_BAD_FRACTION", 0.25)).fit()
    header, *rows = rows_of(out / "bad.csv")
    assert header == ["stream", "video", "cause", "where"]
    assert sorted(row[1] for row in rows) == ["b2.mp4", "b5.avi"]
    assert {(row[0], row[3]) for row in rows} == {("labelled", "open")}
    assert (out / "DONE").is_file()
    assert len(tiny.metrics(out, "train")) == 4


def test_too_many_bad_clips_end_the_run_with_the_list(own_data: Path, tmp_path: Path) -> None:
    for number in (0, 2, 4):
        tiny.damage(own_data / TRAIN / f"b{number}.mp4")
    out = tmp_path / "run"
    with pytest.raises(
        UserError, match=r"3 of 8 videos.*DATA.MAX_BAD_FRACTION 0.25; the list is in .*bad.csv"
    ):
        build_trainer(tiny.config(own_data, out, "DATA.MAX_BAD_FRACTION", 0.25)).fit()
    assert sorted(row[1] for row in rows_of(out / "bad.csv")[1:]) == ["b0.mp4", "b2.mp4", "b4.mp4"]
    assert not (out / "DONE").exists()


def test_a_bad_dark_clip_is_listed_by_adaptation(own_data: Path, tmp_path: Path) -> None:
    tiny.damage(own_data / "dark_train/Train/3.mp4")
    build_trainer(tiny.config(own_data, tmp_path / "run", *ONE_EPOCH)).fit()
    assert [row[:2] for row in rows_of(tmp_path / "run/bad.csv")[1:]] == [["adapt", "3.mp4"]]


def test_a_bad_validation_clip_is_counted_as_wrong(own_data: Path, tmp_path: Path) -> None:
    tiny.damage(own_data / "dry_run/Validation/v1.mp4")
    build_trainer(tiny.config(own_data, tmp_path / "run", *ONE_EPOCH)).fit()
    row = tiny.metrics(tmp_path / "run", "val")[0]
    assert (row["split"], row["num_videos"], row["num_bad"]) == ("val_dry", tiny.NUM_VAL, 1)


def test_a_bad_test_clip_keeps_its_row(own_data: Path, trained: Path, tmp_path: Path) -> None:
    tiny.damage(own_data / "Test/1.mp4")
    weights = ("TEST.CHECKPOINT_FILE_PATH", trained / "best.pyth", "TEST.DATA_SELECT", "test")
    assert tiny.run_net("test", own_data, tmp_path / "run", *weights) == 3
    found = read_results(tmp_path / "run/testx4x32x1x1.npz")
    assert found.names == ["0.mp4", "1.mp4", "2.mp4"]
    assert found.ok.tolist() == [True, False, True]
    assert found.status[1].startswith("error: not a video")
    assert found.num_clips.tolist() == [1, 0, 1]
    assert np.isnan(found.logits[1]).all()
    assert np.isnan(found.probs[1]).all()
    assert rows_of(tmp_path / "run/bad_test.csv")[1:] == [["test", "1.mp4", found.status[1]]]
    whole = tiny.config(own_data, tmp_path / "two", *weights)
    tiny.damage(own_data / "Test/2.mp4")
    with pytest.raises(
        UserError, match=r"2 of 3 videos of 'test' cannot be read.*results are written"
    ):
        build_tester(whole).run()
    assert read_results(tmp_path / "two/testx4x32x1x1.npz").ok.tolist() == [True, False, False]
