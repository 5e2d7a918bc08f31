"""Every family of transformers from its folder to an answer: trained, adapted, tested and predicted."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.engine.trainer import Preempted
from nightcrawler.predict.load import load
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import sha256_file
from tests import tiny
from tests.engine.test_resume import LATEST, STATE, stop_after
from tests.models.tiny_hub import SETTINGS, overrides, save_folder

pytest.importorskip("transformers")

PLAIN = ("MODEL.DROP_PATH_RATE", 0, "ADAPT.ALLOW_NO_BATCHNORM", True)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_data(tmp_path_factory.mktemp("data"))


def settings(family: str, folder: Path, *more: Any) -> tuple[Any, ...]:
    return (*overrides(family, folder), *PLAIN, *more)


@pytest.mark.parametrize("family", SETTINGS)
def test_a_family_from_its_folder_to_an_answer(
    family: str, data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = save_folder(family, tmp_path / "folder")
    out = tmp_path / "run"
    with caplog.at_level(logging.INFO, logger="nightcrawler"):
        trainer = build_trainer(tiny.config(data, out, *settings(family, folder)))
        before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
        trainer.fit()
    assert f"start: weights of the folder {folder}" in caplog.text
    assert "HubVideo has no BatchNorm layer, so nothing is adapted" in caplog.text
    changed = [
        key for key, value in trainer.model.state_dict().items() if not value.equal(before[key])
    ]
    assert len(changed) > 0.9 * len(before)
    losses = [row["loss"] for row in tiny.metrics(out, "train")]
    assert len(losses) == 4
    assert np.isfinite(losses).all()
    state = load_checkpoint(out / "best.pyth")
    assert state["start_sha256"] == sha256_file(folder / "model.safetensors")
    # From here on, the settings of the folder are enough.
    (folder / "model.safetensors").unlink()
    assert tiny.run_net("test", data, out, *settings(family, folder)) == 0
    predictor = load(out / "best.pyth", device="cpu")
    (result,) = predictor.predict(str(data / "Test/0.mp4"))
    assert result.probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_a_folder_without_weights_does_not_begin_a_training(data: Path, tmp_path: Path) -> None:
    folder = save_folder("vivit", tmp_path / "folder")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"the folder has no weights \(model.safetensors\)"):
        build_trainer(tiny.config(data, tmp_path / "run", *settings("vivit", folder)))


def test_norms_of_a_model_without_batchnorm_are_adapted_by_tent(data: Path, tmp_path: Path) -> None:
    folder = save_folder("vivit", tmp_path / "folder")
    more = ("ADAPT.NAME", "tent", "ADAPT.TENT_LR", 0.1)
    trainer = build_trainer(tiny.config(data, tmp_path / "run", *settings("vivit", folder, *more)))
    before = {key: value.clone() for key, value in trainer.model.state_dict().items()}
    trainer.adapt(trainer.model)
    changed = {
        key for key, value in trainer.model.state_dict().items() if not value.equal(before[key])
    }
    assert changed
    assert all("layernorm" in key for key in changed)


def test_a_stopped_run_goes_on_without_the_folders_weights(data: Path, tmp_path: Path) -> None:
    folder = save_folder("videomae", tmp_path / "folder")
    more = settings("videomae", folder)
    build_trainer(tiny.config(data, tmp_path / "whole", *more)).fit()
    part = build_trainer(tiny.config(data, tmp_path / "part", *more))
    stop_after(part, 3)
    with pytest.raises(Preempted):
        part.fit()
    (folder / "model.safetensors").unlink()
    build_trainer(tiny.config(data, tmp_path / "part", *more)).fit()
    states = [load_checkpoint(tmp_path / name / LATEST) for name in ("whole", "part")]
    assert tiny.differences(*({key: state[key] for key in STATE} for state in states)) == []
