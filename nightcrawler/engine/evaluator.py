"""Evaluation: every video once, on any number of ranks, all requested views and crops from one decode."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nightcrawler.data.build import EvalSet
from nightcrawler.data.lists import VideoItem
from nightcrawler.engine.loading import iterate_batches
from nightcrawler.engine.signals import StopSignals
from nightcrawler.pseudo.predictions import STATUS_OK, Predictions, softmax
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.progress import progress

Pair = tuple[int, int]


def join_clips(logits: np.ndarray, method: str = "mean") -> tuple[np.ndarray, np.ndarray]:
    """One row per video from the logits of its clips.

    Args:
        logits: float64 `[M, K]` of M clips.
        method: `mean` or `max`, over clips, of logits and of probabilities alike.

    Returns:
        logits and probabilities, `[K]` each.
    """
    probs = softmax(logits)
    if method == "max":
        return logits.max(axis=0), probs.max(axis=0) / probs.max(axis=0).sum()
    return logits.mean(axis=0), probs.mean(axis=0)


class Evaluator:
    """Runs a model over the test clips of a split.

    Args:
        batch_clips: clips in a forward pass.
        device: where the model is.
        precision: autocast dtype of forward passes, `None` for float32.
        method: how a video's clips are joined, `mean` or `max`.
        channels_last: hand clips over in channels-last memory format.
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
        self.memory_format = torch.channels_last_3d if channels_last else torch.contiguous_format

    def run(
        self,
        model: nn.Module,
        eval_set: EvalSet,
        num_classes: int,
        desc: str = "test",
        stop: StopSignals | None = None,
    ) -> dict[Pair, Predictions]:
        """Predictions of every video for each (views, crops) pair, complete on every rank.

        Args:
            model: clips `[B, 3, T, H, W]` to logits `[B, K]`.
            eval_set: the split: all its videos, this rank's loader, and the (views, crops) pairs.
            num_classes: K.
            desc: name for the progress line.
            stop: looked at after each batch.

        Raises:
            UserError: if a video is missing or came twice.
            Preempted: if a rank was asked to stop.
        """
        items, pairs, stop = eval_set.items, eval_set.pairs, stop or StopSignals()
        was_training = model.training
        model.eval()
        rows: dict[int, dict[str, Any]] = {}
        batches, total = (
            stop.until(iterate_batches(eval_set.loader, items, desc)),
            len(eval_set.loader),
        )
        shown = progress(batches, total, desc, every=20, enabled=distributed.is_main())
        for index, row in self.rows(model, shown, pairs, num_classes):
            if index in rows:
                raise UserError(f"{desc}: video '{items[index].name}' came twice")
            rows[index] = row
        model.train(was_training)
        stop.check(self.device)
        return self._gather(rows, items, pairs, num_classes, desc)

    def rows(
        self,
        model: nn.Module,
        batches: Iterable[list[dict[str, Any]]],
        pairs: Sequence[Pair],
        num_classes: int,
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        """Index and row of each sample of a `ClipDataset`, as they come; `as_predictions` makes arrays of them.

        Args:
            model: clips to logits, in evaluation mode.
            batches: lists of samples.
            pairs: the (views, crops) pairs.
            num_classes: K.
        """
        for batch in batches:
            for sample, logits in self._forward(model, batch):
                yield sample["index"], self._row(sample, logits, pairs, num_classes)

    @torch.inference_mode()
    def _forward(
        self, model: nn.Module, batch: list[dict[str, Any]]
    ) -> Iterator[tuple[dict[str, Any], np.ndarray | None]]:
        """Logits of each sample of a batch, its clips run in chunks of `batch_clips`."""
        usable = [sample for sample in batch if sample["status"] == STATUS_OK]
        if usable:
            clips = torch.cat([sample["clip"] for sample in usable])
            logits = torch.cat(
                [self.logits(model, chunk) for chunk in clips.split(self.batch_clips)]
            )
            parts = iter(logits.split([len(sample["clip"]) for sample in usable]))
        for sample in batch:
            ok = sample["status"] == STATUS_OK
            yield sample, next(parts).double().cpu().numpy() if ok else None

    def logits(self, model: nn.Module, clips: Tensor) -> Tensor:
        """float32 logits `[B, K]` of clips `[B, 3, T, H, W]` on the host."""
        clips = clips.to(self.device, non_blocking=True, memory_format=self.memory_format)
        enabled = self.precision is not None
        with torch.autocast(self.device.type, dtype=self.precision, enabled=enabled):
            return model(clips).float()

    def _row(
        self,
        sample: dict[str, Any],
        logits: np.ndarray | None,
        pairs: Sequence[Pair],
        num_classes: int,
    ) -> dict[str, Any]:
        if logits is None:
            return {"status": sample["status"], "pairs": {}}
        if not np.isfinite(logits).all():
            return {"status": "error: the model's logits are not finite", "pairs": {}}
        if logits.shape[1] != num_classes:
            raise UserError(
                f"the model gives {logits.shape[1]} logits, MODEL.NUM_CLASSES is {num_classes}"
            )
        joined = {}
        for pair in pairs:
            members = sample["members"][pair]
            joined[pair] = (*join_clips(logits[members], self.method), len(members))
        return {"status": STATUS_OK, "pairs": joined}

    def _gather(
        self,
        rows: dict[int, dict[str, Any]],
        items: Sequence[VideoItem],
        pairs: Sequence[Pair],
        num_classes: int,
        desc: str,
    ) -> dict[Pair, Predictions]:
        merged: dict[int, dict[str, Any]] = {}
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
        return {pair: as_predictions(merged, items, pair, num_classes) for pair in pairs}


def as_predictions(
    rows: Mapping[int, dict[str, Any]], items: Sequence[VideoItem], pair: Pair, num_classes: int
) -> Predictions:
    """Predictions of the videos, in their order, from `Evaluator.rows` of them all."""
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
