"""What a run says while it goes: log lines for people, metrics.jsonl for programs, TensorBoard curves."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import simplejson
import torch

from nightcrawler.adapt.base import AdaptReport
from nightcrawler.utils import distributed
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.logging import JsonLines, get_logger, plain
from nightcrawler.utils.progress import format_seconds

logger = get_logger(__name__)


def write_run_folder(folder: Path, resolved: str, about: Mapping[str, Any]) -> None:
    """Leave in a run's folder what explains it: `resolved.yaml` and `run.json`."""
    for name, text in (
        ("resolved.yaml", resolved),
        ("run.json", simplejson.dumps(plain(about), indent=2) + "\n"),
    ):
        with atomic_write(folder / name, "w") as file:
            file.write(text)


class Lines(JsonLines):
    """JSON lines that a full disk does not stop a run for: what cannot be written is lost, with a warning."""

    def write(self, **fields: Any) -> None:
        """Append one object, wholly or not at all."""
        if self._path is None:
            return
        size = self._path.stat().st_size if self._path.exists() else 0
        try:
            super().write(**fields)
        except OSError as error:
            logger.warning("a line of %s is lost (%s)", self._path, error.strerror or error)
            if self._path.exists():
                os.truncate(self._path, size)


# Operations of a training step over multiply-adds of a forward pass: two each, and a backward pass costs two forward.
FLOPS_OVER_MACS = 2 * 3


class Pace:
    """Clips, waiting time, work and memory since an epoch (or its resumed rest) began.

    Args:
        device: whose memory is measured.
        gmacs: 10^9 multiply-adds of a clip in a forward pass.
    """

    def __init__(self, device: torch.device, gmacs: float) -> None:
        self.device, self.gmacs = device, gmacs
        self.restart()

    def restart(self) -> None:
        """Begin to count."""
        self.started, self.clips, self.steps, self.waited = time.monotonic(), 0, 0, 0.0
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)

    def figures(self) -> dict[str, float]:
        """What went on, by name.

        `clips_per_sec` and `gflop_per_sec` are over all ranks, what is recomputed to save memory not counted; of this
        rank are `sec_per_step`, `data_wait_percent` and, on a GPU, the largest `gpu_memory_gib`.
        """
        seconds = max(time.monotonic() - self.started, 1e-9)
        cuda = self.device.type == "cuda"
        memory = (
            {"gpu_memory_gib": torch.cuda.max_memory_allocated(self.device) / 2**30} if cuda else {}
        )
        clips_per_sec = self.clips * distributed.world_size() / seconds
        return {
            "clips_per_sec": clips_per_sec,
            "gflop_per_sec": clips_per_sec * self.gmacs * FLOPS_OVER_MACS,
            "sec_per_step": seconds / max(self.steps, 1),
            "data_wait_percent": 100 * self.waited / seconds,
            **memory,
        }


def _of(weights: str) -> str:
    return "" if weights == "raw" else f" ({weights})"


class MetricLogger:
    """Writes the run's story; silent on ranks other than the first.

    Args:
        output_dir: the run's folder.
        tensorboard: write event files into `output_dir/tensorboard`.
        stamp: fields that every validation row carries (`labels`: label-free or oracle, seed, ...).
    """

    def __init__(self, output_dir: Path, tensorboard: bool, stamp: Mapping[str, Any]) -> None:
        main = distributed.is_main()
        self.metrics = Lines(output_dir / "metrics.jsonl" if main else None)
        self.stamp = dict(stamp)
        self.writer: Any = None
        if tensorboard and main:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(output_dir / "tensorboard"))

    def _curves(self, values: Mapping[str, float], at: float) -> None:
        """Points of curves; what writes them is not to be had again once it has failed."""
        if self.writer is None:
            return
        try:
            for name, value in values.items():
                self.writer.add_scalar(name, value, global_step=round(at))
        except OSError as error:
            logger.warning("TensorBoard's curves end here (%s)", error.strerror or error)
            self.writer = None

    def train(
        self, epoch: int, max_epoch: int, step: int, num_steps: int, figures: dict[str, Any]
    ) -> None:
        """A line of the training loop; `figures` hold loss, lr, grad_norm, top1 by stream and the pace."""
        left = figures["sec_per_step"] * ((max_epoch - epoch) * num_steps - step)
        top1 = ", ".join(f"{name} {value:.1f} %" for name, value in figures["top1"].items())
        memory = (
            f"GPU memory {figures['gpu_memory_gib']:.1f} GiB, "
            if "gpu_memory_gib" in figures
            else ""
        )
        logger.info(
            f"epoch {epoch + 1}/{max_epoch} step {step}/{num_steps}: loss {figures['loss']:.4f}, top-1 {top1}, "
            f"lr {figures['lr']:.2e}, grad {figures['grad_norm']:.2f}, {figures['clips_per_sec']:.1f} clips/s, "
            f"{figures['gflop_per_sec']:.4g} GFLOP/s, data wait {figures['data_wait_percent']:.0f} %, "
            f"{memory}left {format_seconds(left)}"
        )
        self.metrics.write(kind="train", epoch=epoch + 1, step=step, **figures)
        curves = {
            f"train/{name}": figures[name] for name in ("loss", "lr", "grad_norm", "clips_per_sec")
        }
        self._curves(
            curves | {f"train/top1_{k}": v for k, v in figures["top1"].items()},
            epoch * num_steps + step,
        )

    def adapt(self, epoch: int, report: AdaptReport, weights: str) -> None:
        """What the adapter did to the `raw` or the averaged (`ema`) weights."""
        logger.info("adapt%s: %s", _of(weights), report.summary())
        fields = {"adapter": report.adapter, "num_clips": report.num_clips, "layers": report.layers}
        self.metrics.write(kind="adapt", epoch=epoch, weights=weights, **fields)

    def validation(self, epoch: int, split: str, figures: dict[str, Any], weights: str) -> None:
        """The figures of one validated split, of the `raw` or the averaged (`ema`) weights."""
        self.metrics.write(
            kind="val", epoch=epoch, split=split, weights=weights, **figures, **self.stamp
        )
        if figures["num_videos"] == 0:
            logger.info("val %s: no labels, nothing to count", split)
            return
        bad = f", {figures['num_bad']} unreadable" if figures["num_bad"] else ""
        logger.info(
            f"val {split}{_of(weights)}: top-1 {figures['top1']:.2f} %, top-5 {figures['top5']:.2f} %, mean class "
            f"{figures['mean_class']:.2f} % of {figures['num_videos']} videos{bad} "
            f"(epoch {epoch}, checkpoint choice {self.stamp['labels']})"
        )
        self._curves(
            {
                f"val_{split}{_of(weights)}/{name}": figures[name]
                for name in ("top1", "top5", "mean_class")
            },
            epoch,
        )
