"""Threshold of each class that reaches a goal on videos of known label, with its evidence."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from nightcrawler.utils.intervals import wilson_bounds

GOALS = ("precision", "recall", "f1")
# No known clip was predicted as this class: require probability 1.0.
NO_EVIDENCE = 1.0
# Confidence at which a lower bound is the share itself.
PLAIN = 0.5


@dataclass(frozen=True)
class Evidence:
    """Known clips behind the threshold of a class.

    Attributes:
        predicted: known clips that are predicted as the class.
        clips: those of them that reach the threshold.
        right: those of `clips` whose label is the class.
        lower_bound: lower confidence bound of the precision at the threshold.
    """

    predicted: int = 0
    clips: int = 0
    right: int = 0
    lower_bound: float = 0.0


@dataclass(frozen=True)
class ThresholdSearch:
    """Result of a search for thresholds.

    Attributes:
        thresholds: float64 `[K]`.
        reached: bool `[K]`, the goal is met on the known labels.
        evidence: known clips behind each threshold `[K]`.
    """

    thresholds: np.ndarray
    reached: np.ndarray
    evidence: list[Evidence]


def lower_bound(right: np.ndarray, clips: np.ndarray, confidence: float) -> np.ndarray:
    """Return the one-sided lower confidence bounds of precisions.

    Args:
        right: numbers of right clips.
        clips: numbers of clips, above 0.
        confidence: probability that the bound is below the true precision, from 0.5 (the precision
            itself) to below 1.

    Example:
        >>> lower_bound(np.array([1, 10]), np.array([1, 10]), confidence=0.8)
        array([0.5853..., 0.9338...])
    """
    return wilson_bounds(right, clips, NormalDist().inv_cdf(confidence))[0]


def search(
    classes: np.ndarray,
    confidences: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    goal: str,
    target: float = 1.0,
    support: int = 1,
    confidence: float = PLAIN,
) -> ThresholdSearch:
    """Search the threshold of each class that reaches a goal on videos of known label.

    `precision`: the lowest threshold whose precision is at least `target` (its lower bound, on
    `support` or more videos), else the one of highest lower bound. `recall`: the highest threshold
    whose recall is at least `target`, else the lowest. `f1`: the threshold of highest F1 =
    2PR / (P + R), the lowest of equals.

    Args:
        classes: predicted classes `[N]`.
        confidences: their probabilities `[N]`.
        labels: true classes `[N]`, -1 where unknown.
        num_classes: K.
        goal: one of `GOALS`.
        target: precision or recall to reach, 0..1 (not used for `f1`).
        support: least number of known videos from which a precision is judged.
        confidence: of the lower bound of the precision, see `lower_bound`.
    """
    thresholds = np.full(num_classes, NO_EVIDENCE)
    reached = np.zeros(num_classes, bool)
    evidence = [Evidence()] * num_classes
    for label in range(num_classes):
        rows = (classes == label) & (labels >= 0)
        if not rows.any():
            continue
        candidates, clips, right = _curve(confidences[rows], labels[rows] == label)
        bounds = lower_bound(right, clips, confidence)
        if goal == "precision":
            place, reached[label] = _choose_precise(bounds, clips, target, support)
        else:
            recall = right / max(int((labels == label).sum()), 1)
            place, reached[label] = _choose(right / clips, recall, goal, target)
        # Sums of weights can round above 1, and a threshold is a probability.
        thresholds[label] = min(candidates[place], 1.0)
        evidence[label] = Evidence(
            int(rows.sum()), int(clips[place]), int(right[place]), float(bounds[place])
        )
    return ThresholdSearch(thresholds, reached, evidence)


def _curve(
    confidences: np.ndarray, correct: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return distinct confidences, high to low, with the numbers of videos and of right ones."""
    order = np.argsort(-confidences, kind="stable")
    ranked = confidences[order]
    # The last row of each run of equal confidences: ties are kept or dropped together.
    last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    return ranked[last], last + 1, np.cumsum(correct[order])[last]


def _choose_precise(
    bounds: np.ndarray, clips: np.ndarray, target: float, support: int
) -> tuple[int, bool]:
    """Return the place of the precise threshold on the curve, and whether it meets the target."""
    # Confidences fall along the curve: the last place is the lowest threshold.
    good = np.flatnonzero((bounds >= target) & (clips >= support))
    if len(good):
        return int(good[-1]), True
    return int(np.flatnonzero(bounds == bounds.max())[-1]), False


def _choose(
    precision: np.ndarray, recall: np.ndarray, goal: str, target: float
) -> tuple[int, bool]:
    """Return the place of the chosen threshold on the curve, and whether it meets the goal."""
    if goal == "f1":
        score = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        return int(np.flatnonzero(score == score.max())[-1]), bool(score.max() > 0)
    assert goal == "recall", goal
    good = np.flatnonzero(recall >= target)
    if len(good):
        return int(good[0]), True
    return len(recall) - 1, False
