"""What a trainer is made of beside its model, as plain values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nightcrawler.data.augment.mixup import MixUp
from nightcrawler.data.build import TrainStream


@dataclass
class StreamLoss:
    """What one stream is trained on.

    Attributes:
        stream: its batches.
        mixup: mixes clips and targets, smooths hard labels.
        loss: (logits `[B, K]`, target `[B, K]`) to a scalar.
        soft: targets are the stream's probabilities instead of its labels.
        weight: of the loss, once it has grown to that.
        ramp_epochs: epochs over which it grows linearly from 0.
    """

    stream: TrainStream
    mixup: MixUp
    loss: Callable[[Tensor, Tensor], Tensor]
    soft: bool = False
    weight: float = 1.0
    ramp_epochs: float = 0.0

    def weight_at(self, epoch: float) -> float:
        """Weight of the loss after so many epochs, fractions too."""
        return self.weight * min(epoch / self.ramp_epochs, 1.0) if self.ramp_epochs else self.weight


@dataclass
class TrainerConfig:
    """How a trainer goes about it, as plain values.

    Attributes:
        output_dir: the run's folder.
        device: where to compute.
        seed: seed of mixing, dropout and drop-path.
        max_epoch, eval_period, log_period: epochs, epochs between validations, steps between log lines.
        lr: share of training done, in [0, 1], to learning rate.
        best_split: the split whose top-1 picks `best.pyth`.
        num_classes: K.
        precision: autocast dtype, `None` for float32.
        clip_grad: largest gradient norm, 0 for none.
        joint_step: one optimiser step on all streams' losses, instead of one for each.
        non_finite: `skip` or `raise`.
        channels_last: memory format of clips.
        max_bad_fraction: share of unusable videos that ends the run.
        keep_last: checkpoints kept of the latest states.
        max_failed_saves: saves in a row that may fail.
        ema_decay: of the moving average of weights, 0 for none.
        gmacs: 10^9 multiply-adds of a clip in a forward pass.
        stamp: plain values saved in every checkpoint (config, class names, versions, ...).
    """

    output_dir: Path
    device: torch.device
    seed: int
    max_epoch: int
    eval_period: int
    log_period: int
    lr: Callable[[float], float]
    best_split: str
    num_classes: int
    precision: torch.dtype | None
    clip_grad: float
    joint_step: bool
    non_finite: str
    channels_last: bool
    max_bad_fraction: float
    keep_last: int
    max_failed_saves: int
    ema_decay: float
    gmacs: float
    stamp: dict[str, Any]
