"""A loss or gradient that is not finite on one of two ranks: both act alike, and the weights stay as they are."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.trainer import Trainer
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.faults.ranks import on_ranks

# Step of six (from 1) to what goes wrong in it, on rank 1.
FAULTS = {
    2: ("loss", math.nan),
    3: ("gradient", math.inf),
    5: ("loss", math.inf),
    6: ("gradient", math.nan),
}
PLAIN = ("ADAPT.NAME", "none", "SOLVER.MAX_EPOCH", 3, "TRAIN.EVAL_PERIOD", 3)


def poison(trainer: Trainer) -> None:
    """Spoil steps of this rank."""
    loss, parameter = trainer.stream_losses[0].loss, next(trainer.model.parameters())

    def due(place: str) -> float | None:
        step = trainer.train_step.epoch * trainer.num_steps + trainer.train_step.step + 1
        where, value = FAULTS.get(step, ("", None))
        return value if where == place else None

    def spoilt_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        value = due("loss")
        return loss(logits, target) * (1.0 if value is None else value)

    def spoilt_gradient(grad: torch.Tensor) -> torch.Tensor:
        value = due("gradient")
        return grad if value is None else torch.full_like(grad, value)

    trainer.stream_losses[0].loss = spoilt_loss
    parameter.register_hook(spoilt_gradient)


def note_weights(trainer: Trainer) -> list[dict[str, Any]]:
    """Copies of model and optimiser before the first step and after each."""
    copies: list[dict[str, Any]] = []
    run_step = trainer.train_step.run

    def copy() -> dict[str, Any]:
        kept = {name: value.clone() for name, value in trainer.model.state_dict().items()}
        states = trainer.optimizer.state_dict()["state"]
        return kept | {
            f"{i}/{k}": v.clone() for i, state in states.items() for k, v in state.items()
        }

    def noted(lr: float) -> float:
        if not copies:
            copies.append(copy())
        norm = run_step(lr)
        copies.append(copy())
        return norm

    trainer.train_step.run = noted
    return copies


def run(data: Path, folder: Path) -> None:
    """Skip every fault, then raise the first; what a rank saw goes to `skipped{rank}.pt` and `raised{rank}.txt`."""
    rank = distributed.rank()
    trainer = build_trainer(tiny.config(data, folder / "skip", *PLAIN))
    copies = note_weights(trainer)
    if rank == 1:
        poison(trainer)
    trainer.fit()
    torch.save((trainer.train_step.num_skipped, copies), folder / f"skipped{rank}.pt")
    trainer = build_trainer(
        tiny.config(data, folder / "raise", *PLAIN, "TRAIN.NON_FINITE", "raise")
    )
    if rank == 1:
        poison(trainer)
    with pytest.raises(UserError, match=r"TRAIN\.NON_FINITE is raise") as caught:
        trainer.fit()
    (folder / f"raised{rank}.txt").write_text(str(caught.value).split(": ")[0])


def check_skips(folder: Path) -> None:
    (count, first), (other_count, second) = (
        torch.load(folder / f"skipped{rank}.pt", weights_only=True) for rank in (0, 1)
    )
    assert count == other_count == len(FAULTS)
    assert tiny.differences(first, second) == []
    changed = [bool(tiny.differences(before, after)) for before, after in itertools.pairwise(first)]
    assert changed == [step not in FAULTS for step in range(1, 7)]
    assert all(torch.isfinite(value).all() for value in first[-1].values())


def check_lines(data: Path, folder: Path) -> None:
    """A line per rank and step, with the videos of the rank's micro-batch."""
    rows = [
        json.loads(line) for line in (folder / "skip/non_finite.jsonl").read_text().splitlines()
    ]
    found = [(2 * (row["epoch"] - 1) + row["step"], row["rank"], row["stream"]) for row in rows]
    assert found == [(step, rank, "labelled") for step in FAULTS for rank in (0, 1)]
    known = {line.split(",")[0] for line in (data / "train_label+val_dry.csv").read_text().split()}
    for mine, other in zip(rows[::2], rows[1::2], strict=True):
        where, _ = FAULTS[2 * (mine["epoch"] - 1) + mine["step"]]
        assert math.isfinite(float(mine["loss"]))
        assert math.isfinite(float(other["loss"])) == (where == "gradient")
        assert not math.isfinite(float(other["grad_norm"]))
        assert len({*mine["videos"], *other["videos"]} & known) == 4


def test_both_ranks_act_alike_and_the_videos_are_named(data: Path, tmp_path: Path) -> None:
    on_ranks(2, tmp_path, run, data, tmp_path)
    check_skips(tmp_path)
    check_lines(data, tmp_path)
    assert (tmp_path / "skip/DONE").is_file()
    assert [(tmp_path / f"raised{rank}.txt").read_text() for rank in (0, 1)] == [
        "not finite at epoch 1 step 2"
    ] * 2
    assert not (tmp_path / "raise/DONE").exists()


DIVERGING = (
    *("SOLVER.BASE_LR", 1e30, "ADAPT.NAME", "none"),
    *("TRAIN.VAL_SPLITS", "[val_dry]", "TRAIN.BEST_SPLIT", "val_dry"),
)


def test_a_diverged_model_does_not_become_the_best(data: Path, tmp_path: Path) -> None:
    trainer = build_trainer(tiny.config(data, tmp_path, *DIVERGING))
    with pytest.raises(UserError, match="diverged; lower the learning rate"):
        trainer.fit()
    assert not (tmp_path / "best.pyth").exists()
    assert not (tmp_path / "DONE").exists()


def test_a_training_without_any_accuracy_says_so(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = build_trainer(tiny.config(data, tmp_path, "ADAPT.NAME", "none"))
    nothing = {"top1": 0.0, "num_videos": 3, "num_bad": 3}
    best_split = trainer.config.best_split
    monkeypatch.setattr(trainer, "validate", lambda *_: {best_split: nothing})
    with pytest.raises(UserError, match="no epoch has a prediction on "):
        trainer.fit()
    assert not (tmp_path / "DONE").exists()
