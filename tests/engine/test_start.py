"""How a run starts from a file: weights alone, a whole run, and files that cannot be started from."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nightcrawler.config.node import dump
from nightcrawler.engine.checkpoint_files import save_checkpoint
from nightcrawler.engine.resume import start_from_cfg, weights_to_test_from_cfg
from nightcrawler.models.build import build_model
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import sha256_file
from tests import tiny


def start(
    folder: Path, file: Path | str, *overrides: Any
) -> tuple[nn.Module, dict[str, Any] | None]:
    """The model and the state that a run would start with."""
    cfg = tiny.config(folder, folder / "out", "TRAIN.CHECKPOINT_FILE_PATH", file, *overrides)
    model = build_model(cfg)
    return model, start_from_cfg(cfg, model)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    model, _ = start(tmp_path, "")
    save_checkpoint(tmp_path / "best.pyth", {"model_state": model.state_dict()})
    return tmp_path / "best.pyth"


def test_weights_fill_the_model_and_the_log_says_so(
    tmp_path: Path, weights: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("nightcrawler"), "propagate", True)
    with caplog.at_level(logging.INFO, "nightcrawler"):
        model, state = start(tmp_path, weights)
    assert state is None
    expected = torch.load(weights, weights_only=True)["model_state"]
    assert tiny.differences(dict(model.state_dict()), dict(expected)) == []
    assert "100.0 % of the backbone's parameters" in caplog.text
    assert f"sha256 {sha256_file(weights)}" in caplog.text
    assert "does not name its classes" in caplog.text


def test_damaged_weights_of_an_earlier_run_are_noticed(tmp_path: Path, weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UserError, match="damaged"):
        start(tmp_path, weights)


def test_weights_alone_are_no_run_to_go_on_with(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"has no optimizer_state, only weights: leave TRAIN\.CHECKPOINT_EPOCH_RESET True",
    ):
        start(tmp_path, weights, "TRAIN.CHECKPOINT_EPOCH_RESET", False)


def test_what_was_tested_is_named_by_its_hash(tmp_path: Path, weights: Path) -> None:
    cfg = tiny.config(tmp_path, tmp_path / "out", "TEST.CHECKPOINT_FILE_PATH", weights)
    model = build_model(cfg)
    assert weights_to_test_from_cfg(cfg, model).sha256 == sha256_file(weights)


def test_a_model_without_its_classifier_is_not_tested(tmp_path: Path, weights: Path) -> None:
    state = torch.load(weights, weights_only=True)["model_state"]
    state = {name: value for name, value in state.items() if not name.startswith("head.")}
    save_checkpoint(weights, {"model_state": state})
    cfg = tiny.config(tmp_path, tmp_path / "out", "TEST.CHECKPOINT_FILE_PATH", weights)
    with pytest.raises(
        UserError, match=r"not exactly those of this model.*head\.weight \(missing\)"
    ):
        weights_to_test_from_cfg(cfg, build_model(cfg))


def test_weights_of_another_number_of_heads_are_not_tested(tmp_path: Path) -> None:
    """All entries fit, and the answers would be others. What training alone reads may differ."""
    cfg = tiny.config(tmp_path, tmp_path / "out", "UNIFORMER.HEAD_DIM", 8)
    trained = build_model(cfg)
    file = tmp_path / "best.pyth"
    save_checkpoint(file, {"model_state": trained.state_dict(), "cfg": dump(cfg)})
    given = ("TEST.CHECKPOINT_FILE_PATH", file)
    same = tiny.config(tmp_path, tmp_path / "out", *given, "UNIFORMER.DROPOUT_RATE", 0.3)
    weights_to_test_from_cfg(same, build_model(same))
    other = tiny.config(tmp_path, tmp_path / "out", *given, "UNIFORMER.HEAD_DIM", 4)
    model = build_model(other)
    with pytest.raises(UserError, match=r"was trained with UNIFORMER\.HEAD_DIM 8 \(now 4\): "):
        weights_to_test_from_cfg(other, model)
    # Its entries do fit: nothing else would have told.
    model.load_state_dict(trained.state_dict())
    clip = torch.rand(1, 3, 8, 32, 32)
    with torch.no_grad():
        assert not torch.equal(model.eval()(clip), trained.eval()(clip))
