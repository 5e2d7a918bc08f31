"""Counts and averages; percentages are taken only when they are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nightcrawler.pseudo.predictions import Predictions


def topk_correct(logits: Tensor, labels: Tensor, ks: Sequence[int]) -> Tensor:
    """How many rows of `logits` `[B, K]` have their label `[B]` among the k largest, for each k (at most K).

    Returns:
        int64 `[len(ks)]` on the device of the logits: nothing waits for it there.
    """
    largest = logits.topk(min(max(ks), logits.shape[1]), dim=1).indices
    hits = largest == labels[:, None]
    return torch.stack([hits[:, :k].any(dim=1).sum() for k in ks])


def mixed_topk_correct(logits: Tensor, target: Tensor, ks: Sequence[int]) -> Tensor:
    """`topk_correct` for mixed targets `[B, K]`: the scores of a target's two classes are added into the first.

    This is how PySlowFast counts training accuracy under mixup. A target of one class, smoothed or not, has no second.
    """
    values, classes = target.topk(2, dim=1)
    logits = logits.detach()
    first, second = logits.gather(1, classes).split(1, dim=1)
    merged = logits.scatter(
        1, classes, torch.cat([first + second, torch.zeros_like(second)], dim=1)
    )
    mixed = values[:, 1] > target.min(dim=1).values
    return topk_correct(torch.where(mixed[:, None], merged, logits), classes[:, 0], ks)


def wilson_interval(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson 1927), as (low, high) in [0, 1]; (0, 1) for no trials."""
    if total == 0:
        return 0.0, 1.0
    share = correct / total
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    half = (
        z
        / (1 + z * z / total)
        * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    )
    return max(centre - half, 0.0), min(centre + half, 1.0)


def accuracy(predictions: Predictions, labels: np.ndarray | None = None) -> dict[str, float | int]:
    """Top-1, top-5 and mean class accuracy (%) of the labelled videos.

    A video without a prediction counts as wrong.

    Args:
        predictions: N videos.
        labels: int64 `[N]`, where they are kept apart from the predictions.

    Returns:
        `num_videos` (labelled), `num_bad` (of those, without a prediction), `top1`, `top5`, `mean_class`.
    """
    labels = predictions.labels if labels is None else labels
    known = labels >= 0
    total = int(known.sum())
    if total == 0:
        return {"num_videos": 0, "num_bad": 0}
    ok = predictions.ok[known]
    probs = np.where(ok[:, None], predictions.probs[known], 0.0)
    labels = labels[known]
    order = np.argsort(-probs, axis=1, kind="stable")
    hit1 = (order[:, 0] == labels) & ok
    hit5 = (order[:, :5] == labels[:, None]).any(axis=1) & ok
    per_class = [hit1[labels == label].mean() for label in np.unique(labels)]
    return {
        "num_videos": total,
        "num_bad": int((~ok).sum()),
        "top1": 100.0 * float(hit1.mean()),
        "top5": 100.0 * float(hit5.mean()),
        "mean_class": 100.0 * float(np.mean(per_class)),
    }


class EpochMeter:
    """Sums over an epoch's steps; plain numbers, so that a checkpoint can hold them."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}

    def add(self, **values: float) -> None:
        """Add to the named sums."""
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def ratio(self, numerator: str, denominator: str) -> float:
        """One sum over another; NaN where there is nothing yet."""
        below = self.sums.get(denominator, 0.0)
        return self.sums.get(numerator, 0.0) / below if below else math.nan

    def reset(self) -> None:
        """Forget everything."""
        self.sums.clear()
