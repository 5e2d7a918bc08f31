"""A real experiment under `configs/demo.yaml` on two ranks: it ends with the test predictions of one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from nightcrawler.config.load import load_experiment
from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.tester import build_tester
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils import distributed
from tests import tiny
from tests.faults.ranks import on_ranks
from tests.paths import ROOT


def train_and_test(data: Path, folder: Path) -> None:
    """As run.sh and test.sh do; nothing is changed but places."""
    overlays = [ROOT / "configs/demo.yaml"]
    weights = ROOT / "configs/demo_weights/uniformer_b32_k600.safetensors"
    places = (
        "OUTPUT_DIR",
        folder / str(distributed.world_size()),
        "TRAIN.CHECKPOINT_FILE_PATH",
        weights,
    )
    places += ("DATA.PATH_PREFIX", data, "DEVICE", "cpu", "TENSORBOARD.ENABLE", False)
    cfg = load_experiment(ROOT / tiny.EXPERIMENT / "config.yaml", overlays, list(map(str, places)))
    build_trainer(cfg).fit()
    assert build_tester(cfg).run() == 0


def test_two_ranks_predict_what_one_does(data: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(data, tmp_path / "data"))
    train_and_test(own, tmp_path)
    on_ranks(2, tmp_path, train_and_test, own, tmp_path)
    ((one,), (two,)) = ((tmp_path / world).glob("total_unlabel*.npz") for world in "12")
    assert one.name == two.name
    left, right = read_results(one), read_results(two)
    assert (
        left.names
        == right.names
        == [row.split(",")[0] for row in (own / "total_unlabel.csv").read_text().split()]
    )
    assert np.ptp(left.logits, axis=0).max() > 1e-2, "videos are told apart"
    np.testing.assert_allclose(right.logits, left.logits, rtol=0, atol=1e-4)
    np.testing.assert_allclose(right.probs, left.probs, rtol=0, atol=1e-4)
    steps = [[row["lr"] for row in tiny.metrics(tmp_path / world, "train")] for world in "12"]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 3, "epochs of one step"
