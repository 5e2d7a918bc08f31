"""Runs that version 0.1 began: checkpoints, metadata, metrics, and their continuation."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fvcore.common.config import CfgNode

from nightcrawler.config.identity import MACHINE_KEYS
from nightcrawler.config.load import load_experiment, recorded_defaults
from nightcrawler.config.node import config_hash
from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import load_checkpoint, verify
from nightcrawler.engine.resume import weights_to_test_from_cfg
from nightcrawler.models.build import build_model
from nightcrawler.utils.io import sha256_file
from tests import tiny
from tests.compat.files import LATEST, RUN, expected
from tests.compat.make_fixtures import machine, video_hashes, weights_hash

EXPECTED = expected()["train"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_data(tmp_path_factory.mktemp("compat") / "data")


def config(data: Path, out: Path, *overrides: Any) -> CfgNode:
    """The old run's own configuration, with this machine's places."""
    places = ("DATA.PATH_PREFIX", str(data), "OUTPUT_DIR", str(out))
    overrides = (*places, *map(str, overrides))
    return load_experiment(RUN / "resolved.yaml", [], overrides, defaults=recorded_defaults())


def test_the_checkpoint_is_verified_and_read() -> None:
    verify(RUN / LATEST)
    state = load_checkpoint(RUN / LATEST)
    assert {key: state[key] for key in ("epoch", "step")} == EXPECTED["stopped"]
    assert weights_hash(state) == EXPECTED["stopped_weights"]


def test_the_configuration_has_the_hash_of_before(data: Path, tmp_path: Path) -> None:
    about = json.loads((RUN / "run.json").read_text())
    assert config_hash(config(data, tmp_path), ignore=MACHINE_KEYS) == about["config_hash"]
    assert load_checkpoint(RUN / LATEST)["config_hash"] == about["config_hash"]


def test_the_run_folder_is_read() -> None:
    rows = tiny.metrics(RUN)
    assert [row["loss"] for row in rows if row["kind"] == "train"] == EXPECTED["losses"][:3]
    about = json.loads((RUN / "run.json").read_text())
    assert (about["seed"], about["labels"], about["adapter"]) == (6666, "label-free", "batchnorm")


def test_the_checkpoint_fills_a_model_to_test(data: Path, tmp_path: Path) -> None:
    path = RUN / LATEST
    cfg = config(data, tmp_path, "TEST.CHECKPOINT_FILE_PATH", path)
    model = build_model(cfg)
    report = weights_to_test_from_cfg(cfg, model)
    assert (report.sha256, report.labels) == (sha256_file(path), "label-free")
    state = load_checkpoint(path)["model_state"]
    assert tiny.differences(dict(model.state_dict()), dict(state)) == []


def test_the_run_goes_on_as_the_old_code_would_have(data: Path, tmp_path: Path) -> None:
    """Bit for bit where machine, torch and encoded videos are those of then, else closely."""
    out = Path(shutil.copytree(RUN, tmp_path / "run"))
    trainer = build_trainer(config(data, out))
    assert {"epoch": trainer.epoch, "step": trainer.step} == EXPECTED["stopped"]
    best = trainer.fit()
    ended = load_checkpoint(out / LATEST)
    rows = tiny.metrics(out)
    losses = [row["loss"] for row in rows if row["kind"] == "train"]
    assert len(rows) == EXPECTED["num_rows"]
    assert not (out / "PREEMPTED").exists()
    if machine() == expected()["machine"] and video_hashes(data) == EXPECTED["videos"]:
        assert weights_hash(ended) == EXPECTED["ended_weights"]
        assert losses == EXPECTED["losses"]
        # Since version 0.2 the clips of val_dark pass a codec, so that its accuracy is another one.
        assert {**best, "top1": 0} == {**EXPECTED["best"], "top1": 0}
        assert ended["meter"] == EXPECTED["ended_meter"]
    bias = torch.tensor(EXPECTED["ended_head_bias"])
    np.testing.assert_allclose(ended["model_state"]["head.bias"], bias, rtol=0, atol=2e-4)
    np.testing.assert_allclose(losses, EXPECTED["losses"], rtol=0, atol=1e-2)
