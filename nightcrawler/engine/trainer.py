"""Training loop: {streams} x {adapter}.

Plain training has one stream, "adapt BN" one stream and the BatchNorm adapter, a pseudo-label
stage two streams and the adapter. One optimiser step takes `TRAIN.BATCH_SIZE` videos of a stream,
split into micro-batches. Each micro-batch is mixed, normalised and back-propagated with its own
seed, so results do not depend on the number of ranks that share them.
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
from nightcrawler.engine.clean_labels import CleanLabels
from nightcrawler.engine.ema import averaged_copy
from nightcrawler.engine.evaluator import Evaluator, refuse_diverged
from nightcrawler.engine.meters import accuracy
from nightcrawler.engine.metric_logger import MetricLogger
from nightcrawler.engine.pictures import ValidationPictures
from nightcrawler.engine.stop_signals import Preempted, StopSignals
from nightcrawler.engine.train_step import TrainStep
from nightcrawler.engine.trainer_config import StreamLoss, TrainerConfig
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write

# Marker files in the run's folder: the run is finished, or was stopped on request.
DONE = "DONE"
PREEMPTED = "PREEMPTED"
# The two sets of weights: trained ones and their moving average.
RAW = "raw"
EMA = "ema"
# Epoch and ledger to this rank's unlabelled clips, float32 `[B, 3, T, h, w]` on the device.
AdaptClips = Callable[[int, BadVideoLedger], Iterator[Tensor]]


class Trainer:
    """Training run: train, adapt after each epoch, validate, keep latest and best checkpoint.

    With a moving average of the weights (`config.ema_decay`), the average is adapted and validated
    after the raw weights. The best checkpoint holds the ones with the higher top-1 accuracy, the
    raw ones at a tie.

    Args:
        model: clips `[B, 3, T, H, W]` to logits `[B, K]`, on `config.device`.
        optimizer: optimiser of the model's parameters.
        stream_losses: one or two streams with their losses, of equally many steps per epoch.
        adapter: adapts the model before validation.
        adapt_clips: epoch and ledger to this rank's unlabelled clips, on the device.
        eval_sets: splits to validate.
        evaluator: runs validation.
        metric_logger: logs metrics.
        config: settings of the run.
        clean_labels: chooses pseudo-labelled clips after validated epochs, `None` keeps all.
        pictures: draws validations for the writers, `None` draws none.

    Example:
        >>> trainer = build_trainer(cfg)
        >>> best = trainer.fit()
        >>> best["top1"]
        74.5
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        stream_losses: Sequence[StreamLoss],
        adapter: Adapter,
        adapt_clips: AdaptClips,
        eval_sets: Sequence[EvalSet],
        evaluator: Evaluator,
        metric_logger: MetricLogger,
        config: TrainerConfig,
        clean_labels: CleanLabels | None = None,
        pictures: ValidationPictures | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.stream_losses = list(stream_losses)
        self.adapter = adapter
        self.adapt_clips = adapt_clips
        self.eval_sets = list(eval_sets)
        self.evaluator = evaluator
        self.metric_logger = metric_logger
        self.config = config
        self.clean_labels = clean_labels
        self.pictures = pictures
        self.ema = None
        if config.ema_decay:
            self.ema = averaged_copy(model, config.ema_decay)
        # One ledger for training and adaptation: both report into bad.csv.
        self.bad_videos = BadVideoLedger(
            config.output_dir / "bad.csv",
            config.max_bad_fraction,
            config.user_name("max_bad_fraction"),
        )
        self.train_step = TrainStep(model, optimizer, self.stream_losses, config, self.bad_videos)
        self.checkpointer = Checkpointer(
            config.output_dir,
            config.keep_last,
            config.max_failed_saves,
            config.user_name("max_failed_saves"),
        )
        self.epoch = 0
        self.step = 0
        self.best = self._no_best()
        self.stop = StopSignals()

    def _no_best(self, epoch: int = -1) -> dict[str, Any]:
        """Return the entry of a run that validated nothing since an epoch, below any accuracy."""
        return self._best_entry(-math.inf, epoch, weights=RAW)

    def _best_entry(self, top1: float, epoch: int, weights: str) -> dict[str, Any]:
        return {
            "top1": top1,
            "epoch": epoch,
            "split": self.config.best_split,
            "weights": weights,
        }

    @property
    def num_steps(self) -> int:
        """Number of steps of an epoch."""
        return self.stream_losses[0].stream.sampler.num_steps

    @property
    def position(self) -> str:
        """Progress of the run as text, `epoch 2 step 5`, both counted from 1."""
        if self.step:
            return f"epoch {self.epoch + 1} step {self.step}"
        return f"epoch {self.epoch} step {self.num_steps}"

    def fit(self) -> dict[str, Any]:
        """Train to the end.

        Returns:
            The best validation: `top1` in %, `epoch`, `split`, `weights` (`raw` or `ema`).

        Raises:
            Preempted: after a stop signal, once the state is saved.
            UserError: if too many videos cannot be used, steps or all outputs are not finite, the
                state cannot be saved, or no epoch has an accuracy.
        """
        self.checkpointer.remove_leftovers()
        # Markers of an earlier, stopped start would contradict this one.
        self._write_marker(remove=(DONE, PREEMPTED))
        with self.stop.listening():
            try:
                while self.epoch < self.config.max_epoch and not self._stops_early():
                    self._train_epoch()
                    self._finish_epoch()
            except Preempted:
                self._write_marker(PREEMPTED, self.position)
                raise Preempted(
                    f"stopped at {self.position} as asked; start the same command again to go on"
                ) from None
            finally:
                self.metric_logger.writers.close()
        if self.best["top1"] == -math.inf:
            raise UserError(f"no epoch has a prediction on {self.config.best_split}: none is best")
        self._write_marker(DONE, f"epoch {self.epoch}, best {self.best}")
        return self.best

    def _stops_early(self) -> bool:
        """Return whether the last validations brought nothing better for too long."""
        patience = self.config.early_stop
        # Between epochs, and after a validation, only.
        if not patience or self.step or self.epoch % self.config.eval_period:
            return False
        return self.epoch - max(self.best["epoch"], 0) >= patience

    def _train_epoch(self) -> None:
        """Take the remaining steps of this epoch."""
        config = self.config
        self.train_step.start_epoch(self.epoch, self.step)
        for step in range(self.step, self.num_steps):
            # The schedule is a function of the position, so a resumed run continues on it.
            lr = config.lr((self.epoch + step / self.num_steps) / config.max_epoch)
            taken_before = self.train_step.num_taken
            norm = self.train_step.run(lr)
            # Where every optimiser step was skipped, there is nothing new to average.
            if self.ema is not None and self.train_step.num_taken > taken_before:
                self.ema.update(self.model, step=self.epoch * self.num_steps + step)
            self.step = step + 1
            if self.step % config.log_period == 0 or self.step == self.num_steps:
                self._log(lr, norm)
            if self.stop.requested_anywhere(config.device):
                self.checkpointer.save_latest(self.state, required=True)
                raise Preempted

    def _finish_epoch(self) -> None:
        """Adapt and validate where the evaluation period asks for it, then save.

        Both may take long, so the state is saved before them: a run that is stopped or dies in
        the meantime resumes after the last step.
        """
        last = self.epoch + 1 == self.config.max_epoch
        due = last or (self.epoch + 1) % self.config.eval_period == 0
        saved = due and self.checkpointer.save_latest(self.state)
        self.epoch += 1
        self.step = 0
        if due:
            self._adapt_and_validate(self.model, RAW)
            if self.ema is not None:
                self._adapt_and_validate(self.ema.module, EMA)
            if not last:
                self._keep_clean_labels()
        self.train_step.meter.reset()
        # The save above is of the same epoch: replacing it keeps older epochs as fallbacks.
        self.checkpointer.save_latest(self.state, required=last, replace=saved)

    def _keep_clean_labels(self) -> None:
        """Choose the pseudo-labelled clips to go on with, by the model as it was validated.

        Raises:
            Preempted: if a stop was requested meanwhile.
        """
        if self.clean_labels is None:
            return
        eval_set = self.clean_labels.eval_set
        predictions = self.evaluator.run(
            self.model, eval_set, self.config.num_classes, "pseudo-labels", self.stop
        )
        kept = self.clean_labels.choose(predictions[eval_set.pairs[0]])
        self.metric_logger.log_clean_labels(self.epoch, kept, len(eval_set.items))

    def _adapt_and_validate(self, model: nn.Module, weights: str) -> None:
        """Adapt and validate a model, and save it if it is the best so far."""
        with self._restored_weights(model):
            self.adapt(model, weights)
            figures = self.validate(model, weights)
            found = figures.get(self.config.best_split, {})
            top1 = found.get("top1", math.nan)
            predicts = found.get("num_videos") != found.get("num_bad", 0)
            # Written so that NaN is never better.
            if not (predicts and top1 > self.best["top1"]):
                return
            before = self.best
            self.best = self._best_entry(top1, self.epoch, weights)

            def make_state() -> dict[str, Any]:
                return {**self.state(), "model_state": model.state_dict(), "weights": weights}

            if not self.checkpointer.save_best(make_state):
                # The file still holds the earlier best, which a later epoch must be compared to.
                self.best = before

    @contextlib.contextmanager
    def _restored_weights(self, model: nn.Module) -> Iterator[None]:
        """Restore the parameters after the block if the adapter changes them.

        Training continues from the trained weights, not from the adapted ones.
        """
        parameters: list[nn.Parameter] = []
        if self.adapter.changes_weights:
            parameters = list(model.parameters())
        copies = [parameter.detach().clone() for parameter in parameters]
        yield
        with torch.no_grad():
            for parameter, value in zip(parameters, copies, strict=True):
                parameter.copy_(value)

    def _log(self, lr: float, norm: float) -> None:
        meter = self.train_step.meter
        top1 = {}
        for stream_loss in self.stream_losses:
            name = stream_loss.stream.name
            top1[name] = 100 * meter.ratio(f"correct_{name}", f"clips_{name}")
        figures = {
            "loss": meter.ratio("loss", "steps"),
            "lr": lr,
            "grad_norm": norm,
            "top1": top1,
            "num_skipped": self.train_step.num_skipped,
            **self.train_step.throughput.figures(),
        }
        self.metric_logger.log_train_step(
            self.epoch, self.config.max_epoch, self.step, self.num_steps, figures
        )

    # Adaptation and validation

    def adapt(self, model: nn.Module, weights: str = RAW) -> None:
        """Run the adapter on the dark clips of this epoch.

        Args:
            model: adapted in place.
            weights: its weights for the log, `raw` or `ema`.

        Raises:
            Preempted: if a stop was requested meanwhile.
        """
        clips = ReplayableClips(
            lambda: self.stop.until(self.adapt_clips(self.epoch, self.bad_videos))
        )
        report = self.adapter.run(model, clips)
        # Before the stop: a stopped run has its list of bad videos, too.
        self.bad_videos.sync()
        self.stop.check(self.config.device)
        self.metric_logger.log_adaptation(self.epoch, report, weights)

    def validate(self, model: nn.Module, weights: str = RAW) -> dict[str, dict[str, Any]]:
        """Validate a model on every split (one view, one crop).

        Args:
            model: clips `[B, 3, T, H, W]` to logits `[B, K]`.
            weights: its weights for the log, `raw` or `ema`.

        Returns:
            Figures of `engine.meters.accuracy` by split.

        Raises:
            Preempted: if a stop was requested meanwhile.
            UserError: if the model's logits are finite for no video of a split.
        """
        figures = {}
        for eval_set in self.eval_sets:
            name = eval_set.split.name
            predictions = self.evaluator.run(
                model, eval_set, self.config.num_classes, f"val {name}", self.stop
            )
            found = predictions[eval_set.pairs[0]]
            refuse_diverged(found, f"epoch {self.epoch}, {name}")
            figures[name] = accuracy(found)
            new = self.metric_logger.log_validation(self.epoch, name, figures[name], weights)
            if new and self.pictures is not None:
                self.pictures.log(self.metric_logger, self.epoch, eval_set, found, weights)
        return figures

    # State

    def state(self) -> dict[str, Any]:
        """Return everything that a resumed run needs, as plain types and tensors.

        Random draws are functions of seed, epoch and step, so no generator state is kept.
        """
        averaged = {}
        if self.ema is not None:
            averaged["ema_state"] = self.ema.module.state_dict()
        clean = {}
        if self.clean_labels is not None:
            clean["clean_labels"] = self.clean_labels.state()
        return {
            "model_state": self.model.state_dict(),
            "weights": RAW,
            **averaged,
            **clean,
            "optimizer_state": self.optimizer.state_dict(),
            "scaler_state": self.train_step.scaler.state_dict(),
            "epoch": self.epoch,
            "step": self.step,
            "num_skipped": self.train_step.num_skipped,
            "best": dict(self.best),
            "meter": dict(self.train_step.meter.sums),
            **self.config.run_metadata,
        }

    def load_state(self, state: dict[str, Any], of_this_run: bool = True) -> None:
        """Resume from a state.

        Args:
            state: return value of `state()`; without `ema_state`, the moving average starts from
                the weights.
            of_this_run: the state is this run's own. Another run's best figure is of its own
                split, and its best checkpoint is not in this run's folder, so it is not taken.
        """
        self.model.load_state_dict(state["model_state"])
        if self.ema is not None:
            self.ema.module.load_state_dict(state.get("ema_state", state["model_state"]))
        self.optimizer.load_state_dict(state["optimizer_state"])
        self.train_step.scaler.load_state_dict(state["scaler_state"])
        self.epoch = state["epoch"]
        self.step = state["step"]
        self.train_step.num_skipped = state["num_skipped"]
        self.best = dict(state["best"]) if of_this_run else self._no_best(self.epoch)
        # Another run has other pseudo-labels.
        if self.clean_labels is not None and of_this_run:
            self.clean_labels.load_state(state["clean_labels"])
        self.train_step.meter.sums = dict(state["meter"])

    def _write_marker(self, name: str = "", text: str = "", remove: Sequence[str] = ()) -> None:
        """Write (or remove) the small files that tell how the run ended."""
        if distributed.is_main():
            for old in remove:
                (self.config.output_dir / old).unlink(missing_ok=True)
            if name:
                with atomic_write(self.config.output_dir / name, "w") as file:
                    file.write(text + "\n")
        # No rank goes on before the marker is on disk.
        distributed.barrier()
