"""Cases of several steps of a model: AdamW with a schedule, and BatchNorm statistics of batches."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nightcrawler.adapt.batchnorm import BatchNormAdapter, batchnorm_layers
from nightcrawler.config.node import CfgNode, get_cfg
from nightcrawler.engine.losses import soft_cross_entropy
from nightcrawler.engine.optim import build_optimizer, build_schedule, separate_gradients
from tests.golden.case import Check, Kind, exact, has, of_sum, relative
from tests.golden.families import build_family, family_of
from tests.golden.fields import Refusal
from tests.golden.fill import check_fill, clip_formula, fill_state_dict

Case = Mapping[str, Any]

NUMBER = r"(\d+(?:\.\d+)?)"
EPOCH_RULE = re.compile(rf"epoch_float = k\*{NUMBER}\+{NUMBER}")
BATCH_RULE = re.compile(rf"i replaced by i \+ {NUMBER}\*k")
# Sections of a solver that are read into our configuration.
OURS = ("SOLVER", "BN")
# Settings with the only value that cases can have: figures of random draws would be none.
FIXED = {
    "SOLVER.LR_POLICY": "cosine",
    "SOLVER.LAYER_DECAY": 1.0,
    "SOLVER.DAMPENING": 0.0,
    "SOLVER.NESTEROV": True,
    "MODEL.DROPOUT_RATE": 0.0,
    "MVIT.DROPOUT_RATE": 0.0,
    "MVIT.DROPPATH_RATE": 0.0,
    "UNIFORMER.DROPOUT_RATE": 0.0,
    "UNIFORMER.ATTENTION_DROPOUT_RATE": 0.0,
    "UNIFORMER.DROP_DEPTH_RATE": 0.0,
    "SF.DROPOUT_RATE": 0.0,
}
# The loop clips to the case's `clip`, and activation checkpoints change no figure.
UNUSED = ("SOLVER.CLIP_GRADIENT", "SOLVER.CLIP_GRAD_VAL", "MODEL.USE_CHECKPOINT")


def soft_target(labels: list[int], num_classes: int, lam: float, smoothing: float) -> Tensor:
    """float64 `[B, K]`: smoothed labels, lam of each with 1 - lam of those of the reversed batch."""
    smooth = np.full((len(labels), num_classes), smoothing / num_classes)
    smooth[np.arange(len(labels)), labels] += 1 - smoothing
    return torch.from_numpy(lam * smooth + (1 - lam) * smooth[::-1])


def rule_numbers(case: Case, field: str, rule: re.Pattern[str]) -> list[float]:
    """The numbers of a rule that a case tells in words."""
    found = rule.search(case[field])
    if found is None:
        raise Refusal(f"{field} {case[field]!r}, expected {rule.pattern!r}")
    return [float(number) for number in found.groups()]


def batch_clip(case: Case, shape: list[int], k: int) -> Tensor:
    """Batch k."""
    (step,) = rule_numbers(case, "batches", BATCH_RULE)
    return clip_formula(tuple(shape), offset=int(step) * k)


def filled_model(case: Case) -> nn.Module:
    """The case's model with filled weights, in training mode, without dropout."""
    check_fill(case)
    if case["dtype"] != "float64":
        raise Refusal(f"dtype {case['dtype']!r}, expected 'float64'")
    config = case["resolved_config"]
    family = family_of(config)
    if case.get("family", family) != family:
        raise Refusal(f"family {case['family']!r}, but resolved_config is of {family!r}")
    return fill_state_dict(build_family(family, config, dropout=False)).train()


def read_solver(case: Case) -> CfgNode:
    """Our configuration of the case's solver, which overrules that of the resolved one."""
    cfg = get_cfg()
    resolved = case["resolved_config"].get("SOLVER", {})
    values = {f"SOLVER.{name}": value for name, value in resolved.items()} | dict(case["solver"])
    for key, value in values.items():
        section, name = key.split(".", 1)
        if key in FIXED:
            if value != FIXED[key]:
                raise Refusal(f"solver: {key} is {value!r}, expected {FIXED[key]!r}")
        elif section in OURS and name in cfg[section]:
            # Whole numbers of a file are rates here, too.
            is_rate = isinstance(cfg[section][name], float)
            cfg[section][name] = float(value) if is_rate else value
        elif key not in UNUSED:
            raise Refusal(f"solver: unknown field {key}")
    return cfg


def _run_adamw(case: Case) -> Iterator[Check]:
    model, cfg = filled_model(case), read_solver(case)
    optimizer, schedule = build_optimizer(cfg, model), build_schedule(cfg)
    found = [(group["weight_decay"], len(group["params"])) for group in optimizer.param_groups]
    expected = [(group["weight_decay"], group["num_tensors"]) for group in case["param_groups"]]
    yield exact("parameter groups", found, expected)
    per_step, first = rule_numbers(case, "step_rule", EPOCH_RULE)
    for step in case["steps"]:
        lr = schedule((step["k"] * per_step + first) / cfg.SOLVER.MAX_EPOCH)
        yield from _adamw_step(model, optimizer, lr, step, case)
    if "eval_logits_after" in case:
        with torch.no_grad():
            logits = model.eval()(clip_formula(tuple(case["input_shape"])))
        yield relative("logits after the steps", logits, case["eval_logits_after"], 1e-8)


def _adamw_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, lr: float, step: Case, case: Case
) -> Iterator[Check]:
    k = step["k"]
    for group in optimizer.param_groups:
        group["lr"] = lr
    yield relative(f"step {k} lr", lr, step["lr"], 1e-9)
    logits = model(batch_clip(case, case["input_shape"], k))
    # The published training mixes with lambda 0.3 in these cases, and smooths by 0.1.
    lam, smoothing = step.get("lam", 0.3), step.get("label_smoothing", 0.1)
    target = soft_target(step["labels"], logits.shape[1], lam, smoothing)
    loss = soft_cross_entropy(logits, target)
    optimizer.zero_grad()
    loss.backward()
    separate_gradients(model.parameters())
    norm = nn.utils.clip_grad_norm_(model.parameters(), case["clip"] or math.inf)
    optimizer.step()
    yield relative(f"step {k} loss", loss.item(), step["loss"], 1e-9)
    yield relative(f"step {k} gradient norm", norm.item(), step["grad_norm_before_clip"], 1e-9)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    for name, expected in step["param_l2_after"].items():
        yield relative(f"step {k} |{name}|", parameters[name].norm(), expected, 1e-9)
    for name, expected in step["param_first3_after"].items():
        values = parameters[name].flatten()
        yield of_sum(f"step {k} {name}[:3]", values[:3], expected, values.abs().max(), 1e-9)


def _run_precise_bn(case: Case) -> Iterator[Check]:
    model = filled_model(case)
    clips = [batch_clip(case, shape, k) for k, shape in enumerate(case["batch_shapes"])]
    yield exact("BatchNorm layers", len(batchnorm_layers(model)), case["num_bn_layers"])
    # A transformer without BatchNorm stays as it is.
    BatchNormAdapter(allow_no_batchnorm=case["num_bn_layers"] == 0).run(model, clips)
    state = model.state_dict()
    for name, expected in case["stats"].items():
        values = state[name]
        yield relative(f"{name} l2", values.norm(), expected["l2"], 1e-9)
        # A mean of many channels cancels, and a variance of deep layers is large.
        yield of_sum(f"{name} sum", values.sum(), expected["sum"], values.abs().sum(), 1e-9)
        largest = values.abs().max()
        yield of_sum(f"{name} first 4", values[:4], expected["first4"], largest, 1e-9)
    with torch.no_grad():
        logits = model.eval()(clips[0])
    yield relative("logits of batch 0 after", logits, case["eval_logits_batch0_after"], 1e-8)


KINDS = [
    Kind("AdamW steps", has("steps", "solver"), _run_adamw),
    Kind("precise BN", has("num_bn_layers", "batch_shapes"), _run_precise_bn),
]
