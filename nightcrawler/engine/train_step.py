"""One optimiser step: micro-batches of one or more streams, back-propagated and agreed upon by all ranks."""

from __future__ import annotations

import contextlib
import inspect
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nightcrawler.data.dataset import clips_to_device
from nightcrawler.engine.bad_videos import BadVideoLedger
from nightcrawler.engine.bn_sync import RunningStatistics
from nightcrawler.engine.loading import iterate_batches
from nightcrawler.engine.meters import EpochMeter, mixed_topk_correct
from nightcrawler.engine.metric_logger import Lines, Pace
from nightcrawler.engine.optim import separate_gradients
from nightcrawler.engine.trainer_config import StreamLoss, TrainerConfig
from nightcrawler.utils import distributed
from nightcrawler.utils.env import derived_seed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# Of clips and of right ones, by stream.
Counts = dict[str, int | Tensor]
MAX_SKIPS_IN_A_ROW = 20
NON_FINITE = "non_finite.jsonl"
# Ranks agree on buffers by `RunningStatistics`; torch 2.15 renamed the option.
_DDP_OPTIONS = inspect.signature(DistributedDataParallel).parameters
BUFFER_OPTION = (
    "forward_sync_buffers" if "forward_sync_buffers" in _DDP_OPTIONS else "broadcast_buffers"
)


class TrainStep:
    """Takes optimiser steps.

    Args:
        model: clips `[B, 3, T, H, W]` to logits `[B, K]`, on `settings.device`.
        optimizer: over the model's parameters.
        objectives: streams with their losses.
        settings: how to go about it.
        bad: where videos that cannot be used are noted.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        objectives: Sequence[StreamLoss],
        settings: TrainerConfig,
        bad: BadVideoLedger,
    ) -> None:
        self.model, self.optimizer, self.settings = model, optimizer, settings
        self.objectives, self.bad = list(objectives), bad
        self.scaler = torch.amp.GradScaler(
            settings.device.type, enabled=settings.precision == torch.float16
        )
        self.wrapped = self._wrap(model)
        self.meter, self.pace = EpochMeter(), Pace(settings.device, settings.gmacs)
        self.epoch, self.step, self.num_skipped = 0, 0, 0
        self._iterators: list[Iterator[Any]] = []
        self._seen: list[dict[str, Any]] = []
        self._skips_in_a_row = 0

    def _wrap(self, model: nn.Module) -> nn.Module:
        if distributed.world_size() == 1:
            return model
        # Of strides along an axis of size 1, as in depth-wise convolutions: they mean nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return DistributedDataParallel(
            model,
            device_ids=[self.settings.device.index]
            if self.settings.device.type == "cuda"
            else None,
            find_unused_parameters=bool(getattr(model, "has_unused_parameters", False)),
            gradient_as_bucket_view=True,
            **{BUFFER_OPTION: False},
        )

    def begin(self, epoch: int, step: int) -> None:
        """Take batches from a step of an epoch on."""
        self.epoch, self.step = epoch, step
        self.model.train()
        self.pace.restart()
        self._iterators = []
        for objective in self.objectives:
            stream = objective.stream
            stream.sampler.set_position(epoch, step)
            self._iterators.append(
                iterate_batches(stream.loader, stream.items, f"stream '{stream.name}'")
            )

    def advance(self, lr: float) -> float:
        """The next step, or one on each stream after the other; returns the last gradient norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        everything = list(range(len(self.objectives)))
        for numbers in (
            [everything] if self.settings.joint_step else [[number] for number in everything]
        ):
            norm = self._optimize(numbers)
        self.step, self.pace.steps = self.step + 1, self.pace.steps + 1
        return norm

    def _optimize(self, numbers: list[int]) -> float:
        """Back-propagate a step's micro-batches of the given streams, update once; returns the gradient norm."""
        statistics, losses = RunningStatistics(self.model), []
        counted: Counts = defaultdict(int)
        self._seen = []
        self.optimizer.zero_grad(set_to_none=True)
        for number in numbers:
            count = self.objectives[number].stream.sampler.micro_batches_per_step
            for k in range(count):
                batch = self._next(number)
                with self._synchronised(last=number == numbers[-1] and k == count - 1):
                    losses.append(self._backward(number, k, batch, counted).double() / count)
                if len(losses) == 1:
                    separate_gradients(self.model.parameters())
                statistics.collect()
        return self._update(torch.stack(losses).sum(), counted, statistics)

    def _next(self, number: int) -> dict[str, Any]:
        stream, waiting = self.objectives[number].stream, time.monotonic()
        batch = next(self._iterators[number])
        self.pace.waited += time.monotonic() - waiting
        self.bad.add(stream.name, len(stream.items), batch["bad"])
        if batch["clip"] is None:
            raise UserError(
                f"stream '{stream.name}': no video of a batch could be read; see {self.bad.path}"
            )
        return batch

    def _synchronised(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Ranks exchange gradients in the last backward pass of a step only."""
        if last or not isinstance(self.wrapped, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.wrapped.no_sync()

    def _backward(self, number: int, k: int, batch: dict[str, Any], counted: Counts) -> Tensor:
        """Forward and backward of micro-batch `k` of a stream; returns its weighted loss, detached."""
        objective = self.objectives[number]
        sampler = objective.stream.sampler
        place = (
            self.settings.seed,
            self.epoch,
            self.step,
            number,
            k * sampler.world + sampler.rank,
        )
        torch.manual_seed(derived_seed(*place))
        clip, target = self._mix(objective, batch, np.random.default_rng(place))
        enabled = self.settings.precision is not None
        with torch.autocast(
            self.settings.device.type, dtype=self.settings.precision, enabled=enabled
        ):
            logits = self.wrapped(clip)
        weight = objective.weight_at(self.epoch + self.step / sampler.num_steps)
        loss = objective.loss(logits.float() if enabled else logits, target) * weight
        self.scaler.scale(loss / sampler.micro_batches_per_step).backward()
        counted[f"correct_{objective.stream.name}"] += mixed_topk_correct(logits, target, [1])[0]
        counted[f"clips_{objective.stream.name}"] += len(logits)
        self.pace.clips += len(logits)
        self._seen.append({"number": number, "loss": loss.detach(), "index": batch["index"]})
        return loss.detach()

    def _mix(
        self, objective: StreamLoss, batch: dict[str, Any], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        device, target = self.settings.device, batch["probs"] if objective.soft else batch["label"]
        clip = clips_to_device(batch["clip"], device)
        clip, target = objective.mixup(clip, target.to(device, non_blocking=True), rng)
        layout = torch.channels_last_3d if self.settings.channels_last else torch.contiguous_format
        return clip.contiguous(memory_format=layout), target

    def _update(self, loss: Tensor, counted: Counts, statistics: RunningStatistics) -> float:
        """One optimiser step, agreed between ranks; a step that is not finite leaves the model as it was.

        The device is waited for once: what is not finite on any rank is not finite in the sum over them.
        """
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        largest, world = self.settings.clip_grad or math.inf, distributed.world_size()
        grad_norm = nn.utils.clip_grad_norm_(parameters, largest)
        means = {"loss": loss / world, "norm": grad_norm.double() / world}
        figures = distributed.sum_figures(
            {**means, "new_bad": self.bad.num_new, **counted}, self.settings.device
        )
        norm = figures.pop("norm")
        if figures.pop("new_bad"):
            self.bad.settle()
        if not (math.isfinite(norm) and math.isfinite(figures["loss"])):
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
        self._write_down(norm)
        path = self.settings.output_dir / NON_FINITE
        place = f"epoch {self.epoch + 1} step {self.step + 1}: loss {loss}, gradient norm {norm}; videos in {path}"
        if self.settings.non_finite == "raise":
            raise UserError(f"not finite at {place} (TRAIN.NON_FINITE is raise)")
        if self._skips_in_a_row >= MAX_SKIPS_IN_A_ROW:
            raise UserError(
                f"{self._skips_in_a_row} steps in a row were not finite, last at {place}: lower the rate"
            )
        logger.warning("skipped a step that is not finite: %s", place)

    def _write_down(self, norm: float) -> None:
        """A line per micro-batch of the step, over all ranks: its loss and its videos."""
        rows = []
        for seen in self._seen:
            stream = self.objectives[seen["number"]].stream
            names = dict.fromkeys(stream.items[index].name for index in seen["index"].tolist())
            figures = {
                "stream": stream.name,
                "loss": float(seen["loss"]),
                "grad_norm": norm,
                "videos": list(names),
            }
            rows.append(
                {
                    "epoch": self.epoch + 1,
                    "step": self.step + 1,
                    "rank": distributed.rank(),
                    **figures,
                }
            )
        lines = Lines(self.settings.output_dir / NON_FINITE if distributed.is_main() else None)
        for part in distributed.gather_objects(rows):
            for row in part:
                lines.write(**row)
