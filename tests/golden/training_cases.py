"""Cases of the training loop: schedule, targets, losses, meters, optimiser steps, BatchNorm statistics."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from nightcrawler.adapt.batchnorm import BatchNormAdapter, batchnorm_layers
from nightcrawler.data.augment.mixup import cutmix_box, mix_reversed, mixup_target
from nightcrawler.data.build_items import confidence_threshold
from nightcrawler.engine.evaluator import average_clips
from nightcrawler.engine.losses import distillation_published, soft_cross_entropy
from nightcrawler.engine.meters import mixed_topk_correct
from nightcrawler.engine.optim import cosine_with_warmup, param_groups
from tests.golden.case import Check, Kind, absolute, exact, relative
from tests.golden.families import build_family
from tests.golden.fill import clip_formula, fill_state_dict, scramble, wave


def _run_schedule(case: dict[str, Any]) -> Iterator[Check]:
    for schedule in case["schedules"]:
        lr = cosine_with_warmup(
            schedule["base_lr"],
            schedule["cosine_end_lr"],
            schedule["warmup_start_lr"],
            schedule["warmup_epochs"],
            schedule["max_epoch"],
            schedule["cosine_after_warmup"],
        )
        for epoch, expected in schedule["lr"]:
            yield relative(
                f"{schedule['name']} epoch {epoch}",
                lr(epoch / schedule["max_epoch"]),
                expected,
                1e-9,
            )


def phased(rows: int, columns: int, phase: float, amplitude: float = 2.5) -> np.ndarray:
    """float64 `[rows, columns]` of amplitude * sin(0.37 q(i) + phase)."""
    return amplitude * np.sin(0.37 * scramble(np.arange(rows * columns)) + phase).reshape(
        rows, columns
    )


def _run_targets(case: dict[str, Any]) -> Iterator[Check]:
    for one in case.get("mixup_target", []):
        target = mixup_target(
            torch.tensor(one["labels"]),
            one["num_classes"],
            lam=one["lam"],
            smoothing=one["smoothing"],
        )
        yield absolute(f"mixup target {one['lam']}", target, one["target_float32"], 1e-6)
    for one in case.get("mixup_batch", []):
        yield from _check_mixed(one)
    for one in case.get("cutmix_bbox", []):
        box, lam = cutmix_box(one["H"], one["W"], one["lam"], centre=tuple(one["centre_yx"]))
        yield exact(f"cutmix box {one['centre_yx']}", list(box), one["bbox_yl_yh_xl_xh"])
        yield absolute(f"cutmix lam {one['centre_yx']}", lam, one["corrected_lam"], 1e-12)
    for one in case.get("losses", []):
        yield from _check_losses(one)
    for one in case.get("cal_threshold", []):
        probs = torch.from_numpy(phased(one["N"], one["C"], one["phase"])).float().softmax(dim=1)
        top = probs.max(dim=1)
        yield exact("top labels", top.indices.tolist(), one["top_label"])
        got = confidence_threshold(top.values.double().numpy(), one["THRESHOLD"])
        yield absolute(f"confidence threshold {one['THRESHOLD']}", got, one["threshold"], 1e-6)
    for one in case.get("mixup_accuracy", []):
        yield from _check_mixed_accuracy(one)


def _check_mixed(one: dict[str, Any]) -> Iterator[Check]:
    clip = torch.from_numpy(wave(tuple(one["shape"])))
    mixed = mix_reversed(clip, one["lam"]).flatten()
    weights = torch.cos(0.01 * torch.arange(mixed.numel(), dtype=torch.float64))
    yield absolute("mixed clip, weighted sum", (mixed * weights).sum(), one["mixed_wsum"], 1e-8)
    yield absolute("mixed clip, first 8", mixed[:8], one["mixed_first8"], 1e-9)
    yield absolute("mixed clip, last 8", mixed[-8:], one["mixed_last8"], 1e-9)
    if "target_float32" in one:
        num_classes = len(one["target_float32"][0])
        smoothing = one.get("smoothing", 0.1)
        target = mixup_target(
            torch.tensor(one["labels"]), num_classes, lam=one["lam"], smoothing=smoothing
        )
        yield absolute("mixed target", target, one["target_float32"], 1e-6)


def _check_losses(one: dict[str, Any]) -> Iterator[Check]:
    logits = torch.from_numpy(phased(one["N"], one["C"], one["phase_logits"])).float()
    teacher = torch.from_numpy(1.3 * phased(one["N"], one["C"], one["phase_teacher"])).softmax(
        dim=1
    )
    name = f"T={one['T']}"
    exact_kl = distillation_published(logits.double(), teacher, one["T"], torch.float64)
    yield relative(f"{name} kl float64", exact_kl, one["kl_loss_float64_no_fp16"], 1e-6)
    halved = distillation_published(logits, teacher, one["T"])
    yield relative(f"{name} kl, fp16 teacher", halved, one["kl_loss_reference_fp16_teacher"], 1e-6)
    yield relative(
        f"{name} soft ce", soft_cross_entropy(logits, teacher.float()), one["soft_ce_mean"], 1e-6
    )
    rows = [
        soft_cross_entropy(logits[i : i + 1], teacher[i : i + 1].float()) for i in range(one["N"])
    ]
    yield relative(f"{name} soft ce of rows", torch.stack(rows), one["soft_ce_none"], 1e-6)


def _check_mixed_accuracy(one: dict[str, Any]) -> Iterator[Check]:
    logits = torch.from_numpy(phased(one["N"], one["C"], one["phase"])).float()
    target = mixup_target(
        torch.tensor(one["labels"]), one["C"], lam=one["lam"], smoothing=one.get("smoothing", 0.1)
    )
    counts = mixed_topk_correct(logits, target, [1, 5]).tolist()
    yield exact("mixed top-1 and top-5", counts, [int(one["num_top1"]), int(one["num_top5"])])


def _run_meter(case: dict[str, Any]) -> Iterator[Check]:
    """The reference adds clips (we average), or takes a maximum that starts from zero (ours does not)."""
    for one in case["cases"]:
        clips, classes = one["num_clips"], one["num_classes"]
        scores = phased(one["num_videos"] * clips, classes, one["phase"], 2.0) - 0.6
        scores = (
            scores.astype(np.float32).astype(np.float64).reshape(one["num_videos"], clips, classes)
        )
        if one["method"] == "sum":
            joined = np.stack([clips * average_clips(video, "mean")[0] for video in scores])
        else:
            joined = np.stack([np.maximum(average_clips(video, "max")[0], 0.0) for video in scores])
        yield absolute(f"{one['method']} of clips", joined, one["video_preds"], 1e-5)
        hit = 100 * np.mean(
            np.asarray(one["video_preds"]).argmax(axis=1) == np.asarray(one["labels"])
        )
        yield absolute(f"{one['method']} top-1", hit, float(one["stats"]["top1_acc"]), 5e-3)


def _run_adamw(case: dict[str, Any]) -> Iterator[Check]:
    model = fill_state_dict(build_family("uniformer", case["resolved_config"])).train()
    solver = {key.removeprefix("SOLVER."): value for key, value in case["solver"].items()}
    expected_groups = case["param_groups"]
    groups = param_groups(model, solver["WEIGHT_DECAY"], 0.0, zero_wd_1d=True)
    found = [
        {"weight_decay": group["weight_decay"], "num_tensors": len(group["params"])}
        for group in groups
    ]
    yield exact(
        "parameter groups",
        found,
        [{k: g[k] for k in ("weight_decay", "num_tensors")} for g in expected_groups],
    )
    optimizer = torch.optim.AdamW(groups, lr=solver["BASE_LR"], betas=(0.9, 0.999), eps=1e-8)
    schedule = cosine_with_warmup(
        solver["BASE_LR"], 1e-6, 1e-6, solver["WARMUP_EPOCHS"], solver["MAX_EPOCH"]
    )
    for step in case["steps"]:
        yield from _adamw_step(
            model, optimizer, schedule((step["k"] * 0.25 + 9) / solver["MAX_EPOCH"]), step, case
        )
    if "eval_logits_after" in case:
        with torch.no_grad():
            logits = model.eval()(clip_formula(tuple(case["input_shape"])))
        yield relative("logits after the steps", logits, case["eval_logits_after"], 1e-7)


def _adamw_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    lr: float,
    step: dict[str, Any],
    case: dict[str, Any],
) -> Iterator[Check]:
    k = step["k"]
    for group in optimizer.param_groups:
        group["lr"] = lr
    yield relative(f"step {k} lr", lr, step["lr"], 1e-9)
    logits = model(clip_formula(tuple(case["input_shape"]), offset=1000 * k))
    target = mixup_target(torch.tensor(step["labels"]), logits.shape[1], lam=0.3, smoothing=0.1)
    loss = soft_cross_entropy(logits, target.double())
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), case["clip"])
    optimizer.step()
    yield relative(f"step {k} loss", loss.item(), step["loss"], 1e-7)
    yield relative(f"step {k} gradient norm", norm.item(), step["grad_norm_before_clip"], 1e-7)
    parameters = dict(model.named_parameters())
    for name, expected in step["param_l2_after"].items():
        yield relative(f"step {k} |{name}|", parameters[name].detach().norm(), expected, 1e-8)
    for name, expected in step["param_first3_after"].items():
        yield absolute(
            f"step {k} {name}[:3]", parameters[name].detach().flatten()[:3], expected, 1e-8
        )


def _run_precise_bn(case: dict[str, Any]) -> Iterator[Check]:
    model = fill_state_dict(build_family("uniformer", case["resolved_config"])).train()
    clips = [
        clip_formula(tuple(shape), offset=1000 * k) for k, shape in enumerate(case["batch_shapes"])
    ]
    yield exact("BatchNorm layers", len(batchnorm_layers(model)), case["num_bn_layers"])
    BatchNormAdapter().run(model, clips)
    state = model.state_dict()
    for name, expected in case["stats"].items():
        yield relative(f"{name} l2", state[name].norm(), expected["l2"], 1e-9)
        yield absolute(f"{name} sum", state[name].sum(), expected["sum"], 1e-8)
        yield absolute(f"{name} first 4", state[name][:4], expected["first4"], 1e-9)
    with torch.no_grad():
        logits = model.eval()(clips[0])
    yield relative("logits of batch 0 after", logits, case["eval_logits_batch0_after"], 1e-8)


KINDS = [
    Kind("learning rate", lambda stem, case: "schedules" in case, _run_schedule),
    Kind(
        "targets and losses",
        lambda stem, case: "mixup_target" in case or "losses" in case,
        _run_targets,
    ),
    Kind("test meter", lambda stem, case: "cases" in case and "test_meter" in stem, _run_meter),
    Kind("AdamW steps", lambda stem, case: "steps" in case and "solver" in case, _run_adamw),
    Kind("precise BN", lambda stem, case: "num_bn_layers" in case, _run_precise_bn),
]
