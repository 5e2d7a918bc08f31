"""Metrics of a run: log lines for people, rows and curves for its writers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import simplejson
import torch

from nightcrawler.adapt.base import AdaptReport
from nightcrawler.engine.writers.base import EPOCH, STEP, Record
from nightcrawler.engine.writers.group import WriterGroup
from nightcrawler.utils import distributed
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.logging import get_logger, plain
from nightcrawler.utils.progress import format_seconds

logger = get_logger(__name__)

# Floating-point operations of a training step over multiply-adds of a forward pass: a multiply-add
# is two operations, and the backward pass costs twice the forward pass.
FLOPS_OVER_MACS = 2 * 3


def write_run_folder(folder: Path, resolved: str, run_info: Mapping[str, Any]) -> None:
    """Write `resolved.yaml` and `run.json`, the record of a run, into its folder.

    Args:
        folder: the run's folder.
        resolved: the whole configuration as YAML.
        run_info: plain values: seed, versions, machine, ...
    """
    files = {
        "resolved.yaml": resolved,
        "run.json": simplejson.dumps(plain(run_info), indent=2) + "\n",
    }
    for name, text in files.items():
        with atomic_write(folder / name, "w") as file:
            file.write(text)


class Throughput:
    """Clips, waiting time, work and memory since the start of an epoch (or its resumed rest).

    Args:
        device: device whose memory is measured.
        gmacs: 10^9 multiply-adds of one clip in a forward pass.
    """

    def __init__(self, device: torch.device, gmacs: float) -> None:
        self.device = device
        self.gmacs = gmacs
        self.restart()

    def restart(self) -> None:
        """Reset all counts and start the clock."""
        self.started = time.monotonic()
        self.clips = 0
        self.steps = 0
        self.waited = 0.0
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def figures(self) -> dict[str, float]:
        """Return the figures since the last restart.

        Returns:
            Over all ranks: `clips_per_sec` and `gflop_per_sec` (activation recomputation not
            counted). Of this rank: `sec_per_step`, `data_wait_percent` and, on a GPU, the peak
            `gpu_memory_gib`.
        """
        # At least a nanosecond, so that no figure divides by 0.
        seconds = max(time.monotonic() - self.started, 1e-9)
        clips_per_sec = self.clips * distributed.world_size() / seconds
        figures = {
            "clips_per_sec": clips_per_sec,
            "gflop_per_sec": clips_per_sec * self.gmacs * FLOPS_OVER_MACS,
            "sec_per_step": seconds / max(self.steps, 1),
            "data_wait_percent": 100 * self.waited / seconds,
        }
        if self.device.type == "cuda":
            figures["gpu_memory_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        return figures


def _suffix(weights: str) -> str:
    """Return the mark of averaged weights in log lines, nothing for the raw ones."""
    if weights == "raw":
        return ""
    return f" ({weights})"


def validation_curve(split: str, weights: str, name: str) -> str:
    """Return the name of a curve of a validated split.

    Args:
        split: name of the split.
        weights: validated weights, `raw` or `ema`.
        name: of the figure.
    """
    return f"val_{split}{_suffix(weights)}/{name}"


class MetricLogger:
    """Log metrics as text and to the writers of a run, on rank 0 only.

    Args:
        writers: writers of the run.
        run_fields: fields added to every validation row (`labels`: label-free or oracle, `seed`).

    Example:
        >>> writers = build_group(["tensorboard"], about)
        >>> metric_logger = MetricLogger(writers, {"labels": "label-free", "seed": 0})
        >>> metric_logger.log_validation(1, "val_dark", accuracy(predictions), "raw")
        True
    """

    def __init__(self, writers: WriterGroup, run_fields: Mapping[str, Any]) -> None:
        self.writers = writers
        self.run_fields = dict(run_fields)

    def log_train_step(
        self, epoch: int, max_epoch: int, step: int, num_steps: int, figures: dict[str, Any]
    ) -> None:
        """Log one line of the training loop.

        Args:
            epoch: number of finished epochs.
            max_epoch: number of epochs of the run.
            step: number of finished steps of this epoch.
            num_steps: number of steps of an epoch.
            figures: `loss`, `lr`, `grad_norm`, `top1` (% by stream), `num_skipped` and those of
                `Throughput.figures`.
        """
        left = figures["sec_per_step"] * ((max_epoch - epoch) * num_steps - step)
        top1 = ", ".join(f"{name} {value:.1f} %" for name, value in figures["top1"].items())
        memory = ""
        if "gpu_memory_gib" in figures:
            memory = f"GPU memory {figures['gpu_memory_gib']:.1f} GiB, "
        logger.info(
            f"epoch {epoch + 1}/{max_epoch} step {step}/{num_steps}: loss {figures['loss']:.4f}, "
            f"top-1 {top1}, lr {figures['lr']:.2e}, grad {figures['grad_norm']:.2f}, "
            f"{figures['clips_per_sec']:.1f} clips/s, {figures['gflop_per_sec']:.4g} GFLOP/s, "
            f"data wait {figures['data_wait_percent']:.0f} %, "
            f"{memory}left {format_seconds(left)}"
        )
        curves = {}
        for name in ("loss", "lr", "grad_norm", "clips_per_sec"):
            curves[f"train/{name}"] = figures[name]
        for stream, value in figures["top1"].items():
            curves[f"train/top1_{stream}"] = value
        row = {"kind": "train", "epoch": epoch + 1, "step": step, **figures}
        self.writers.write(Record(row, STEP, epoch * num_steps + step, curves))

    def log_adaptation(self, epoch: int, report: AdaptReport, weights: str) -> None:
        """Log the changes that an adapter made.

        Args:
            epoch: number of finished epochs.
            report: the adapter's report.
            weights: adapted weights, `raw` or `ema` (the moving average).
        """
        logger.info("adapt%s: %s", _suffix(weights), report.summary())
        fields = {"adapter": report.adapter, "num_clips": report.num_clips, "layers": report.layers}
        self.writers.write(Record({"kind": "adapt", "epoch": epoch, "weights": weights, **fields}))

    def log_clean_labels(self, epoch: int, kept: int, total: int) -> None:
        """Log the number of pseudo-labelled clips that training goes on with.

        Args:
            epoch: number of finished epochs.
            kept: number of clips.
            total: number of clips with a pseudo-label.
        """
        logger.info("clean labels: %d of %d clips are trained on from now on", kept, total)
        row = {"kind": "clean_labels", "epoch": epoch, "kept": kept, "total": total}
        self.writers.write(Record(row))

    def log_validation(self, epoch: int, split: str, figures: dict[str, Any], weights: str) -> bool:
        """Log the figures of one validated split.

        Args:
            epoch: number of finished epochs.
            split: name of the split.
            figures: those of `engine.meters.accuracy`.
            weights: validated weights, `raw` or `ema` (the moving average).

        Returns:
            Whether the writers had no such row yet, which a run that was stopped and resumed may
            have written before.
        """
        row = {"kind": "val", "epoch": epoch, "split": split, "weights": weights, **figures}
        row |= self.run_fields
        # A row without figures: curves and percentages of no videos would be misleading.
        if figures["num_videos"] == 0:
            logger.info("val %s: no labels, nothing to count", split)
            return self.writers.write(Record(row))
        bad = ""
        if figures["num_bad"]:
            bad = f", {figures['num_bad']} without a prediction"
        logger.info(
            f"val {split}{_suffix(weights)}: top-1 {figures['top1']:.2f} %, "
            f"top-5 {figures['top5']:.2f} %, "
            f"mean class {figures['mean_class']:.2f} % of {figures['num_videos']} videos{bad} "
            f"(epoch {epoch}, checkpoint choice {self.run_fields['labels']})"
        )
        curves = {}
        for name in ("top1", "top5", "mean_class"):
            curves[validation_curve(split, weights, name)] = figures[name]
        return self.writers.write(Record(row, EPOCH, epoch, curves))

    def log_picture(
        self, epoch: int, split: str, weights: str, name: str, pixels: np.ndarray
    ) -> None:
        """Log a picture of one validated split.

        Args:
            epoch: number of finished epochs.
            split: name of the split.
            weights: validated weights, `raw` or `ema`.
            name: what it shows.
            pixels: uint8 `[H, W, 3]`.
        """
        self.writers.picture(validation_curve(split, weights, name), pixels, epoch)
