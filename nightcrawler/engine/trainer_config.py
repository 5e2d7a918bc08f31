"""Settings of a trainer, as plain values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nightcrawler.data.augment.mixup import MixUp
from nightcrawler.data.build import TrainStream
from nightcrawler.engine.losses import Loss


@dataclass
class StreamLoss:
    """One stream of training batches and the loss it is trained with.

    Attributes:
        stream: the batches.
        mixup: mixes clips and targets, smooths hard labels.
        loss: logits `[B, K]` and target `[B, K]` to a scalar.
        soft: take the stream's probabilities as targets, instead of its labels.
        weight: final weight of the loss.
        ramp_epochs: epochs over which the weight grows linearly from 0, none if 0.
    """

    stream: TrainStream
    mixup: MixUp
    loss: Loss
    soft: bool = False
    weight: float = 1.0
    ramp_epochs: float = 0.0

    def weight_at(self, epoch: float) -> float:
        """Return the weight of the loss.

        Args:
            epoch: number of finished epochs, may be fractional.
        """
        if not self.ramp_epochs:
            return self.weight
        return self.weight * min(epoch / self.ramp_epochs, 1.0)


@dataclass
class TrainerConfig:
    """Settings of a training run.

    Attributes:
        output_dir: the run's folder.
        device: device of the model.
        seed: seed of mixup, dropout and drop path.
        max_epoch: number of epochs.
        eval_period: epochs between validations.
        log_period: steps between log lines.
        lr: learning rate as a function of the elapsed part of training, in [0, 1].
        best_split: split whose top-1 accuracy picks `best.pyth`.
        num_classes: K.
        precision: autocast dtype, `None` for float32.
        clip_grad: largest gradient norm, 0 for no clipping.
        joint_step: one optimiser step on the sum of all streams' losses, instead of one per stream.
        non_finite: `skip` steps that are not finite, or `raise` an error.
        channels_last: use the channels-last memory format for clips.
        max_bad_fraction: part of unusable videos, in [0, 1], above which the run ends.
        keep_last: number of latest checkpoints to keep.
        max_failed_saves: number of failed saves in a row that ends the run.
        ema_decay: decay of the moving average of the weights, 0 for none.
        early_stop: epochs without a better validation that end training, 0 for none.
        gmacs: 10^9 multiply-adds of one clip in a forward pass.
        run_metadata: plain values saved in every checkpoint (config, class names, versions, ...).
        user_names: attribute to the name under which users set it, for messages.
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
    early_stop: int
    gmacs: float
    run_metadata: dict[str, Any]
    user_names: Mapping[str, str] = field(default_factory=dict)

    def user_name(self, attribute: str) -> str:
        """Return the name of a setting for messages: the config key, where it came from one.

        Args:
            attribute: name of the attribute.
        """
        return self.user_names.get(attribute, attribute)

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format of clips `[B, 3, T, H, W]`."""
        if self.channels_last:
            return torch.channels_last_3d
        return torch.contiguous_format
