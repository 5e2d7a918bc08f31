"""Metrics of a run: log lines for people, metrics.jsonl for programs, TensorBoard curves."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import simplejson
import torch

from nightcrawler.adapt.base import AdaptReport
from nightcrawler.utils import distributed
from nightcrawler.utils.io import atomic_write, open_own
from nightcrawler.utils.logging import JsonLines, get_logger, plain
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


class TolerantJsonLines(JsonLines):
    """JSON lines file whose lines are dropped, with a warning, while the disk is full."""

    def _open(self, path: Path) -> IO[str]:
        """Open the file for one line, if it is no link to another file."""
        return open_own(path)

    def write(self, **fields: Any) -> None:
        """Append one object as a whole line, or nothing.

        Args:
            **fields: content of the object.
        """
        if self._path is None:
            return
        size = 0
        if self._path.exists():
            size = self._path.stat().st_size
        try:
            super().write(**fields)
        except OSError as error:
            logger.warning("a line of %s is lost (%s)", self._path, error.strerror or error)
            # A part of the line may be there: the next one would be appended to it.
            if self._path.exists():
                os.truncate(self._path, size)


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


class MetricLogger:
    """Log metrics as text, metrics.jsonl and TensorBoard, on rank 0 only.

    Args:
        output_dir: the run's folder.
        tensorboard: write event files into `output_dir/tensorboard`.
        run_fields: fields added to every validation row (`labels`: label-free or oracle, `seed`).

    Example:
        >>> metric_logger = MetricLogger(Path("run"), True, {"labels": "label-free", "seed": 0})
        >>> metric_logger.log_validation(1, "val_dark", accuracy(predictions), "raw")
    """

    def __init__(self, output_dir: Path, tensorboard: bool, run_fields: Mapping[str, Any]) -> None:
        path = None
        if distributed.is_main():
            path = output_dir / "metrics.jsonl"
        self.metrics = TolerantJsonLines(path)
        self.run_fields = dict(run_fields)
        self.writer: Any = None
        if tensorboard and distributed.is_main():
            # Imported here: TensorBoard takes seconds to load and may be switched off.
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(output_dir / "tensorboard"))

    def _add_curves(self, values: Mapping[str, float], step: float) -> None:
        """Add points to curves until the first failure: the writer cannot recover."""
        if self.writer is None:
            return
        try:
            for name, value in values.items():
                self.writer.add_scalar(name, value, global_step=round(step))
        except OSError as error:
            logger.warning("TensorBoard's curves end here (%s)", error.strerror or error)
            self.writer = None

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
        self.metrics.write(kind="train", epoch=epoch + 1, step=step, **figures)
        curves = {}
        for name in ("loss", "lr", "grad_norm", "clips_per_sec"):
            curves[f"train/{name}"] = figures[name]
        for stream, value in figures["top1"].items():
            curves[f"train/top1_{stream}"] = value
        self._add_curves(curves, epoch * num_steps + step)

    def log_adaptation(self, epoch: int, report: AdaptReport, weights: str) -> None:
        """Log the changes that an adapter made.

        Args:
            epoch: number of finished epochs.
            report: the adapter's report.
            weights: adapted weights, `raw` or `ema` (the moving average).
        """
        logger.info("adapt%s: %s", _suffix(weights), report.summary())
        fields = {"adapter": report.adapter, "num_clips": report.num_clips, "layers": report.layers}
        self.metrics.write(kind="adapt", epoch=epoch, weights=weights, **fields)

    def log_clean_labels(self, epoch: int, kept: int, total: int) -> None:
        """Log the number of pseudo-labelled clips that training goes on with.

        Args:
            epoch: number of finished epochs.
            kept: number of clips.
            total: number of clips with a pseudo-label.
        """
        logger.info("clean labels: %d of %d clips are trained on from now on", kept, total)
        self.metrics.write(kind="clean_labels", epoch=epoch, kept=kept, total=total)

    def log_validation(self, epoch: int, split: str, figures: dict[str, Any], weights: str) -> None:
        """Log the figures of one validated split.

        Args:
            epoch: number of finished epochs.
            split: name of the split.
            figures: those of `engine.meters.accuracy`.
            weights: validated weights, `raw` or `ema` (the moving average).
        """
        self.metrics.write(
            kind="val", epoch=epoch, split=split, weights=weights, **figures, **self.run_fields
        )
        # A row without figures: curves and percentages of no videos would be misleading.
        if figures["num_videos"] == 0:
            logger.info("val %s: no labels, nothing to count", split)
            return
        bad = ""
        if figures["num_bad"]:
            bad = f", {figures['num_bad']} unreadable"
        suffix = _suffix(weights)
        logger.info(
            f"val {split}{suffix}: top-1 {figures['top1']:.2f} %, top-5 {figures['top5']:.2f} %, "
            f"mean class {figures['mean_class']:.2f} % of {figures['num_videos']} videos{bad} "
            f"(epoch {epoch}, checkpoint choice {self.run_fields['labels']})"
        )
        curves = {}
        for name in ("top1", "top5", "mean_class"):
            curves[f"val_{split}{suffix}/{name}"] = figures[name]
        self._add_curves(curves, epoch)
