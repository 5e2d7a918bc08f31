"""The real chain on two data folders whose lists are byte-equal, and on outputs that were made by hand."""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny
from tests.paths import ROOT

RECIPE = """\
MODELS: {one: {CONFIG: configs/models/uniformer_b32_k600.yaml}}
STAGES: {adapt: {CONFIG: configs/stages/adapt_bn.yaml}}
SET: {SOLVER.MAX_EPOCH: 1, SOLVER.WARMUP_EPOCHS: 0.5}
UNLABELLED: total_unlabel
TEST: {SPLITS: [val_dry]}
VOTE: {VIEWS: [[1, 1]], SPLIT: test}
"""


def pipeline(folder: Path, data: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE)
    places = ["--data", str(data), "--out", str(folder / "out")]
    overlay = ["--overlay", str(tiny.overlay(folder))]
    return subprocess.run(
        [
            sys.executable,
            str(ROOT / "tools/run_pipeline.py"),
            str(recipe),
            *places,
            *overlay,
            *argv,
        ],
        capture_output=True,
        text=True,
        env=tiny.environment(),
        timeout=200,
        check=False,
    )


def other_videos(data: Path, target: Path) -> Path:
    """A data folder with the same lists, whose videos have changed places."""
    shutil.copytree(data, target)
    for folder in ("Test", "labeled_train/Train", "dry_run/Validation", "dark_train/Train"):
        videos = sorted((target / folder).rglob("*.mp4"))
        contents = [video.read_bytes() for video in videos]
        for video, content in zip(videos, contents[1:] + contents[:1], strict=True):
            video.write_bytes(content)
    return target


@pytest.mark.slow
def test_a_chain_on_other_data_is_another_chain(tmp_path: Path) -> None:
    zero = tiny.build_data(tmp_path / "d0")
    one = other_videos(zero, tmp_path / "d1")
    for path in zero.glob("*.csv"):
        assert filecmp.cmp(path, one / path.name, shallow=False)
    done = pipeline(tmp_path, zero)
    assert done.returncode == 0, done.stdout + done.stderr
    vote = tmp_path / "out/submission/arid_pred.csv"
    first = vote.read_bytes()

    moved = zero.rename(tmp_path / "moved")
    done = pipeline(tmp_path, moved)
    assert "running" not in done.stdout, "moved data are the same data"

    # A setting more, as it may be forgotten later: nothing that is finished is discarded.
    best = tmp_path / "out/adapt/one/best.pyth"
    before = best.read_bytes()
    done = pipeline(tmp_path, moved, "SOLVER.WEIGHT_DECAY", "0.125")
    assert done.returncode == 1
    assert "SOLVER.WEIGHT_DECAY" in done.stdout
    assert "(now 0.125)" in done.stdout
    assert best.read_bytes() == before

    done = pipeline(tmp_path, one)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "content" not in done.stderr
    (kept,) = (tmp_path / "out/adapt/one/.superseded").iterdir()
    assert (kept / "best.pyth").read_bytes() == before
    assert vote.read_bytes() != first
    state = json.loads((tmp_path / "out/pipeline.json").read_text())
    assert {task["status"] for task in state["links"]} == {"done"}


@pytest.mark.slow
def test_a_training_by_hand_on_half_the_list_is_not_taken(tmp_path: Path) -> None:
    data = tiny.build_data(tmp_path / "data")
    done = pipeline(tmp_path, data)
    assert done.returncode == 0, done.stdout + done.stderr
    # As if by hand: the same files without the states of their tasks.
    shutil.rmtree(tmp_path / "out/adapt/one/.pipeline")
    done = pipeline(tmp_path, data, "--found", "adopt", "ENHANCE.TEST", "none")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "running    train/adapt/one" not in done.stdout, "the training is the same"
    assert "running    test/adapt/one/test" in done.stdout, "its results were lit otherwise"
    assert "enhancement gamma, expected none" in done.stdout
    shutil.rmtree(tmp_path / "out/adapt/one/.pipeline")
    path = data / "train_label+val_dry.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[::2]))
    done = pipeline(tmp_path, data, "--found", "adopt")
    assert done.returncode == 1
    assert "was made of another list train" in done.stdout
