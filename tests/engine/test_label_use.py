"""Whether a run may call itself label-free."""

from __future__ import annotations

import json
from pathlib import Path

from nightcrawler.engine.build import build_label_use
from nightcrawler.utils.io import sha256_file
from tests import tiny


def label_use(data: Path, tmp_path: Path, *overrides: object) -> str:
    return build_label_use(tiny.config(data, tmp_path / "run", *overrides))


def test_a_dark_split_that_picks_the_checkpoint_makes_an_oracle(tmp_path: Path) -> None:
    assert label_use(tmp_path, tmp_path) == "label-free"
    assert label_use(tmp_path, tmp_path, "TRAIN.BEST_SPLIT", "arid") == "oracle"


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
