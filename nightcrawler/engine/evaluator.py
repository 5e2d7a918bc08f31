"""Evaluation: each video once, on any number of ranks, all (views, crops) pairs from one decode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nightcrawler.data.build import EvalSet
from nightcrawler.data.lists import VideoItem
from nightcrawler.engine.batches import iterate_batches
from nightcrawler.engine.stop_signals import StopSignals
from nightcrawler.pseudo.predictions import STATUS_OK, Predictions, softmax
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.progress import progress

# Numbers of views (in time) and crops (in space) of a video.
Pair = tuple[int, int]
# Result of one video: `status`, by pair its logits `[K]`, probabilities `[K]`, number of clips, and
# what its dataset `measured`.
Row = dict[str, Any]
# Status of a video of which a model gives no logits that are numbers.
NOT_FINITE = "error: the model's logits are not finite"
# Batches between two updates of the progress line where it cannot be rewritten in place.
PROGRESS_PERIOD = 20


def average_clips(logits: np.ndarray, method: str = "mean") -> tuple[np.ndarray, np.ndarray]:
    """Combine the logits of a video's clips.

    Args:
        logits: float64 `[M, K]` of M clips.
        method: `mean` or `max`, over clips, of logits and of probabilities alike.

    Returns:
        Logits and probabilities, float64 `[K]` each.
    """
    probs = softmax(logits)
    if method == "max":
        return logits.max(axis=0), probs.max(axis=0) / probs.max(axis=0).sum()
    return logits.mean(axis=0), probs.mean(axis=0)


def refuse_diverged(found: Predictions, where: str) -> None:
    """Refuse a model that is of no use, before it becomes the best there is.

    Args:
        found: its predictions.
        where: epoch and split, for the message.

    Raises:
        UserError: if its logits are finite for no video.
    """
    if set(found.status) == {NOT_FINITE}:
        raise UserError(
            f"{where}: the model's logits are finite for none of {len(found.names)} videos: the "
            "training has diverged; lower the learning rate"
        )


class Evaluator:
    """Evaluation of a model on the test clips of a split.

    Args:
        batch_clips: clips in a forward pass.
        device: device of the model.
        precision: autocast dtype of forward passes, `None` for float32.
        method: combination of a video's clips, `mean` or `max`.
        channels_last: use the channels-last memory format for clips.

    Example:
        >>> evaluator = Evaluator(batch_clips=8, device=torch.device("cpu"))
        >>> predictions = evaluator.run(model, eval_set, num_classes=11)[1, 1]
    """

    def __init__(
        self,
        batch_clips: int,
        device: torch.device,
        precision: torch.dtype | None = None,
        method: str = "mean",
        channels_last: bool = False,
    ) -> None:
        self.batch_clips = batch_clips
        self.device = device
        self.precision = precision
        self.method = method
        self.memory_format = torch.contiguous_format
        if channels_last:
            self.memory_format = torch.channels_last_3d

    def run(
        self,
        model: nn.Module,
        eval_set: EvalSet,
        num_classes: int,
        desc: str = "test",
        stop: StopSignals | None = None,
    ) -> dict[Pair, Predictions]:
        """Predict every video for each (views, crops) pair.

        Args:
            model: clips `[B, 3, T, H, W]` to logits `[B, K]`. Its training mode is restored.
            eval_set: the split: all its videos, this rank's loader, and the pairs.
            num_classes: K.
            desc: name for the progress line and messages.
            stop: stop request, polled after each batch.

        Returns:
            Predictions by pair, complete and equal on every rank.

        Raises:
            UserError: if a video is missing or came twice.
            Preempted: if a rank was asked to stop.
        """
        items = eval_set.items
        if stop is None:
            stop = StopSignals()
        was_training = model.training
        model.eval()
        batches = progress(
            stop.until(iterate_batches(eval_set.loader, items, desc)),
            len(eval_set.loader),
            desc,
            every=PROGRESS_PERIOD,
            enabled=distributed.is_main(),
        )
        rows: dict[int, Row] = {}
        for index, row in self.rows(model, batches, eval_set.pairs, num_classes):
            if index in rows:
                raise UserError(f"{desc}: video '{items[index].name}' came twice")
            rows[index] = row
        model.train(was_training)
        # After the loop, where all ranks meet: a rank that was stopped has rows missing.
        stop.check(self.device)
        merged = _merge_ranks(rows, items, desc)
        return {pair: as_predictions(merged, items, pair, num_classes) for pair in eval_set.pairs}

    def rows(
        self,
        model: nn.Module,
        batches: Iterable[list[dict[str, Any]]],
        pairs: Sequence[Pair],
        num_classes: int,
    ) -> Iterator[tuple[int, Row]]:
        """Yield the result of each video as it comes, for `as_predictions`.

        Args:
            model: clips `[B, 3, T, H, W]` to logits `[B, K]`, in evaluation mode.
            batches: lists of samples of a `ClipDataset`.
            pairs: the (views, crops) pairs.
            num_classes: K.

        Yields:
            Index of the video in its split, and its row.

        Raises:
            UserError: if the model gives another number of logits.
        """
        for batch in batches:
            for sample, logits in self._forward(model, batch):
                yield sample["index"], self._row(sample, logits, pairs, num_classes)

    @torch.inference_mode()
    def _forward(
        self, model: nn.Module, batch: list[dict[str, Any]]
    ) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
        """Yield each sample with its float64 logits `[M, K]`, `None` if it could not be read."""
        usable = [sample for sample in batch if sample["status"] == STATUS_OK]
        parts: Iterator[Tensor] = iter(())
        if usable:
            # Videos have different numbers of clips: all are joined and cut into equal chunks.
            clips = torch.cat([sample["clip"] for sample in usable])
            logits = torch.cat(
                [self.logits(model, chunk) for chunk in clips.split(self.batch_clips)]
            )
            parts = iter(logits.split([len(sample["clip"]) for sample in usable]))
        for sample in batch:
            if sample["status"] == STATUS_OK:
                yield sample, next(parts).double().cpu().numpy()
            else:
                yield sample, None

    def logits(self, model: nn.Module, clips: Tensor) -> Tensor:
        """Run one forward pass.

        Args:
            model: clips to logits.
            clips: float32 `[B, 3, T, H, W]` on the host.

        Returns:
            float32 `[B, K]` on the device.
        """
        clips = clips.to(self.device, non_blocking=True, memory_format=self.memory_format)
        enabled = self.precision is not None
        with torch.autocast(self.device.type, dtype=self.precision, enabled=enabled):
            logits: Tensor = model(clips)
        return logits.float()

    def _row(
        self,
        sample: dict[str, Any],
        logits: np.ndarray | None,
        pairs: Sequence[Pair],
        num_classes: int,
    ) -> Row:
        """Combine the clips of a video for each pair."""
        if logits is None:
            return {"status": sample["status"], "pairs": {}}
        # One bad video must not end the test of all others.
        if not np.isfinite(logits).all():
            return {"status": NOT_FINITE, "pairs": {}}
        if logits.shape[1] != num_classes:
            raise UserError(
                f"the model gives {logits.shape[1]} logits, expected num_classes {num_classes}"
            )
        combined = {}
        for pair in pairs:
            # The pairs share clips: `members` lists, for each pair, the clips that belong to it.
            members = sample["members"][pair]
            combined[pair] = (*average_clips(logits[members], self.method), len(members))
        return {"status": STATUS_OK, "pairs": combined, "measured": sample.get("measured")}


def _merge_ranks(rows: dict[int, Row], items: Sequence[VideoItem], desc: str) -> dict[int, Row]:
    """Return the rows of all ranks, on every rank, refusing missing and double videos."""
    # Each rank has its own videos; a video twice would be counted twice.
    merged: dict[int, Row] = {}
    for part in distributed.gather_objects(rows):
        twice = merged.keys() & part.keys()
        if twice:
            raise UserError(f"{desc}: video '{items[min(twice)].name}' came from two ranks")
        merged.update(part)
    missing = [item.name for index, item in enumerate(items) if index not in merged]
    if missing:
        raise UserError(
            f"{desc}: {len(missing)} of {len(items)} videos have no result, first '{missing[0]}'"
        )
    return merged


def as_predictions(
    rows: Mapping[int, Row], items: Sequence[VideoItem], pair: Pair, num_classes: int
) -> Predictions:
    """Convert the rows of `Evaluator.rows` to arrays.

    Args:
        rows: index to row, of all videos.
        items: the N videos, in the order of the result.
        pair: the (views, crops) pair to take.
        num_classes: K.

    Returns:
        float32 logits and probabilities `[N, K]`, NaN for videos without a prediction.
    """
    # NaN, not 0: a missing prediction must not look like one.
    num_videos = len(items)
    logits = np.full((num_videos, num_classes), np.nan, np.float32)
    probs = logits.copy()
    num_clips = np.zeros(num_videos, np.int64)
    for index in range(num_videos):
        if pair in rows[index]["pairs"]:
            logits[index], probs[index], num_clips[index] = rows[index]["pairs"][pair]
    return Predictions(
        logits=logits,
        probs=probs,
        labels=np.array([item.label for item in items], np.int64),
        names=[item.name for item in items],
        num_clips=num_clips,
        status=[rows[index]["status"] for index in range(num_videos)],
    )
