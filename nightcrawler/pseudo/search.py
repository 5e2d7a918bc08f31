"""The threshold of each class that reaches a precision or a recall, or the best F1, against known labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

GOALS = ("precision", "recall", "f1")
# Of a class that no video is given: nothing is known of it, so only certainty is enough.
NO_EVIDENCE = 1.0


@dataclass(frozen=True)
class ThresholdSearch:
    """What a search found.

    Attributes:
        thresholds: float64 `[K]`.
        reached: bool `[K]`: the goal is met on these labels.
    """

    thresholds: np.ndarray
    reached: np.ndarray


def search(
    classes: np.ndarray,
    confidences: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    goal: str,
    target: float = 1.0,
) -> ThresholdSearch:
    """A threshold per class; videos of unknown label (-1) are left out.

    `precision`: the lowest threshold whose precision is at least `target`, else the one of highest precision.
    `recall`: the highest threshold whose recall is at least `target`, else the lowest.
    `f1`: the threshold of highest F1 = 2PR / (P + R), the lowest of equals.

    Args:
        classes: predicted classes `[N]`.
        confidences: their probabilities `[N]`.
        labels: true classes `[N]`, -1 where unknown.
        goal: one of `GOALS`.
        target: precision or recall to reach, 0..1; not used for `f1`.
    """
    thresholds, reached = np.full(num_classes, NO_EVIDENCE), np.zeros(num_classes, bool)
    for label in range(num_classes):
        rows = (classes == label) & (labels >= 0)
        if not rows.any():
            continue
        candidates, precision, recall = _curve(
            confidences[rows], labels[rows] == label, int((labels == label).sum())
        )
        place, reached[label] = _choose(precision, recall, goal, target)
        thresholds[label] = min(candidates[place], 1.0)
    return ThresholdSearch(thresholds, reached)


def _curve(
    confidences: np.ndarray, correct: np.ndarray, num_true: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct confidences from high to low, and precision and recall of keeping those at least as high."""
    order = np.argsort(-confidences, kind="stable")
    ranked = confidences[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    hits = np.cumsum(correct[order])[last]
    return ranked[last], hits / (last + 1), hits / max(num_true, 1)


def _choose(
    precision: np.ndarray, recall: np.ndarray, goal: str, target: float
) -> tuple[int, bool]:
    """Place of the chosen threshold on the curve, and whether it meets the goal."""
    if goal == "f1":
        score = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        return int(np.flatnonzero(score == score.max())[-1]), bool(score.max() > 0)
    if goal == "precision":
        good = np.flatnonzero(precision >= target)
        best = np.flatnonzero(precision == precision.max())
        return (int(good[-1]), True) if len(good) else (int(best[-1]), False)
    assert goal == "recall", goal
    good = np.flatnonzero(recall >= target)
    return (int(good[0]), True) if len(good) else (len(recall) - 1, False)
