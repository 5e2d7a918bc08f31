"""The trainer: {streams} x {adapter}.

Plain training is one stream; "adapt BN" is one stream and the BatchNorm adapter; a pseudo-label stage is two streams
and the adapter. One optimiser step sees `TRAIN.BATCH_SIZE` videos of a stream, cut into micro-batches that are mixed,
normalised and back-propagated together, each with its own seed: the numbers do not depend on how many ranks share them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nightcrawler.adapt.base import Adapter, ReplayableClips
from nightcrawler.data.build import EvalSet
from nightcrawler.engine.bad_videos import BadVideoLedger
from nightcrawler.engine.checkpointer import Checkpointer
from nightcrawler.engine.ema import averaged_copy
from nightcrawler.engine.evaluator import Evaluator
from nightcrawler.engine.meters import accuracy
from nightcrawler.engine.metric_logger import MetricLogger
from nightcrawler.engine.signals import Preempted, StopSignals
from nightcrawler.engine.train_step import TrainStep
from nightcrawler.engine.trainer_config import StreamLoss, TrainerConfig
from nightcrawler.utils import distributed
from nightcrawler.utils.io import atomic_write

DONE, PREEMPTED = "DONE", "PREEMPTED"
RAW, EMA = "raw", "ema"
AdaptClips = Callable[[int, BadVideoLedger], Iterator[Tensor]]


class Trainer:
    """Trains a model, adapts it after each epoch, validates it and keeps the latest and the best checkpoint.

    Where weights are averaged (`settings.ema_decay`), the averaged copy is adapted and validated after the raw one,
    and the best checkpoint holds whichever had the higher top-1; the raw weights where they are level.

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
        objectives: Sequence[StreamLoss],
        adapter: Adapter,
        adapt_clips: AdaptClips,
        eval_sets: Sequence[EvalSet],
        evaluator: Evaluator,
        journal: MetricLogger,
        settings: TrainerConfig,
    ) -> None:
        self.model, self.optimizer, self.settings = model, optimizer, settings
        self.objectives, self.adapter, self.adapt_clips = list(objectives), adapter, adapt_clips
        self.eval_sets, self.evaluator, self.journal = list(eval_sets), evaluator, journal
        self.ema = averaged_copy(model, settings.ema_decay) if settings.ema_decay else None
        self.bad = BadVideoLedger(settings.output_dir / "bad.csv", settings.max_bad_fraction)
        self.stepper = TrainStep(model, optimizer, self.objectives, settings, self.bad)
        self.saver = Checkpointer(
            settings.output_dir, settings.keep_last, settings.max_failed_saves
        )
        self.epoch, self.step = 0, 0
        self.best: dict[str, Any] = {
            "top1": -math.inf,
            "epoch": -1,
            "split": settings.best_split,
            "weights": RAW,
        }
        self.stop = StopSignals()

    @property
    def num_steps(self) -> int:
        """Steps of an epoch."""
        return self.objectives[0].stream.sampler.num_steps

    @property
    def place(self) -> str:
        """How far training is, in words."""
        epoch, step = (self.epoch + 1, self.step) if self.step else (self.epoch, self.num_steps)
        return f"epoch {epoch} step {step}"

    def fit(self) -> dict[str, Any]:
        """Train to the end; returns the best validation (`top1` in %, `epoch`, `split`, `weights`: raw or ema).

        Raises:
            Preempted: after a stop signal, once the state is saved.
            UserError: if too many videos cannot be used, steps are not finite, or the state cannot be saved.
        """
        self.saver.tidy()
        self._mark(remove=(DONE, PREEMPTED))
        with self.stop.listening():
            try:
                while self.epoch < self.settings.max_epoch:
                    self._train_epoch()
                    self._finish_epoch()
            except Preempted:
                self._mark(PREEMPTED, self.place)
                raise Preempted(
                    f"stopped at {self.place} as asked; start the same command again to go on"
                ) from None
        self._mark(DONE, f"epoch {self.epoch}, best {self.best}")
        return self.best

    def _train_epoch(self) -> None:
        self.stepper.begin(self.epoch, self.step)
        for step in range(self.step, self.num_steps):
            lr = self.settings.lr((self.epoch + step / self.num_steps) / self.settings.max_epoch)
            skipped = self.stepper.num_skipped
            norm = self.stepper.advance(lr)
            if self.ema is not None and self.stepper.num_skipped == skipped:
                self.ema.update(self.model, step=self.epoch * self.num_steps + step)
            self.step = step + 1
            if self.step % self.settings.log_period == 0 or self.step == self.num_steps:
                self._log(lr, norm)
            if self.stop.requested_anywhere(self.settings.device):
                self.saver.latest(self.state, required=True)
                raise Preempted

    def _finish_epoch(self) -> None:
        """Adapt and validate where it is due, then save.

        Both may take long: a run that is stopped or dies meanwhile goes on from the last step.
        """
        last = self.epoch + 1 == self.settings.max_epoch
        due = last or (self.epoch + 1) % self.settings.eval_period == 0
        saved = due and self.saver.latest(self.state)
        self.epoch, self.step = self.epoch + 1, 0
        if due:
            self._adapt_and_validate(self.model, RAW)
            if self.ema is not None:
                self._adapt_and_validate(self.ema.module, EMA)
        self.stepper.meter.reset()
        self.saver.latest(self.state, required=last, replace=saved)

    def _adapt_and_validate(self, model: nn.Module, weights: str) -> None:
        """Adapt and validate a model, and save it where it is the best so far."""
        with self._weights_kept(model):
            self.adapt(model, weights)
            top1 = (
                self.validate(model, weights)
                .get(self.settings.best_split, {})
                .get("top1", math.nan)
            )
            if not top1 > self.best["top1"]:
                return
            before = self.best
            self.best = {
                "top1": top1,
                "epoch": self.epoch,
                "split": self.settings.best_split,
                "weights": weights,
            }
            saved = self.saver.best(
                lambda: {**self.state(), "model_state": model.state_dict(), "weights": weights}
            )
            self.best = self.best if saved else before

    @contextlib.contextmanager
    def _weights_kept(self, model: nn.Module) -> Iterator[None]:
        """Training goes on from the weights that an adapter found, where it changes them."""
        parameters = list(model.parameters()) if self.adapter.changes_weights else []
        kept = [parameter.detach().clone() for parameter in parameters]
        yield
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)

    def _log(self, lr: float, norm: float) -> None:
        meter, names = self.stepper.meter, [objective.stream.name for objective in self.objectives]
        figures = {
            "loss": meter.ratio("loss", "steps"),
            "lr": lr,
            "grad_norm": norm,
            "top1": {name: 100 * meter.ratio(f"correct_{name}", f"clips_{name}") for name in names},
            "num_skipped": self.stepper.num_skipped,
            **self.stepper.pace.figures(),
        }
        self.journal.train(self.epoch, self.settings.max_epoch, self.step, self.num_steps, figures)

    # Adaptation and validation

    def adapt(self, model: nn.Module, weights: str = RAW) -> None:
        """Run the adapter on the dark clips of this epoch."""
        clips = ReplayableClips(lambda: self.stop.until(self.adapt_clips(self.epoch, self.bad)))
        report = self.adapter.run(model, clips)
        self.bad.settle()
        self.stop.check(self.settings.device)
        self.journal.adapt(self.epoch, report, weights)

    def validate(self, model: nn.Module, weights: str = RAW) -> dict[str, dict[str, Any]]:
        """Figures of every validation split (one view, one crop), by split."""
        figures = {}
        for eval_set in self.eval_sets:
            name = eval_set.split.name
            found = self.evaluator.run(
                model, eval_set, self.settings.num_classes, f"val {name}", self.stop
            )
            figures[name] = accuracy(found[eval_set.pairs[0]])
            self.journal.validation(self.epoch, name, figures[name], weights)
        return figures

    # State

    def state(self) -> dict[str, Any]:
        """Everything a resumed run needs, as plain types and tensors.

        Draws are functions of the seed and of epoch and step, so there is no state of generators to keep.
        """
        averaged = {} if self.ema is None else {"ema_state": self.ema.module.state_dict()}
        return {
            "model_state": self.model.state_dict(),
            "weights": RAW,
            **averaged,
            "optimizer_state": self.optimizer.state_dict(),
            "scaler_state": self.stepper.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "num_skipped": self.stepper.num_skipped,
            "best": dict(self.best),
            "meter": dict(self.stepper.meter.sums),
            **self.settings.stamp,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from `state()`; the moving average starts from the weights where the state has none."""
        self.model.load_state_dict(state["model_state"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state.get("ema_state", state["model_state"]))
        self.optimizer.load_state_dict(state["optimizer_state"])
        self.stepper.scaler.load_state_dict(state["scaler_state"])
        self.epoch, self.step, self.stepper.num_skipped = (
            state["epoch"],
            state["step"],
            state["num_skipped"],
        )
        self.best, self.stepper.meter.sums = dict(state["best"]), dict(state["meter"])

    def _mark(self, name: str = "", text: str = "", remove: Sequence[str] = ()) -> None:
        """Write (or remove) the small files that say how the run ended."""
        if distributed.is_main():
            for old in remove:
                (self.settings.output_dir / old).unlink(missing_ok=True)
            if name:
                with atomic_write(self.settings.output_dir / name, "w") as file:
                    file.write(text + "\n")
        distributed.barrier()
