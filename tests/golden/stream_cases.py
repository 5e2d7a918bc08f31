"""Cases of two-stream training: the published epoch against our step, stream by stream."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nightcrawler.config.node import CfgNode
from nightcrawler.data.augment.mixup import MixUp
from nightcrawler.engine.bad_videos import BadVideoLedger
from nightcrawler.engine.build import build_trainer_config
from nightcrawler.engine.optim import build_optimizer, build_schedule
from nightcrawler.engine.train_step import TrainStep
from nightcrawler.engine.trainer_config import StreamLoss
from nightcrawler.utils.registries import LOSSES
from tests.golden.case import Check, Kind, exact, of_sum, relative
from tests.golden.fields import Refusal
from tests.golden.fill import clip_formula
from tests.golden.step_cases import batch_clip, filled_model, read_solver, rule_numbers
from tests.golden.training_cases import phased

Case = Mapping[str, Any]

EPOCH_RULE = re.compile(r"epoch_float = (\d+) \+ \(k//2\)/(\d+)")
TEACHER_RULE = re.compile(r"softmax\(1\.3\*2\.5\*sin\(0\.37\*q\(i\)\+(\d+\.\d+)\*k\)\)")
NAMES = ("labelled", "pseudo")
# Targets are float32 on both sides, and smoothed in another order: a few units in the last place.
FLOAT32_TARGET = 5e-7


class ToldMixUp(MixUp):
    """Mixup whose shares a case tells, of one stream."""

    def __init__(self, shares: list[float], smoothing: float, num_classes: int) -> None:
        super().__init__(0.0, 0.0, 0.0, 0.0, smoothing, num_classes)
        self.shares = iter(shares)

    def draw(self, rng: np.random.Generator) -> tuple[str, float]:
        return "mixup", next(self.shares)


class RecordedStep(TrainStep):
    """Steps that keep loss, gradient norm and parameters of each optimiser step."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.taken: list[tuple[float, float, dict[str, Tensor]]] = []

    def _update(self, loss: Tensor, *rest: Any) -> float:
        norm = super()._update(loss, *rest)
        parameters = {name: p.detach().clone() for name, p in self.model.named_parameters()}
        self.taken.append((loss.item(), norm, parameters))
        return norm


def _batch(case: Case, step: Case) -> dict[str, Any]:
    """The batch of a step, as a loader gives it."""
    labels = torch.tensor(step["labels"])
    num_classes = case["resolved_config"]["MODEL"]["NUM_CLASSES"]
    batch = {
        "clip": batch_clip(case, case["input_shape"], step["k"]),
        "label": labels,
        "index": torch.arange(len(labels)),
        "bad": [],
    }
    if "teacher_rule" in case:
        (phase,) = rule_numbers(case, "teacher_rule", TEACHER_RULE)
        scores = 1.3 * phased(len(labels), num_classes, phase * step["k"])
        batch["probs"] = torch.from_numpy(scores).softmax(dim=1)
    return batch


def _stream_loss(case: Case, number: int) -> StreamLoss:
    """One of the two streams: its batches are the case's steps of this name."""
    name = NAMES[number]
    steps = [step for step in case["steps"] if step["stream"] == name]
    sampler = SimpleNamespace(
        set_position=lambda epoch, step: None,
        num_steps=len(steps),
        micro_batches_per_step=1,
        world=1,
        rank=0,
    )
    stream: Any = SimpleNamespace(
        name=name, items=[], sampler=sampler, loader=[_batch(case, step) for step in steps]
    )
    loss = case["loss"] if name == "pseudo" else "hard"
    num_classes = case["resolved_config"]["MODEL"]["NUM_CLASSES"]
    shares = [step["lam"] for step in steps]
    return StreamLoss(
        stream=stream,
        mixup=ToldMixUp(shares, case["label_smoothing"], num_classes),
        loss=LOSSES.get(loss)(temperature=case["temperature"]),
        soft=loss == "kl_published",
    )


def _train(case: Case, model: nn.Module, cfg: CfgNode, rates: list[float]) -> RecordedStep:
    """Take an epoch of steps, each with one optimiser step a stream."""
    cfg.TRAIN.JOINT_STEP = False
    cfg.SOLVER.CLIP_GRAD_L2NORM = float(case["clip"])
    streams = [_stream_loss(case, number) for number in range(len(NAMES))]
    with tempfile.TemporaryDirectory() as folder:
        cfg.OUTPUT_DIR = folder
        config = build_trainer_config(cfg, torch.device("cpu"), {}, 0.0)
        ledger = BadVideoLedger(Path(folder, "bad.jsonl"), 0.0)
        step = RecordedStep(model, build_optimizer(cfg, model), streams, config, ledger)
        step.start_epoch(0, 0)
        for rate in rates:
            step.run(rate)
    return step


def _run_streams(case: Case) -> Iterator[Check]:
    steps = case["steps"]
    if [(step["k"], step["stream"]) for step in steps] != [
        (k, NAMES[k % 2]) for k in range(len(steps))
    ]:
        raise Refusal("steps: expected labelled and pseudo in turn, numbered from 0")
    model, cfg = filled_model(case), read_solver(case)
    schedule = build_schedule(cfg)
    first, in_epoch = rule_numbers(case, "step_rule", EPOCH_RULE)
    rates = [
        schedule((first + number / in_epoch) / cfg.SOLVER.MAX_EPOCH)
        for number in range(len(steps) // 2)
    ]
    taken = _train(case, model, cfg, rates).taken
    yield exact("optimiser steps", len(taken), len(steps))
    for expected, (loss, norm, parameters) in zip(steps, taken, strict=False):
        k = expected["k"]
        yield relative(f"step {k} lr", rates[k // 2], expected["lr"], 1e-9)
        # The distillation's terms cancel: its loss is of the size of one at most.
        yield of_sum(f"step {k} loss", loss, expected["loss"], max(abs(loss), 1.0), FLOAT32_TARGET)
        told = expected["grad_norm_before_clip"]
        yield relative(f"step {k} gradient norm", norm, told, FLOAT32_TARGET)
        for name, size in expected["param_l2_after"].items():
            yield relative(f"step {k} |{name}|", parameters[name].norm(), size, FLOAT32_TARGET)
        for name, values in expected.get("param_first3_after", {}).items():
            value = parameters[name].flatten()
            largest = value.abs().max()
            yield of_sum(f"step {k} {name}[:3]", value[:3], values, largest, FLOAT32_TARGET)
    yield from _check_end(model, case)


def _check_end(model: nn.Module, case: Case) -> Iterator[Check]:
    """BatchNorm statistics and logits after the last step."""
    state = model.state_dict()
    for name, expected in case["bn_after"].items():
        values = state[name]
        yield relative(f"{name} after", values.norm(), expected["l2"], FLOAT32_TARGET)
        largest = values.abs().max()
        yield of_sum(f"{name}[:4]", values[:4], expected["first4"], largest, FLOAT32_TARGET)
    with torch.no_grad():
        logits = model.eval()(clip_formula(tuple(case["input_shape"])))
    yield relative("logits after the steps", logits, case["eval_logits_after"], 1e-6)


KINDS = [Kind("two-stream training", lambda case: "steps" in case and "loss" in case, _run_streams)]
