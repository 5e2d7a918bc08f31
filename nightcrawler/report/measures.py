"""Measures of a report from plain arrays: accuracy, confusion, calibration, agreement, drift.

Percentages are in 0..100. `None` stands for the percentage of no clips.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix, roc_auc_score

from nightcrawler.engine.meters import wilson_interval
from nightcrawler.pseudo.churn import churn

# Bins of calibration, the usual number in the literature.
NUM_BINS = 10
# Most frequent changes of pseudo-labels that a report lists.
MAX_FLOWS = 10
# Models count as merged where less than this share of their first disagreement is left.
MERGED_BELOW = 2 / 3


@dataclass(frozen=True)
class TopPredictions:
    """Most probable classes of N videos by a model, an ensemble or a vote.

    Attributes:
        names: the N videos.
        classes: int64 `[N]`, -1 without a prediction.
        confidences: float64 `[N]`, probability of the class.
        labels: int64 `[N]`, true classes, -1 if unknown.
        use: `label-free` or `oracle`.
        seeds: of the trainings behind the predictions.
        probs: float `[N, K]`, None of submissions, which may hold a class and its probability only.
    """

    names: list[str]
    classes: np.ndarray
    confidences: np.ndarray
    labels: np.ndarray
    use: str
    seeds: tuple[int, ...]
    probs: np.ndarray | None = None

    @property
    def known(self) -> np.ndarray:
        """Return bool `[N]`, true for videos whose true class is known."""
        return self.labels >= 0

    @property
    def hits(self) -> np.ndarray:
        """Return bool `[N]`, true for videos whose class is right and not missing."""
        return self.known & (self.classes == self.labels)


def share(correct: int, total: int) -> dict[str, Any]:
    """Return `correct` of `total` in percent, with its 95 % Wilson interval.

    Args:
        correct: number of right predictions.
        total: number of videos.

    Returns:
        Keys `correct`, `total`, `percent`, `low` and `high`.
    """
    low, high = wilson_interval(correct, total)
    percent = 100 * correct / total if total else None
    return {
        "correct": correct,
        "total": total,
        "percent": percent,
        "low": 100 * low,
        "high": 100 * high,
    }


def score(predictions: TopPredictions) -> dict[str, Any]:
    """Return the accuracy over videos whose true class is known, as `share` does."""
    return share(int(predictions.hits.sum()), int(predictions.known.sum()))


def confusion(predictions: TopPredictions, num_classes: int) -> list[list[int]]:
    """Return `[K][K]` counts: rows are true classes, columns predicted ones.

    Videos without a prediction or a known class are left out.

    Args:
        predictions: of a split.
        num_classes: K.
    """
    rows = predictions.known & (predictions.classes >= 0)
    if not rows.any():
        # scikit-learn refuses empty arrays.
        return np.zeros((num_classes, num_classes), np.int64).tolist()
    labels = predictions.labels[rows]
    classes = predictions.classes[rows]
    return confusion_matrix(labels, classes, labels=range(num_classes)).tolist()


def calibration(predictions: TopPredictions, num_bins: int = NUM_BINS) -> dict[str, Any]:
    """Return the expected calibration error in percent, and its bins (Guo et al. 2017, section 2).

    ECE = sum over bins of n_bin / n * |accuracy_bin - mean confidence_bin|, over videos with a
    prediction and a true class. Bins have equal width, and hold confidences above their lower edge
    up to their upper edge.

    Args:
        predictions: of a split.
        num_bins: number of bins.

    Returns:
        `ece`, the number of `clips`, the `mean` confidence, and `bins` that are not empty.
    """
    rows = predictions.known & (predictions.classes >= 0)
    confidences = predictions.confidences[rows]
    hits = predictions.hits[rows]
    num_clips = len(confidences)
    if not num_clips:
        return {"ece": None, "clips": 0, "mean": None, "bins": []}
    edges = np.linspace(0, 1, num_bins + 1)
    # searchsorted puts a confidence on an edge into the bin below it. The first bin also holds 0.
    places = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, num_bins - 1)
    bins = []
    ece = 0.0
    for place in range(num_bins):
        here = places == place
        if not here.any():
            continue
        count = int(here.sum())
        mean = float(confidences[here].mean())
        correct = int(hits[here].sum())
        ece += abs(correct - mean * count) / num_clips
        bins.append(
            {
                "low": edges[place],
                "high": edges[place + 1],
                "confidence": 100 * mean,
                "accuracy": share(correct, count),
            }
        )
    return {
        "ece": 100 * ece,
        "clips": num_clips,
        "mean": 100 * float(confidences.mean()),
        "bins": bins,
    }


def separation(predictions: TopPredictions) -> dict[str, float | None]:
    """Return how well the confidence tells right from wrong, and known classes from unknown ones.

    Each figure is an area under the ROC curve (AUROC) in percent: how often, of two clips of which
    one is right or known, that one has the greater confidence. Chance is 50.

    Args:
        predictions: of a split.

    Returns:
        `right`, and `known`: the mean over the classes with clips, each taken for unknown in turn.
        Its column is left out of the probabilities, and the rest is scaled to the sum of 1. The
        models have learned the class, so this says less than a training without it would. None
        where there are not both kinds of clips.
    """
    rows = predictions.known & (predictions.classes >= 0)
    right = _auroc(predictions.hits[rows], predictions.confidences[rows])
    if predictions.probs is None:
        return {"right": right, "known": None}
    probs = predictions.probs[rows]
    labels = predictions.labels[rows]
    found = []
    for label in np.unique(labels):
        others = np.delete(probs, label, axis=1)
        confidences = others.max(axis=1, initial=0.0) / np.maximum(others.sum(axis=1), 1e-12)
        figure = _auroc(labels != label, confidences)
        if figure is not None:
            found.append(figure)
    return {"right": right, "known": float(np.mean(found)) if found else None}


def _auroc(positive: np.ndarray, scores: np.ndarray) -> float | None:
    """Return the AUROC of scores for bool `[n]`, None where all are of one kind."""
    if positive.all() or not positive.any():
        return None
    return 100 * float(roc_auc_score(positive, scores))


def agreement(models: Sequence[TopPredictions]) -> list[list[float]]:
    """Return `[M][M]` percentages of videos to which two models give the same class.

    Only videos with a prediction of both models count.

    Args:
        models: predictions of M models on the same videos in the same order.
    """
    classes = [model.classes for model in models]
    table = [[100.0] * len(classes) for _ in classes]
    for i, one in enumerate(classes):
        for j, other in enumerate(classes):
            both = (one >= 0) & (other >= 0)
            table[i][j] = 100 * float((one == other)[both].mean()) if both.any() else 0.0
    return table


def mean_agreement(table: Sequence[Sequence[float]]) -> float:
    """Return the mean agreement over pairs of different models.

    Args:
        table: of `agreement`.
    """
    # The upper triangle without the diagonal: agreement is symmetric.
    array = np.asarray(table)
    return float(array[np.triu_indices(len(array), 1)].mean())


def merged(before: float, now: float) -> bool:
    """Return whether models have merged.

    Args:
        before: percentage of clips to which two of them gave the same class at first.
        now: the same percentage later.
    """
    return 100 - now < MERGED_BELOW * (100 - before)


def drift(
    before: Mapping[str, int], after: Mapping[str, int], truth: Mapping[str, int] | None = None
) -> dict[str, Any]:
    """Count the changes of pseudo-labels from one round to the next.

    Args:
        before: name to class in the earlier round.
        after: name to class in the later round.
        truth: name to true class, below 0 where unknown, to count right labels.

    Returns:
        Numbers of videos with a label in `both` rounds, `changed`, `new` and `gone`, `percent`
        changed, `flows`: the most frequent changes as class before, class after and count,
        `moved`: the percentage of labels that are not the same, `right`: the share of right labels
        of each kind, as of the later round (of those `gone`, as of the earlier one), and
        `still_wrong`: of wrong labels of clips with a label in both rounds, those that are
        the same.
    """
    both = before.keys() & after.keys()
    counts: Counter[tuple[int, int]] = Counter()
    for name in both:
        if before[name] != after[name]:
            counts[before[name], after[name]] += 1
    changed = counts.total()
    flows = []
    # Sets have no order, so ties are ordered by class to make reports reproducible.
    for classes, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        flows.append([*classes, count])
    moves = churn(before, after)
    same = {name for name in both if before[name] == after[name]}
    known = {name: label for name, label in (truth or {}).items() if label >= 0}
    wrong = {name for name in both & known.keys() if before[name] != known[name]}
    return {
        "both": len(both),
        "changed": changed,
        "new": moves.new,
        "gone": moves.dropped,
        "percent": 100 * changed / len(both) if both else None,
        "moved": 100 * moves.moved,
        "flows": flows[:MAX_FLOWS],
        "right": {
            "same": _right(same, after, known),
            "changed": _right(both - same, after, known),
            "new": _right(after.keys() - both, after, known),
            "gone": _right(before.keys() - both, before, known),
        },
        "still_wrong": share(len(wrong & same), len(wrong)),
    }


def _right(
    names: Collection[str], labels: Mapping[str, int], known: Mapping[str, int]
) -> dict[str, Any]:
    """Return the share of right labels among the clips whose true class is known."""
    measured = [name for name in names if name in known]
    return share(sum(labels[name] == known[name] for name in measured), len(measured))


def by_brightness(
    brightness: np.ndarray, hits: np.ndarray, num_bins: int = 5
) -> list[dict[str, Any]]:
    """Return the accuracy in bins of equally many clips, from dark to bright.

    Args:
        brightness: float `[n]`, mean of a clip's RGB values, 0..255.
        hits: bool `[n]`, true for right predictions.
        num_bins: number of bins, fewer if there are fewer clips.

    Returns:
        Brightness of the darkest (`low`) and brightest clip (`high`), and `accuracy` of each bin.
    """
    # Stable, so that clips of equal brightness keep their order and reports are reproducible.
    order = np.argsort(brightness, kind="stable")
    bins: list[dict[str, Any]] = []
    if not len(order):
        return bins
    for part in np.array_split(order, min(num_bins, len(order))):
        bins.append(
            {
                "low": float(brightness[part[0]]),
                "high": float(brightness[part[-1]]),
                "accuracy": share(int(hits[part].sum()), len(part)),
            }
        )
    return bins


def mistakes(predictions: TopPredictions, count: int) -> list[dict[str, Any]]:
    """Return the most confident wrong predictions, in descending order of confidence.

    Args:
        predictions: of a split.
        count: largest number of mistakes.

    Returns:
        `name`, `label` (true class), `class` (predicted) and `confidence` in percent of each.
    """
    # A clip without a prediction is wrong, but has no confidence to be ranked by.
    is_wrong = predictions.known & (predictions.classes >= 0) & ~predictions.hits
    wrong = np.flatnonzero(is_wrong)
    order = wrong[np.argsort(-predictions.confidences[wrong], kind="stable")][:count]
    rows = []
    for row in order:
        rows.append(
            {
                "name": predictions.names[row],
                "label": int(predictions.labels[row]),
                "class": int(predictions.classes[row]),
                "confidence": 100 * float(predictions.confidences[row]),
            }
        )
    return rows
