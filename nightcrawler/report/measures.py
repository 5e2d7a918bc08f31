"""Figures of a report, from plain arrays: accuracy, confusion, calibration, agreement, drift, brightness.

Percentages are in 0..100; `None` stands for what there is nothing to count of.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nightcrawler.engine.meters import wilson_interval

NUM_BINS = 10
MOST_FLOWS = 10


@dataclass(frozen=True)
class Guess:
    """What a model, an ensemble or a vote says of N videos.

    Attributes:
        names: the N videos.
        classes: int64 `[N]`, -1 without a prediction.
        confidences: float64 `[N]`, probability of the class.
        labels: int64 `[N]`, true classes, -1 where unknown.
        use: `label-free` or `oracle`.
        seeds: of the trainings behind it.
    """

    names: list[str]
    classes: np.ndarray
    confidences: np.ndarray
    labels: np.ndarray
    use: str
    seeds: tuple[int, ...]

    @property
    def known(self) -> np.ndarray:
        """Bool `[N]`: videos whose true class is known."""
        return self.labels >= 0

    @property
    def hits(self) -> np.ndarray:
        """Bool `[N]`: videos whose class is right; one without a prediction is not."""
        return self.known & (self.classes == self.labels)


def share(correct: int, total: int) -> dict[str, Any]:
    """`correct` of `total` in percent, with its 95 % Wilson interval."""
    low, high = wilson_interval(correct, total)
    percent = 100 * correct / total if total else None
    return {
        "correct": correct,
        "total": total,
        "percent": percent,
        "low": 100 * low,
        "high": 100 * high,
    }


def score(guess: Guess) -> dict[str, Any]:
    """Accuracy over the videos whose true class is known."""
    return share(int(guess.hits.sum()), int(guess.known.sum()))


def confusion(guess: Guess, num_classes: int) -> list[list[int]]:
    """`[K][K]` counts: row true class, column predicted class; videos without a prediction are left out."""
    rows = guess.known & (guess.classes >= 0)
    matrix = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(matrix, (guess.labels[rows], guess.classes[rows]), 1)
    return matrix.tolist()


def calibration(guess: Guess, num_bins: int = NUM_BINS) -> dict[str, Any]:
    """Expected calibration error in percent and its bins of equal width (Guo et al. 2017).

    ECE = sum over bins of n_bin / n * |accuracy_bin - mean confidence_bin|, over videos with a prediction and a true
    class; a bin holds confidences above its lower edge up to its upper edge.
    """
    rows = guess.known & (guess.classes >= 0)
    confidences, hits = guess.confidences[rows], guess.hits[rows]
    edges = np.linspace(0, 1, num_bins + 1)
    places = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, num_bins - 1)
    bins, ece = [], 0.0
    for place in range(num_bins):
        here = places == place
        if not here.any():
            continue
        mean, right = float(confidences[here].mean()), int(hits[here].sum())
        ece += abs(right - mean * int(here.sum())) / len(confidences)
        bins.append({"low": edges[place], "high": edges[place + 1], "confidence": 100 * mean})
        bins[-1] |= {"accuracy": share(right, int(here.sum()))}
    whole = 100 * float(confidences.mean()) if len(confidences) else None
    return {
        "ece": 100 * ece if len(confidences) else None,
        "clips": len(confidences),
        "mean": whole,
        "bins": bins,
    }


def agreement(guesses: Sequence[Guess]) -> list[list[float]]:
    """`[M][M]` percent of videos that two models give the same class, of those both have a prediction of.

    All models' videos are in one order.
    """
    classes = [guess.classes for guess in guesses]
    table = [[100.0] * len(classes) for _ in classes]
    for i, one in enumerate(classes):
        for j, other in enumerate(classes):
            both = (one >= 0) & (other >= 0)
            table[i][j] = 100 * float((one == other)[both].mean()) if both.any() else 0.0
    return table


def mean_agreement(table: Sequence[Sequence[float]]) -> float:
    """Mean over pairs of different models."""
    array = np.asarray(table)
    return float(array[np.triu_indices(len(array), 1)].mean())


def drift(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, Any]:
    """How pseudo-labels, name to class, moved from one round to the next.

    `flows` are the most frequent changes: class before, class after, number of videos.
    """
    both = before.keys() & after.keys()
    flows = Counter((before[name], after[name]) for name in both if before[name] != after[name])
    changed = flows.total()
    ordered = sorted(flows.items(), key=lambda item: (-item[1], item[0]))
    return {
        "both": len(both),
        "changed": changed,
        "new": len(after.keys() - both),
        "gone": len(before.keys() - both),
        "percent": 100 * changed / len(both) if both else None,
        "flows": [[one, other, count] for (one, other), count in ordered[:MOST_FLOWS]],
    }


def by_brightness(
    brightness: np.ndarray, hits: np.ndarray, num_bins: int = 5
) -> list[dict[str, Any]]:
    """Accuracy in bins of equally many clips, from dark to bright.

    Args:
        brightness: float `[n]`, mean of a clip's RGB values, 0..255.
        hits: bool `[n]`.
        num_bins: at most; fewer where clips are few.
    """
    order = np.argsort(brightness, kind="stable")
    parts = np.array_split(order, min(num_bins, len(order))) if len(order) else []
    return [
        {"low": float(brightness[part[0]]), "high": float(brightness[part[-1]])}
        | {"accuracy": share(int(hits[part].sum()), len(part))}
        for part in parts
    ]


def mistakes(guess: Guess, most: int) -> list[dict[str, Any]]:
    """The most confident wrong predictions, the surest first."""
    wrong = np.flatnonzero(guess.known & (guess.classes >= 0) & ~guess.hits)
    order = wrong[np.argsort(-guess.confidences[wrong], kind="stable")][:most]
    return [
        {
            "name": guess.names[row],
            "label": int(guess.labels[row]),
            "class": int(guess.classes[row]),
        }
        | {"confidence": 100 * float(guess.confidences[row])}
        for row in order
    ]
