"""Cases of the training loop: schedule, targets, losses and meters."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from nightcrawler.data.augment.mixup import cutmix_box, mix_reversed, mixup_target
from nightcrawler.data.build_items import confidence_threshold
from nightcrawler.engine.evaluator import average_clips
from nightcrawler.engine.losses import distillation_published, soft_cross_entropy
from nightcrawler.engine.meters import mixed_topk_correct, topk_correct
from nightcrawler.engine.optim import cosine_with_warmup
from tests.golden.case import Check, Kind, absolute, cases_have, exact, has, of_sum, relative
from tests.golden.fields import Refusal
from tests.golden.fill import scramble, wave

SCORES_RULE = re.compile(r"= ([\d.]+)\*sin\(0\.37\*q\(i\)\+phase\)([+-][\d.]+)")
# What a case of targets and losses may hold, each a list.
PARTS = (
    "mixup_target",
    "mixup_batch",
    "cutmix_bbox",
    "losses",
    "cal_threshold",
    "mixup_accuracy",
)


def _run_schedule(case: Mapping[str, Any]) -> Iterator[Check]:
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


def _run_targets(case: Mapping[str, Any]) -> Iterator[Check]:
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
        # The reference squeezes: of a single row both are plain numbers.
        yield exact("top labels", top.indices.tolist(), np.ravel(one["top_label"]).tolist())
        yield absolute("top probabilities", top.values, np.ravel(one["top_prob"]), 1e-6)
        got = confidence_threshold(top.values.double().numpy(), one["THRESHOLD"])
        # The reference's standard deviation of a single row is not a number, and no row is above
        # that. Ours keeps the row, by the threshold that keeps all.
        expected = -1.0 if one["threshold"] is None and one["N"] < 2 else one["threshold"]
        yield absolute(f"confidence threshold {one['THRESHOLD']}", got, expected, 1e-6)
    for one in case.get("mixup_accuracy", []):
        yield from _check_mixed_accuracy(one)


def _check_mixed(one: Mapping[str, Any]) -> Iterator[Check]:
    clip = torch.from_numpy(wave(tuple(one["shape"])))
    mixed = mix_reversed(clip, one["lam"]).flatten()
    weighted = mixed * torch.cos(0.01 * torch.arange(mixed.numel(), dtype=torch.float64))
    magnitude = weighted.abs().sum()
    yield of_sum("mixed clip, sum", weighted.sum(), one["mixed_wsum"], magnitude, 1e-12)
    yield absolute("mixed clip, first 8", mixed[:8], one["mixed_first8"], 1e-9)
    yield absolute("mixed clip, last 8", mixed[-8:], one["mixed_last8"], 1e-9)
    if "target_float32" in one:
        num_classes = len(one["target_float32"][0])
        smoothing = one.get("smoothing", 0.1)
        target = mixup_target(
            torch.tensor(one["labels"]), num_classes, lam=one["lam"], smoothing=smoothing
        )
        yield absolute("mixed target", target, one["target_float32"], 1e-6)


def _check_losses(one: Mapping[str, Any]) -> Iterator[Check]:
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


def _check_mixed_accuracy(one: Mapping[str, Any]) -> Iterator[Check]:
    logits = torch.from_numpy(phased(one["N"], one["C"], one["phase"])).float()
    target = mixup_target(
        torch.tensor(one["labels"]), one["C"], lam=one["lam"], smoothing=one.get("smoothing", 0.1)
    )
    counts = mixed_topk_correct(logits, target, [1, 5]).tolist()
    yield exact("mixed top-1 and top-5", counts, [int(one["num_top1"]), int(one["num_top5"])])


def _run_meter(case: Mapping[str, Any]) -> Iterator[Check]:
    """The reference adds clips (we average), or takes a maximum that starts from zero (ours does not)."""
    for one in case["cases"]:
        method, classes = one["method"], one["num_classes"]
        amplitude, shift = _score_formula(one["clip_preds"])
        num_clips = one["num_videos"] * one["num_clips"]
        scores = phased(num_clips, classes, one["phase"], amplitude) + shift
        scores = scores.astype(np.float32).astype(np.float64)
        # Clips come in any order, and some may be missing.
        clips: list[list[int]] = [[] for _ in range(one["num_videos"])]
        for clip in one["clip_order"]:
            clips[clip // one["num_clips"]].append(clip)
        joined = torch.tensor([_joined(scores[numbers], method) for numbers in clips])
        yield of_sum(f"{method} of clips", joined, one["video_preds"], joined.abs().max(), 1e-6)
        yield exact(f"{method} clips seen", [len(numbers) for numbers in clips], one["clip_count"])
        yield exact(f"{method} labels", one["labels"], one["video_labels"])
        counts = topk_correct(joined.float(), torch.tensor(one["labels"]), [1, 5]).tolist()
        for k, count in zip((1, 5), counts, strict=True):
            told = f"{100 * count / one['num_videos']:.2f}"
            yield exact(f"{method} top-{k}", told, one["stats"][f"top{k}_acc"])


def _score_formula(text: str) -> tuple[float, float]:
    """Amplitude and shift of the scores, which a case tells in words."""
    found = SCORES_RULE.search(text)
    if found is None:
        raise Refusal(f"clip_preds {text!r}, expected {SCORES_RULE.pattern!r}")
    return float(found[1]), float(found[2])


def _joined(clips: np.ndarray, method: str) -> list[float]:
    """A video's scores `[K]` as the reference joins those of its clips `[M, K]`."""
    if method not in ("sum", "max"):
        raise Refusal(f"method {method!r}, expected 'sum' or 'max'")
    if len(clips) == 0:
        return [0.0] * clips.shape[1]
    if method == "sum":
        return list(len(clips) * average_clips(clips, "mean")[0])
    return list(np.maximum(average_clips(clips, "max")[0], 0.0))


KINDS = [
    Kind("learning rate", has("schedules"), _run_schedule),
    Kind("targets and losses", has(*PARTS), _run_targets),
    Kind("test meter", cases_have("num_clips", "video_preds"), _run_meter),
]
