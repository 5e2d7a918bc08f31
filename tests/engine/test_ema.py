"""The moving average of weights: its formula, and its part in validation and in the best checkpoint."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nightcrawler.adapt.batchnorm import batchnorm_layers
from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.engine.ema import averaged_copy
from nightcrawler.engine.trainer import Trainer
from tests import tiny

EMA = ("TRAIN.EMA_DECAY", 0.9)
LATEST = "checkpoints/checkpoint_latest.pyth"


def test_the_average_is_the_formula() -> None:
    """Of weights and running statistics; counters are copied."""
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()
    average, expected = averaged_copy(model, 0.6), copy.deepcopy(model.state_dict())
    for step in range(6):
        with torch.no_grad():
            for value in model.state_dict().values():
                value += 1 if value.dtype == torch.int64 else torch.rand_like(value)
        average.update(model, step=step)
        decay = min(0.6, 1 - max(step, 1) ** (-2 / 3))
        for name, value in model.state_dict().items():
            mixed = decay * expected[name] + (1 - decay) * value
            expected[name] = value.clone() if value.dtype == torch.int64 else mixed
    torch.testing.assert_close(average.module.state_dict(), expected)
    assert not average.module.training


def best_of(
    data: Path, out: Path, raw: float, ema: float, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    """The best of a run that validates both in the end; `best.pyth` holds the weights that were."""
    judged: dict[str, dict[str, torch.Tensor]] = {}

    def validate(self: Trainer, model: nn.Module, weights: str) -> dict[str, dict[str, Any]]:
        judged[weights] = copy.deepcopy(model.state_dict())
        return {"val_dark": {"top1": {"raw": raw, "ema": ema}[weights]}}

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "validate", validate)
        best = build_trainer(tiny.config(data, out, *EMA, "TRAIN.EVAL_PERIOD", 2)).fit()
    state = load_checkpoint(out / "best.pyth")
    assert list(judged) == ["raw", "ema"]
    assert tiny.differences(judged["raw"], judged["ema"])
    assert state["best"] == best
    assert state["weights"] == best["weights"]
    assert tiny.differences(dict(state["model_state"]), judged[best["weights"]]) == []
    return best


def test_the_better_of_both_is_the_best(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The raw weights where they are level; what is not a number is no match for anything."""
    cases = {(30.0, 40.0): "ema", (40.0, 30.0): "raw", (30.0, 30.0): "raw", (math.nan, 30.0): "ema"}
    for number, ((raw, ema), kind) in enumerate(cases.items()):
        best = best_of(data, tmp_path / str(number), raw, ema, monkeypatch)
        assert (best["weights"], best["top1"]) == (kind, ema if kind == "ema" else raw)


def test_both_are_adapted_and_validated(data: Path, tmp_path: Path) -> None:
    trainer = build_trainer(tiny.config(data, tmp_path, *EMA))
    trainer.fit()
    for kind, rows in (("adapt", 1), ("val", 3)):
        found = [(row["epoch"], row["weights"]) for row in tiny.metrics(tmp_path, kind)]
        assert found == [
            (epoch, weights) for epoch in (1, 2) for weights in ("raw", "ema") for _ in range(rows)
        ]
    shifts = {
        row["weights"]: row["layers"]
        for row in tiny.metrics(tmp_path, "adapt")
        if row["epoch"] == 2
    }
    assert [layer["name"] for layer in shifts["ema"]] == list(batchnorm_layers(trainer.model))
    assert shifts["ema"] != shifts["raw"]
    state = load_checkpoint(tmp_path / LATEST)
    assert tiny.differences(dict(state["ema_state"]), dict(state["model_state"]))


def test_a_step_that_is_not_finite_is_not_averaged(data: Path, tmp_path: Path) -> None:
    trainer = build_trainer(tiny.config(data, tmp_path, *EMA, "ADAPT.NAME", "none"))
    before = copy.deepcopy(trainer.ema.module.state_dict())
    loss = trainer.stream_losses[0].loss
    trainer.stream_losses[0].loss = lambda logits, target: loss(logits, target) * math.nan
    trainer.fit()
    assert trainer.train_step.num_skipped == 4
    assert (
        tiny.differences(dict(before), dict(load_checkpoint(tmp_path / LATEST)["ema_state"])) == []
    )
