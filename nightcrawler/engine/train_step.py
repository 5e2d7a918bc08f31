"""Optimiser step over micro-batches of one or more streams, agreed between all ranks."""

from __future__ import annotations

import contextlib
import inspect
import math
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nightcrawler.data.dataset import clips_to_device
from nightcrawler.engine.bad_videos import BadVideoLedger
from nightcrawler.engine.batches import iterate_batches
from nightcrawler.engine.bn_sync import BatchNormSync
from nightcrawler.engine.meters import EpochMeter, mixed_topk_correct
from nightcrawler.engine.metric_logger import Throughput
from nightcrawler.engine.optim import separate_gradients, set_lr
from nightcrawler.engine.partial_step import partial_step
from nightcrawler.engine.trainer_config import StreamLoss, TrainerConfig
from nightcrawler.engine.writers.jsonl import TolerantJsonLines
from nightcrawler.utils import distributed
from nightcrawler.utils.env import derived_seed
from nightcrawler.utils.errors import UserError, single_value_as_error
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# Numbers of clips and of correct predictions, by stream.
Counts = dict[str, int | Tensor]
MAX_SKIPS_IN_A_ROW = 20
NON_FINITE = "non_finite.jsonl"
# DDP must not broadcast buffers: `BatchNormSync` synchronises them. torch 2.15 renamed the option.
BUFFER_OPTION = "broadcast_buffers"
if "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters:
    BUFFER_OPTION = "forward_sync_buffers"


@dataclass(frozen=True)
class MicroBatchRecord:
    """Loss and videos of one micro-batch, for the report of a step that is not finite.

    Attributes:
        stream: number of the stream.
        loss: weighted loss, detached.
        index: int64 `[B]`, indices of the videos.
    """

    stream: int
    loss: Tensor
    index: Tensor


class TrainStep:
    """Optimiser steps of a training run.

    Args:
        model: clips `[B, 3, T, H, W]` to logits `[B, K]`, on `config.device`.
        optimizer: optimiser of the model's parameters.
        stream_losses: streams with their losses.
        config: settings of the run.
        bad_videos: ledger of videos that cannot be used.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        stream_losses: Sequence[StreamLoss],
        config: TrainerConfig,
        bad_videos: BadVideoLedger,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.stream_losses = list(stream_losses)
        self.config = config
        self.bad_videos = bad_videos
        # Only float16 gradients underflow; with other precisions the scaler multiplies by 1.
        self.scaler = torch.amp.GradScaler(
            config.device.type, enabled=config.precision == torch.float16
        )
        self.wrapped = self._wrap(model)
        self.meter = EpochMeter()
        self.throughput = Throughput(config.device, config.gmacs)
        self.epoch = 0
        self.step = 0
        self.num_skipped = 0
        self.num_taken = 0
        self._iterators: list[Iterator[Any]] = []
        self._records: list[MicroBatchRecord] = []
        self._skips_in_a_row = 0

    def _wrap(self, model: nn.Module) -> nn.Module:
        if distributed.world_size() == 1:
            return model
        # The warning is about strides along axes of size 1 (depth-wise convolutions), which
        # have no effect.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        options: dict[str, Any] = {
            "find_unused_parameters": bool(getattr(model, "has_unused_parameters", False)),
            "gradient_as_bucket_view": True,
            BUFFER_OPTION: False,
        }
        if self.config.device.type == "cuda":
            options["device_ids"] = [self.config.device.index]
        return DistributedDataParallel(model, **options)

    def start_epoch(self, epoch: int, step: int) -> None:
        """Prepare to take steps from a position on.

        Args:
            epoch: number of finished epochs.
            step: number of finished steps of this epoch.
        """
        self.epoch = epoch
        self.step = step
        self.model.train()
        self.throughput.restart()
        self._iterators = []
        for stream_loss in self.stream_losses:
            stream = stream_loss.stream
            stream.sampler.set_position(epoch, step)
            batches = iterate_batches(stream.loader, stream.items, f"stream '{stream.name}'")
            self._iterators.append(batches)

    def run(self, lr: float) -> float:
        """Take the next step: one optimiser step, or one per stream in turn.

        Args:
            lr: learning rate.

        Returns:
            The gradient norm before clipping (of the last stream with a weight above 0).

        Raises:
            UserError: if no video of a batch can be read, or too many steps are not finite.
        """
        set_lr(self.optimizer, lr, self._elapsed)
        active = []
        for number in range(len(self.stream_losses)):
            if self._weight(number) > 0:
                active.append(number)
            else:
                # A stream without weight leaves no trace, but its position moves on.
                self._batches_of(number)
        norm = math.nan
        if self.config.joint_step:
            norm = self._optimize(active)
        else:
            for number in active:
                norm = self._optimize([number])
        self.step += 1
        self.throughput.steps += 1
        return norm

    def _weight(self, number: int) -> float:
        """Return the weight of a stream at the present position."""
        return self.stream_losses[number].weight_at(self._elapsed)

    @property
    def _elapsed(self) -> float:
        """Number of finished epochs."""
        return self.epoch + self.step / self.stream_losses[0].stream.sampler.num_steps

    def _batches_of(self, number: int) -> list[dict[str, Any]]:
        """Return this rank's micro-batches of a step of a stream."""
        count = self.stream_losses[number].stream.sampler.micro_batches_per_step
        return [self._next(number) for _ in range(count)]

    def _optimize(self, numbers: list[int]) -> float:
        """Take one optimiser step on the given streams and return the gradient norm."""
        bn_sync = BatchNormSync(self.model)
        losses: list[Tensor] = []
        counts: Counts = defaultdict(int)
        self._records = []
        self.optimizer.zero_grad(set_to_none=True)
        # All batches of the step before the first loss, which must know how many clips there are.
        waiting = {number: self._batches_of(number) for number in numbers}
        clips = self._num_clips(waiting)
        # Losses are divided so that a stream's gradient is the mean over its clips, whatever the
        # other streams are, and however the clips are spread over micro-batches.
        for number in numbers:
            count = len(waiting[number])
            # Of streams in one step; in a step of its own, a stream is weighed by the share below.
            in_mean = min(self._weight(number), 1.0) if self.config.joint_step else 1.0
            for k in range(count):
                # Out of the list, so that it is freed after its backward pass.
                batch = waiting[number].pop(0)
                divisor = clips[number] / (len(batch["index"]) * distributed.world_size())
                with self._gradient_exchange(last=number == numbers[-1] and k == count - 1):
                    loss = self._backward(number, k, batch, divisor, counts)
                losses.append(loss.double() / divisor)
                # Later backward passes add to the gradients of the first: from then on, no two
                # may share memory.
                if len(losses) == 1:
                    separate_gradients(self.model.parameters())
                bn_sync.collect(count / divisor * in_mean)
        share = 1.0
        if not self.config.joint_step:
            share = min(self._weight(numbers[0]), 1.0)
        return self._update(torch.stack(losses).sum(), counts, bn_sync, share)

    def _num_clips(
        self, batches: dict[int, list[dict[str, Any]]]
    ) -> dict[int, float] | dict[int, Tensor]:
        """Return the number of clips of each stream in a step, over all ranks."""
        here = {}
        for number, parts in batches.items():
            here[number] = float(sum(len(batch["index"]) for batch in parts))
        if distributed.world_size() == 1:
            return here
        # They stay on the device: the host need not wait for them.
        counts = torch.tensor(list(here.values()), device=self.config.device)
        return dict(zip(here, distributed.all_reduce_sum(counts), strict=True))

    def _next(self, number: int) -> dict[str, Any]:
        """Return the next micro-batch of a stream that holds at least one readable video."""
        stream = self.stream_losses[number].stream
        began = time.monotonic()
        batch: dict[str, Any] = next(self._iterators[number])
        self.throughput.waited += time.monotonic() - began
        self.bad_videos.add(stream.name, len(stream.items), batch["bad"])
        if batch["clip"] is None:
            raise UserError(
                f"stream '{stream.name}': no video of a batch could be read; "
                f"see {self.bad_videos.path}"
            )
        return batch

    def _gradient_exchange(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Let ranks exchange gradients in the last backward pass of a step only."""
        if last or not isinstance(self.wrapped, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.wrapped.no_sync()

    def _backward(
        self,
        number: int,
        k: int,
        batch: dict[str, Any],
        divisor: float | Tensor,
        counts: Counts,
    ) -> Tensor:
        """Run forward and backward of micro-batch `k` of a stream, returning its weighted loss."""
        stream_loss = self.stream_losses[number]
        sampler = stream_loss.stream.sampler
        # The seed counts micro-batches over all ranks: draws do not depend on how ranks share
        # them, and a resumed run repeats them without a saved generator state.
        position = (
            self.config.seed,
            self.epoch,
            self.step,
            number,
            k * sampler.world + sampler.rank,
        )
        torch.manual_seed(derived_seed(*position))
        clip, target = self._mix(stream_loss, batch, np.random.default_rng(position))
        autocast = self.config.precision is not None
        advice = "take more clips in a micro-batch, or longer or larger ones"
        with (
            torch.autocast(self.config.device.type, self.config.precision, enabled=autocast),
            single_value_as_error(advice),
        ):
            logits = self.wrapped(clip)
        # Losses in float32: exponentials and sums lose too much in half precision.
        full_logits = logits
        if autocast:
            full_logits = logits.float()
        loss = stream_loss.loss(full_logits, target)
        weight = self._weight(number)
        # In a step of its own, a weight below 1 is the share of the step, see `partial_step`.
        scale = weight if self.config.joint_step else max(weight, 1.0)
        self.scaler.scale(loss * scale / divisor).backward()
        loss = loss.detach() * weight
        name = stream_loss.stream.name
        counts[f"correct_{name}"] += mixed_topk_correct(logits, target, [1])[0]
        counts[f"clips_{name}"] += len(logits)
        self.throughput.clips += len(logits)
        self._records.append(MicroBatchRecord(number, loss, batch["index"]))
        return loss

    def _mix(
        self, stream_loss: StreamLoss, batch: dict[str, Any], rng: np.random.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return mixed clips `[B, 3, T, H, W]` and targets `[B, K]` on the device."""
        device = self.config.device
        target = batch["label"]
        if stream_loss.soft:
            target = batch["probs"]
        clip = clips_to_device(batch["clip"], device)
        clip, target = stream_loss.mixup(clip, target.to(device, non_blocking=True), rng)
        return clip.contiguous(memory_format=self.config.memory_format), target

    def _update(self, loss: Tensor, counts: Counts, bn_sync: BatchNormSync, share: float) -> float:
        """Take a share of the step, or skip one that is not finite, on all ranks alike.

        The host waits for the device once, for the sums over ranks: a loss or gradient that is
        not finite on any rank makes the sum not finite on all.
        """
        # Gradients must be unscaled before their norm is taken and clipped.
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        max_norm = self.config.clip_grad or math.inf
        world = distributed.world_size()
        grad_norm = nn.utils.clip_grad_norm_(parameters, max_norm)
        figures = distributed.sum_figures(
            {
                "loss": loss / world,
                "norm": grad_norm.double() / world,
                "new_bad": self.bad_videos.num_new,
                **counts,
            },
            self.config.device,
        )
        norm = figures.pop("norm")
        if figures.pop("new_bad"):
            self.bad_videos.sync()
        if not (math.isfinite(norm) and math.isfinite(figures["loss"])):
            bn_sync.restore()
            self._skip(figures["loss"], norm)
            return norm
        bn_sync.sync(share)
        self._skips_in_a_row = 0
        self.num_taken += 1
        with partial_step(self.optimizer, share):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.meter.add(**figures, steps=1)
        return norm

    def _skip(self, loss: float, norm: float) -> None:
        """Drop the gradients of a step that is not finite, report it and apply the limits."""
        self.optimizer.zero_grad(set_to_none=True)
        # The scale of float16 gradients is found by overflows: it starts high, and halves until
        # they fit. Only what happens at scale 1 is the fault of the training.
        overflow = self.scaler.is_enabled() and self.scaler.get_scale() > 1 and math.isfinite(loss)
        if self.scaler.is_enabled():
            self.scaler.update()
        self.num_skipped += 1
        self._skips_in_a_row += 1
        if overflow and self._skips_in_a_row < MAX_SKIPS_IN_A_ROW:
            scale = self.scaler.get_scale()
            logger.info("float16 gradients overflow: their scale is %g from now on", scale)
            return
        self._write_records(norm)
        path = self.config.output_dir / NON_FINITE
        position = (
            f"epoch {self.epoch + 1} step {self.step + 1}: loss {loss}, gradient norm {norm}; "
            f"videos in {path}"
        )
        if self.config.non_finite == "raise":
            raise UserError(
                f"not finite at {position} ({self.config.user_name('non_finite')} is raise)"
            )
        if self._skips_in_a_row >= MAX_SKIPS_IN_A_ROW:
            raise UserError(
                f"{self._skips_in_a_row} steps in a row were not finite, last at {position}: "
                "lower the learning rate"
            )
        logger.warning("skipped a step that is not finite: %s", position)

    def _write_records(self, norm: float) -> None:
        """Append one row per micro-batch of the step, over all ranks, to `non_finite.jsonl`."""
        rows: list[dict[str, Any]] = []
        for record in self._records:
            stream = self.stream_losses[record.stream].stream
            # A dict keeps the order; a video that replaced a bad one may be there twice.
            names = dict.fromkeys(stream.items[index].name for index in record.index.tolist())
            rows.append(
                {
                    "epoch": self.epoch + 1,
                    "step": self.step + 1,
                    "rank": distributed.rank(),
                    "stream": stream.name,
                    "loss": float(record.loss),
                    "grad_norm": norm,
                    "videos": list(names),
                }
            )
        path = None
        if distributed.is_main():
            path = self.config.output_dir / NON_FINITE
        lines = TolerantJsonLines(path)
        for part in distributed.gather_objects(rows):
            for row in part:
                lines.write(**row)
