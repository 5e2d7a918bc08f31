"""Whether a run may call itself label-free."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nightcrawler.engine.run_metadata import label_use_of
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils.io import sha256_file
from tests import tiny


def label_use(data: Path, tmp_path: Path, *overrides: object) -> str:
    return label_use_of(tiny.config(data, tmp_path / "run", *overrides))


def test_a_dark_split_that_picks_the_checkpoint_makes_an_oracle(tmp_path: Path) -> None:
    assert label_use(tmp_path, tmp_path) == "label-free"
    assert label_use(tmp_path, tmp_path, "TRAIN.BEST_SPLIT", "arid") == "oracle"


def test_labels_of_dark_clips_that_are_trained_on_make_an_oracle(tmp_path: Path) -> None:
    assert label_use(tmp_path, tmp_path, "DATA.TRAIN_SPLIT", "arid") == "oracle"
    assert label_use(tmp_path, tmp_path, "DATA.TRAIN_SPLIT", "val_dry") == "label-free"


def test_darkened_bright_clips_that_pick_the_checkpoint_do_not(tmp_path: Path) -> None:
    for split in ("val_dry", "val_dark"):
        assert label_use(tmp_path, tmp_path, "TRAIN.BEST_SPLIT", split) == "label-free"


@pytest.mark.parametrize("labels", ["label-free", "oracle", None])
def test_weights_pass_on_how_they_were_chosen(tmp_path: Path, labels: str | None) -> None:
    """Public weights do not say, and have not seen these clips."""
    path = tmp_path / "best.pyth"
    torch.save(
        {"model_state": {"norm.weight": torch.ones(2)}, **({"labels": labels} if labels else {})},
        path,
    )
    expected = "oracle" if labels == "oracle" else "label-free"
    assert label_use(tmp_path, tmp_path, "TRAIN.CHECKPOINT_FILE_PATH", path) == expected


def test_results_are_stamped_as_the_checkpoint_is_whatever_the_configuration(
    tmp_path: Path,
) -> None:
    """What is tested may have been chosen by another configuration than the one that tests it."""
    data, run = tiny.build_data(tmp_path / "data"), tmp_path / "run"
    assert tiny.run_net("train", data, run, "TRAIN.BEST_SPLIT", "arid", "SOLVER.MAX_EPOCH", 1) == 0
    assert tiny.run_net("test", data, run, "TEST.DATA_SELECT", "val_dry") == 0
    (path,) = run.glob("val_dry*.npz")
    assert read_results(path).meta["labels"] == "oracle"
    for log in ("train.log", "test.log"):
        assert "oracle" in (run / log).read_text()
        assert "label-free" not in (run / log).read_text()


def test_pseudo_labels_pass_on_what_made_them(tmp_path: Path) -> None:
    csv = tmp_path / "pseudo/stage1.csv"
    csv.parent.mkdir()
    csv.write_text("0.mp4,3\n")
    pseudo = ("DATA.PSEUDO_CSV", "pseudo/stage1.csv")
    assert label_use(tmp_path, tmp_path, *pseudo) == "oracle", "nothing says how they were made"
    about = {"file": csv.name, "sha256": sha256_file(csv), "labels": "label-free"}
    csv.with_suffix(".json").write_text(json.dumps(about))
    assert label_use(tmp_path, tmp_path, *pseudo) == "label-free"
    csv.write_text("0.mp4,4\n")
    assert label_use(tmp_path, tmp_path, *pseudo) == "oracle", "the statement is about other bytes"
