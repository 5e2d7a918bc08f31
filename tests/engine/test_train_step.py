"""Steps of odd batches and streams: lost clips, streams without weight, skipped and overflowing steps."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nightcrawler.engine.build import build_trainer
from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.engine.train_step import NON_FINITE
from nightcrawler.engine.trainer import Trainer
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.engine.test_streams import QUICK, WEIGHTLESS, build

PLAIN = (
    *("ADAPT.NAME", "none", "SOLVER.MAX_EPOCH", 1, "AUG.AA_TYPE", "", "MIXUP.ENABLE", False),
    *("SOLVER.WARMUP_EPOCHS", 0, "MODEL.DROP_PATH_RATE", 0.0, "MODEL.DROPOUT_RATE", 0.0),
)
SMOOTHING = 0.1
SGD = ("SOLVER.OPTIMIZING_METHOD", "sgd", "SOLVER.CLIP_GRAD_L2NORM", 0.0)


def state_of(trainer: Trainer) -> dict[str, Any]:
    """Copies of the model's and the optimiser's state."""
    return copy.deepcopy(
        {"model": dict(trainer.model.state_dict()), "optimizer": trainer.optimizer.state_dict()}
    )


def state_after_two_steps(trainer: Trainer) -> dict[str, Any]:
    """Copies of the model's and the optimiser's state after two steps of training."""
    trainer.train_step.start_epoch(0, 0)
    trainer.train_step.run(1e-3)
    trainer.train_step.run(1e-3)
    return state_of(trainer)


def lose_clips(trainer: Trainer, kept: list[int]) -> list[dict[str, Any]]:
    """Keep the first clips of each micro-batch of the labelled stream; returns what is left."""
    load, seen = trainer.train_step._next, []

    def shortened(number: int) -> dict[str, Any]:
        batch = load(number)
        count = kept[len(seen)]
        for name in ("clip", "index", "label"):
            batch[name] = batch[name][:count]
        seen.append(dict(batch))
        return batch

    trainer.train_step._next = shortened
    return seen


def test_every_clip_weighs_the_same_in_a_batch_that_lost_some(data: Path, tmp_path: Path) -> None:
    """Micro-batches of 2 and 1: the gradient is the mean over 3 clips, not of two means."""
    trainer = build_trainer(tiny.config(data, tmp_path, *PLAIN, *SGD))
    seen = lose_clips(trainer, [2, 1])
    reference = copy.deepcopy(trainer.model).train()
    trainer.train_step.start_epoch(0, 0)
    before = copy.deepcopy(reference.state_dict())
    # A rate so small that the weights move by their gradients, and the gradients stay.
    trainer.train_step.run(1e-9)
    moved = {name: torch.zeros_like(value) for name, value in before.items()}
    for batch in seen:
        reference.load_state_dict(before)
        target = torch.nn.functional.one_hot(batch["label"], 11)
        smooth = target * (1 - SMOOTHING) + SMOOTHING / 11
        share = len(batch["clip"]) / 3
        logits = reference(batch["clip"]).log_softmax(dim=-1)
        (-(smooth * logits).sum(dim=-1).mean() * share).backward()
        for name, value in reference.state_dict().items():
            if value.is_floating_point():
                moved[name] += (value.detach() - before[name]) * share
    for (name, ours), theirs in zip(
        trainer.model.named_parameters(), reference.parameters(), strict=True
    ):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6, msg=name)
    for name, value in trainer.model.state_dict().items():
        if name.endswith(("running_mean", "running_var")):
            torch.testing.assert_close(value, before[name] + moved[name], rtol=1e-5, atol=1e-6)


ALMOST = ("TRAIN.PSEUDO_WEIGHT", 1e-30)
# Weights that float32 does not hold.
RAMP = ("TRAIN.PSEUDO_RAMP_EPOCHS", 1e60)


@pytest.mark.parametrize(
    ("joint", "weight"),
    [
        (False, WEIGHTLESS),
        *((joint, weight) for joint in (True, False) for weight in (ALMOST, RAMP)),
    ],
)
def test_a_stream_without_weight_leaves_no_trace(
    own_data: Path, tmp_path: Path, joint: bool, weight: tuple[str, float]
) -> None:
    """Weights, moments and statistics are those of training on the labelled clips alone."""
    tiny.write_pseudo(own_data, 12)
    trainer = build(own_data, tmp_path / "both", "TRAIN.JOINT_STEP", joint, *weight)
    alone = build(own_data, tmp_path / "alone")
    del alone.train_step.stream_losses[1:]
    different = tiny.differences(state_after_two_steps(trainer), state_after_two_steps(alone))
    # Steps of almost no weight are counted as batches all the same.
    counted = [name for name in different if name.endswith("num_batches_tracked")]
    assert different == counted
    assert bool(counted) == (weight is not WEIGHTLESS and not joint)


@pytest.mark.parametrize(
    "refused",
    [("TRAIN.JOINT_STEP", True), ("TRAIN.BALANCE_PSEUDO", True), ("ENHANCE.TRAIN", "clahe")],
)
def test_keys_that_are_refused_beside_weight_0_change_nothing(
    own_data: Path, tmp_path: Path, refused: tuple[str, Any]
) -> None:
    tiny.write_pseudo(own_data, 12)
    keys = (*QUICK, "SOLVER.WARMUP_EPOCHS", 0, *WEIGHTLESS)
    states = []
    for name in ("without", "with"):
        cfg = tiny.config(own_data, tmp_path / name, *keys, experiment=tiny.PSEUDO_EXPERIMENT)
        if name == "with":
            # After the check, which refuses it.
            cfg.defrost()
            cfg.merge_from_list(list(refused))
        states.append(state_after_two_steps(build_trainer(cfg)))
    assert tiny.differences(*states) == []


def test_the_pseudo_stream_goes_on_where_its_weight_begins(own_data: Path, tmp_path: Path) -> None:
    """A stream that is not trained on for an epoch does not come late afterwards."""
    tiny.write_pseudo(own_data, 12)
    trainer = build(own_data, tmp_path / "run", "TRAIN.PSEUDO_RAMP_EPOCHS", 1)
    seen: list[list[int]] = []
    backward = trainer.train_step._backward

    def noted(number: int, k: int, batch: dict[str, Any], *rest: Any) -> torch.Tensor:
        if number == 1:
            seen.append(batch["index"].tolist())
        return backward(number, k, batch, *rest)

    trainer.train_step._backward = noted
    trainer.fit()
    items = trainer.stream_losses[1].stream.sampler.epoch_items(0)
    # The first step of three has weight 0; a step is two micro-batches of two.
    assert [index for part in seen for index in part] == items[4:]


def test_an_iteration_of_which_one_step_was_skipped_is_averaged(
    own_data: Path, tmp_path: Path
) -> None:
    tiny.write_pseudo(own_data, 12)
    trainer = build(own_data, tmp_path / "run", "TRAIN.EMA_DECAY", 0.9)
    loss = trainer.stream_losses[1].loss
    trainer.stream_losses[1].loss = lambda logits, target: loss(logits, target) * math.nan
    averaged: list[int] = []
    trainer.ema.update = lambda model, step: averaged.append(step)
    trainer.fit()
    assert trainer.train_step.num_skipped == 3
    assert averaged == [0, 1, 2]


def half_precision(data: Path, out: Path, *overrides: Any) -> Trainer:
    """A trainer with a scaler of float16 gradients, on a CPU in float32."""
    trainer = build_trainer(tiny.config(data, out, "ADAPT.NAME", "none", *overrides))
    trainer.train_step.scaler = torch.amp.GradScaler("cpu")
    return trainer


def test_the_first_overflow_of_float16_is_no_error(data: Path, tmp_path: Path) -> None:
    """Gradients overflow as float16 would: at a scale of 65536 once or more, then no longer."""
    trainer = half_precision(data, tmp_path, "TRAIN.NON_FINITE", "raise")
    weight = next(trainer.model.parameters())
    limits: list[float] = []

    def overflow(grad: torch.Tensor) -> torch.Tensor:
        # The first gradient is just over the limit, and half of it is below.
        if not limits:
            limits.append(float(grad.abs().max()) / 1.5)
        return grad.masked_fill(grad.abs() > limits[0], math.inf)

    weight.register_hook(overflow)
    before = weight.detach().clone()
    trainer.fit()
    scale = trainer.train_step.scaler.get_scale()
    assert trainer.train_step.num_skipped >= 1
    assert scale == 65536.0 / 2**trainer.train_step.num_skipped
    assert not torch.equal(weight, before)
    assert not (tmp_path / NON_FINITE).exists()


@pytest.mark.parametrize("fault", ["loss", "gradient"])
def test_what_no_scale_mends_ends_the_run(data: Path, tmp_path: Path, fault: str) -> None:
    """A loss that is not finite at once, a gradient as soon as the scale has come down to 1."""
    trainer = half_precision(data, tmp_path, "TRAIN.NON_FINITE", "raise")
    trainer.train_step.scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    if fault == "loss":
        loss = trainer.stream_losses[0].loss
        trainer.stream_losses[0].loss = lambda logits, target: loss(logits, target) * math.inf
    else:
        weight = next(trainer.model.parameters())
        weight.register_hook(lambda grad: torch.full_like(grad, math.inf))
    with pytest.raises(UserError, match=r"not finite at epoch .*TRAIN.NON_FINITE is raise"):
        trainer.fit()
    assert trainer.train_step.num_skipped == (1 if fault == "loss" else 3)
    rows = [json.loads(line) for line in (tmp_path / NON_FINITE).read_text().splitlines()]
    assert {row["step"] for row in rows} == {1}


def test_a_run_with_overflows_resumes_at_its_scale(data: Path, tmp_path: Path) -> None:
    trainer = half_precision(data, tmp_path)
    weight = next(trainer.model.parameters())
    calls = iter(range(100))
    weight.register_hook(lambda grad: grad * (math.inf if next(calls) == 0 else 1.0))
    trainer.fit()
    state = load_checkpoint(tmp_path / "checkpoints/checkpoint_latest.pyth")
    assert state["scaler_state"]["scale"] == 32768.0
