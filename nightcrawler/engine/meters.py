"""Counts of correct predictions, accuracy and its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.utils.intervals import wilson_bounds


def topk_correct(logits: Tensor, labels: Tensor, ks: Sequence[int]) -> Tensor:
    """Count the rows whose label is among the k largest logits, for each k.

    Args:
        logits: float `[B, K]`.
        labels: int64 `[B]`.
        ks: values of k, where one above K counts as K.

    Returns:
        int64 `[len(ks)]` on the device of the logits, without synchronisation with the host.
    """
    largest = logits.topk(min(max(ks), logits.shape[1]), dim=1).indices
    hits = largest == labels[:, None]
    return torch.stack([hits[:, :k].any(dim=1).sum() for k in ks])


def mixed_topk_correct(logits: Tensor, target: Tensor, ks: Sequence[int]) -> Tensor:
    """Count as `topk_correct` does, for targets mixed from two classes.

    As PySlowFast counts training accuracy under mixup: the logits of the two classes are added
    into the first one, and the second one's becomes 0. A target of a single class, smoothed or
    not, is counted by its label.

    Args:
        logits: float `[B, K]`.
        target: float `[B, K]`, rows sum to 1.
        ks: values of k, where one above K counts as K.

    Returns:
        int64 `[len(ks)]` on the device of the logits.
    """
    values, classes = target.topk(2, dim=1)
    logits = logits.detach()
    first, second = logits.gather(1, classes).split(1, dim=1)
    sums = torch.cat([first + second, torch.zeros_like(second)], dim=1)
    merged = logits.scatter(1, classes, sums)
    # Label smoothing gives every class the same floor; only a mixed target's second is above it.
    mixed = values[:, 1] > target.min(dim=1).values
    return topk_correct(torch.where(mixed[:, None], merged, logits), classes[:, 0], ks)


def wilson_interval(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Return the confidence interval of a proportion, see `wilson_bounds`.

    Args:
        correct: number of successes.
        total: number of trials.
        z: quantile of the normal distribution, 1.96 for 95 %.

    Returns:
        Lower and upper bound in [0, 1], which are (0, 1) for no trials.
    """
    if total == 0:
        return 0.0, 1.0
    low, high = wilson_bounds(correct, total, z)
    return max(float(low), 0.0), min(float(high), 1.0)


def accuracy(predictions: Predictions, labels: np.ndarray | None = None) -> dict[str, float | int]:
    """Return top-1, top-5 and mean class accuracy (%) of the labelled videos.

    A video without a prediction counts as wrong.

    Args:
        predictions: N videos.
        labels: int64 `[N]`, negative for unlabelled, by default those of the predictions.

    Returns:
        `num_videos` (labelled), `num_bad` (of those, without a prediction), `top1`, `top5`,
        `mean_class`. Only the first two where no video is labelled.
    """
    if labels is None:
        labels = predictions.labels
    known = labels >= 0
    total = int(known.sum())
    if total == 0:
        return {"num_videos": 0, "num_bad": 0}
    # NaN of missing predictions would be sorted first: 0 instead, and `ok` below.
    ok = predictions.ok[known]
    probs = np.where(ok[:, None], predictions.probs[known], 0.0)
    labels = labels[known]
    # A stable sort: of equal probabilities the lower class wins, on every machine.
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
    """Named sums over the steps of an epoch, as plain numbers that a checkpoint can hold."""

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}

    def add(self, **values: float) -> None:
        """Add to the named sums.

        Args:
            **values: name to summand.
        """
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)

    def ratio(self, numerator: str, denominator: str) -> float:
        """Divide one sum by another, NaN where the denominator is 0 or absent."""
        below = self.sums.get(denominator, 0.0)
        if not below:
            return math.nan
        return self.sums.get(numerator, 0.0) / below

    def reset(self) -> None:
        """Drop all sums."""
        self.sums.clear()
