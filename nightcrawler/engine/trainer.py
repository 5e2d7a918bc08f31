"""The trainer: {streams} x {adapter}.

Plain training is one stream; "adapt BN" is one stream and the BatchNorm adapter; a pseudo-label stage is two streams
and the adapter. One optimiser step sees `TRAIN.BATCH_SIZE` videos of a stream, cut into micro-batches that are mixed,
normalised and back-propagated together, each with its own seed: the numbers do not depend on how many ranks share them.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nightcrawler.adapt.base import Adapter, Clips
from nightcrawler.data.build import EvalSet, TrainStream
from nightcrawler.data.mixup import MixUp
from nightcrawler.engine import checkpoint
from nightcrawler.engine.bad_videos import BadVideoLedger
from nightcrawler.engine.evaluator import Evaluator
from nightcrawler.engine.journal import Journal, Pace
from nightcrawler.engine.meters import EpochMeter, accuracy, mixed_topk_correct
from nightcrawler.engine.running_stats import RunningStatistics
from nightcrawler.engine.signals import StopSignals
from nightcrawler.utils import distributed
from nightcrawler.utils.env import derived_seed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

MAX_SKIPS_IN_A_ROW = 20
# Ranks agree on buffers by `RunningStatistics`; torch 2.15 renamed the option.
_DDP_OPTIONS = inspect.signature(DistributedDataParallel).parameters
BUFFER_OPTION = "forward_sync_buffers" if "forward_sync_buffers" in _DDP_OPTIONS else "broadcast_buffers"
DONE, PREEMPTED = "DONE", "PREEMPTED"


class Preempted(Exception):
    """The run was asked to stop, saved its state and can go on from there."""


@dataclass
class Objective:
    """What one stream is trained on.

    Attributes:
        stream: its batches.
        mixup: mixes clips and targets, smooths hard labels.
        loss: (logits `[B, K]`, target `[B, K]`) to a scalar.
        soft: targets are the stream's probabilities instead of its labels.
        weight: of the loss.
    """

    stream: TrainStream
    mixup: MixUp
    loss: Callable[[Tensor, Tensor], Tensor]
    soft: bool = False
    weight: float = 1.0


@dataclass
class Settings:
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
    stamp: dict[str, Any]


AdaptClips = Callable[[int, BadVideoLedger], Iterator[Tensor]]


class Trainer:
    """Trains a model, adapts it after each epoch, validates it and keeps the latest and the best checkpoint.

    Args:
        model: clips `[B, 3, T, H, W]` to logits `[B, K]`, on `settings.device`.
        optimizer: over the model's parameters.
        objectives: one or two streams with their losses; their epochs have the same number of steps.
        adapter: what is re-estimated before validation.
        adapt_clips: epoch and ledger to this rank's unlabelled clips, float32 `[B, 3, T, h, w]` on the device.
        eval_sets: splits to validate.
        evaluator: runs validation.
        journal: writes down what happens.
        settings: see there.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        objectives: Sequence[Objective],
        adapter: Adapter,
        adapt_clips: AdaptClips,
        eval_sets: Sequence[EvalSet],
        evaluator: Evaluator,
        journal: Journal,
        settings: Settings,
    ) -> None:
        self.model, self.optimizer, self.settings = model, optimizer, settings
        self.objectives, self.adapter, self.adapt_clips = list(objectives), adapter, adapt_clips
        self.eval_sets, self.evaluator, self.journal = list(eval_sets), evaluator, journal
        self.scaler = torch.amp.GradScaler(settings.device.type, enabled=settings.precision == torch.float16)
        self.wrapped = self._wrap(model)
        self.epoch, self.step, self.num_skipped = 0, 0, 0
        self.best: dict[str, Any] = {"top1": -math.inf, "epoch": -1, "split": settings.best_split}
        self.meter, self.pace, self.stop = EpochMeter(), Pace(), StopSignals()
        self.bad = BadVideoLedger(settings.output_dir / "bad.csv", settings.max_bad_fraction)
        self._skips_in_a_row = 0

    def _wrap(self, model: nn.Module) -> nn.Module:
        if distributed.world_size() == 1:
            return model
        return DistributedDataParallel(
            model,
            device_ids=[self.settings.device.index] if self.settings.device.type == "cuda" else None,
            find_unused_parameters=bool(getattr(model, "has_unused_parameters", False)),
            gradient_as_bucket_view=True,
            **{BUFFER_OPTION: False},
        )

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        return self.objectives[0].stream.sampler.num_steps

    def fit(self) -> dict[str, Any]:
        """Train to the end; returns the best validation (`top1` in %, `epoch`, `split`).

        Raises:
            Preempted: after a stop signal, once the state is saved.
            UserError: if too many videos cannot be used, or steps are not finite.
        """
        self._mark(remove=(DONE, PREEMPTED))
        with self.stop.listening():
            while self.epoch < self.settings.max_epoch:
                self._train_epoch()
                self._finish_epoch()
        self._mark(DONE, f"epoch {self.epoch}, best {self.best}")
        return self.best

    def _train_epoch(self) -> None:
        self.model.train()
        self.pace.restart()
        iterators = []
        for objective in self.objectives:
            objective.stream.sampler.set_position(self.epoch, self.step)
            iterators.append(iter(objective.stream.loader))
        everything = list(range(len(self.objectives)))
        for step in range(self.step, self.num_steps):
            lr = self._set_lr(self.epoch + step / self.num_steps)
            for numbers in [everything] if self.settings.joint_step else [[number] for number in everything]:
                norm = self._optimize(step, numbers, iterators)
            self.step, self.pace.steps = step + 1, self.pace.steps + 1
            if self.step % self.settings.log_period == 0 or self.step == self.num_steps:
                self._log(lr, norm)
            if self.stop.requested_anywhere(self.settings.device):
                self._preempt()

    def _finish_epoch(self) -> None:
        """Adapt and validate where it is due, then save."""
        self.epoch, self.step = self.epoch + 1, 0
        if self.epoch == self.settings.max_epoch or self.epoch % self.settings.eval_period == 0:
            with self._weights_kept():
                self.adapt()
                top1 = self.validate().get(self.settings.best_split, {}).get("top1", math.nan)
                if top1 > self.best["top1"]:
                    self.best = {"top1": top1, "epoch": self.epoch, "split": self.settings.best_split}
                    self._save(checkpoint.save_checkpoint, self.settings.output_dir / checkpoint.BEST)
        self.meter.reset()
        self._save(checkpoint.save_latest, self.settings.output_dir)

    @contextlib.contextmanager
    def _weights_kept(self) -> Iterator[None]:
        """Training goes on from the weights that an adapter found, where it changes them."""
        parameters = list(self.model.parameters()) if self.adapter.changes_weights else []
        kept = [parameter.detach().clone() for parameter in parameters]
        yield
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)

    # One optimiser step

    def _optimize(self, step: int, numbers: list[int], iterators: list[Iterator[Any]]) -> float:
        """Back-propagate a step's micro-batches of the given streams, update once; returns the gradient norm."""
        statistics, counted, losses = RunningStatistics(self.model), EpochMeter(), []
        self.optimizer.zero_grad(set_to_none=True)
        for number in numbers:
            objective = self.objectives[number]
            count = objective.stream.sampler.micro_batches_per_step
            for k in range(count):
                batch = self._next(iterators[number], objective.stream)
                with self._synchronised(last=number == numbers[-1] and k == count - 1):
                    losses.append(self._backward(objective, batch, counted, (step, number, k)) / count)
                statistics.collect()
        return self._update(torch.stack(losses).sum(), counted, statistics)

    def _next(self, iterator: Iterator[Any], stream: TrainStream) -> dict[str, Any]:
        waiting = time.monotonic()
        try:
            batch = next(iterator)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"stream '{stream.name}': loading a batch failed: {reason}") from error
        self.pace.waited += time.monotonic() - waiting
        self.bad.add(stream.name, len(stream.items), batch["bad"])
        if batch["clip"] is None:
            raise UserError(f"stream '{stream.name}': no video of a batch could be read; see {self.bad.path}")
        return batch

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Ranks exchange gradients in the last backward pass of a step only."""
        if last or not isinstance(self.wrapped, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.wrapped.no_sync()

    def _backward(
        self, objective: Objective, batch: dict[str, Any], counted: EpochMeter, at: tuple[int, int, int]
    ) -> Tensor:
        """Forward and backward of micro-batch (step, stream, number) `at`; returns its weighted loss, detached."""
        (step, number, k), sampler = at, objective.stream.sampler
        place = (self.settings.seed, self.epoch, step, number, k * sampler.world + sampler.rank)
        torch.manual_seed(derived_seed(*place))
        clip, target = self._mix(objective, batch, np.random.default_rng(place))
        enabled = self.settings.precision is not None
        with torch.autocast(self.settings.device.type, dtype=self.settings.precision, enabled=enabled):
            logits = self.wrapped(clip)
        loss = objective.loss(logits.float() if enabled else logits, target) * objective.weight
        self.scaler.scale(loss / sampler.micro_batches_per_step).backward()
        name, correct = objective.stream.name, mixed_topk_correct(logits, target, [1])[0]
        counted.add(**{f"correct_{name}": correct, f"clips_{name}": len(logits)})
        self.pace.clips += len(logits)
        return loss.detach()

    def _mix(self, objective: Objective, batch: dict[str, Any], rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        device, target = self.settings.device, batch["probs"] if objective.soft else batch["label"]
        clip = batch["clip"].to(device, non_blocking=True)
        clip, target = objective.mixup(clip, target.to(device, non_blocking=True), rng)
        layout = torch.channels_last_3d if self.settings.channels_last else torch.contiguous_format
        return clip.contiguous(memory_format=layout), target

    def _update(self, loss: Tensor, counted: EpochMeter, statistics: RunningStatistics) -> float:
        """One optimiser step, agreed between ranks; a step that is not finite leaves the model as it was."""
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.clip_grad_norm_(parameters, self.settings.clip_grad or math.inf).item()
        mean_loss = float(loss) / distributed.world_size()
        not_finite = not (math.isfinite(norm) and math.isfinite(mean_loss))
        figures = {"not_finite": not_finite, "new_bad": self.bad.num_new, "loss": mean_loss, **counted.sums}
        figures = distributed.sum_figures(figures, self.settings.device)
        if figures.pop("new_bad"):
            self.bad.settle()
        if figures.pop("not_finite"):
            statistics.restore()
            self._skip(figures["loss"], norm)
            return norm
        statistics.settle()
        self._skips_in_a_row = 0
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.meter.add(**figures, steps=1)
        return norm

    def _skip(self, loss: float, norm: float) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler.is_enabled():
            self.scaler.update()
        self.num_skipped, self._skips_in_a_row = self.num_skipped + 1, self._skips_in_a_row + 1
        place = f"epoch {self.epoch + 1} step {self.step + 1}: loss {loss}, gradient norm {norm}"
        if self.settings.non_finite == "raise":
            raise UserError(f"not finite at {place} (TRAIN.NON_FINITE is raise)")
        if self._skips_in_a_row >= MAX_SKIPS_IN_A_ROW:
            raise UserError(f"{self._skips_in_a_row} steps in a row were not finite, last at {place}: lower the rate")
        logger.warning("skipped a step that is not finite: %s", place)

    def _set_lr(self, epoch: float) -> float:
        lr = self.settings.lr(epoch / self.settings.max_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        return lr

    def _log(self, lr: float, norm: float) -> None:
        names = [objective.stream.name for objective in self.objectives]
        figures = {
            "loss": self.meter.ratio("loss", "steps"),
            "lr": lr,
            "grad_norm": norm,
            "top1": {name: 100 * self.meter.ratio(f"correct_{name}", f"clips_{name}") for name in names},
            "num_skipped": self.num_skipped,
            **self.pace.figures(),
        }
        self.journal.train(self.epoch, self.settings.max_epoch, self.step, self.num_steps, figures)

    # Adaptation and validation

    def adapt(self) -> None:
        """Run the adapter on the dark clips of this epoch."""
        clips = Clips(lambda: self.adapt_clips(self.epoch, self.bad))
        report = self.adapter.run(self.model, clips)
        self.bad.settle()
        self.journal.adapt(self.epoch, report)

    def validate(self) -> dict[str, dict[str, Any]]:
        """Figures of every validation split (one view, one crop), by split."""
        figures = {}
        for eval_set in self.eval_sets:
            name = eval_set.split.name
            found = self.evaluator.run(self.model, eval_set, self.settings.num_classes, f"val {name}")
            figures[name] = accuracy(found[eval_set.pairs[0]])
            self.journal.validation(self.epoch, name, figures[name])
        return figures

    # State

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs, as plain types and tensors."""
        return {
            "model_state": self.model.state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "scaler_state": self.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "num_skipped": self.num_skipped,
            "best": dict(self.best),
            "meter": dict(self.meter.sums),
            **self.settings.stamp,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()`."""
        self.model.load_state_dict(state["model_state"])
        self.optimizer.load_state_dict(state["optimizer_state"])
        self.scaler.load_state_dict(state["scaler_state"])
        self.epoch, self.step, self.num_skipped = state["epoch"], state["step"], state["num_skipped"]
        self.best, self.meter.sums = dict(state["best"]), dict(state["meter"])

    def _save(self, save: Callable[[Path, dict[str, Any]], str], path: Path) -> None:
        if distributed.is_main():
            save(path, self.state())
        distributed.barrier()

    def _mark(self, name: str = "", text: str = "", remove: Sequence[str] = ()) -> None:
        """Write (or remove) the small files that say how the run ended."""
        if distributed.is_main():
            for old in remove:
                (self.settings.output_dir / old).unlink(missing_ok=True)
            if name:
                with atomic_write(self.settings.output_dir / name, "w") as file:
                    file.write(text + "\n")
        distributed.barrier()

    def _preempt(self) -> None:
        self._save(checkpoint.save_latest, self.settings.output_dir)
        place = f"epoch {self.epoch + 1} step {self.step}"
        self._mark(PREEMPTED, place)
        raise Preempted(f"stopped at {place} as asked; start the same command again to go on")
