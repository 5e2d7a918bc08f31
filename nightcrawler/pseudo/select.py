"""Which videos get a pseudo-label. Every way ends in one confidence threshold per class.

A threshold keeps a video whose confidence (its largest probability) is at least the threshold of its class (its most
probable one). Videos that tie at a threshold are all kept, so that the order of rows never matters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def most_probable(probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Class int64 `[N]` (the first of equals) and confidence float64 `[N]` of probabilities `[N, K]`."""
    classes = probs.argmax(axis=1)
    return classes, np.take_along_axis(probs, classes[:, None], axis=1)[:, 0]


def selected(classes: np.ndarray, confidences: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Bool `[N]`: confidence at least the threshold `[K]` of the class."""
    return confidences >= thresholds[classes]


def keep_all(num_classes: int) -> np.ndarray:
    """Thresholds `[K]` that keep every video."""
    return np.zeros(num_classes)


def top_fraction(
    classes: np.ndarray, confidences: np.ndarray, num_classes: int, fraction: float
) -> np.ndarray:
    """Thresholds `[K]` that keep this fraction of each class, its most confident videos (rounded up)."""
    counts = np.bincount(classes, minlength=num_classes)
    return quota(classes, confidences, np.array([_ceil(fraction * count) for count in counts]))


def class_balanced(
    classes: np.ndarray, confidences: np.ndarray, fraction: float, prior: Sequence[float]
) -> np.ndarray:
    """Thresholds `[K]` that keep this fraction of all videos, shared out among the classes as `prior` `[K]` says.

    A class that has fewer videos than its share keeps them all; `prior` is positive and need not sum to 1.
    """
    shares = np.asarray(prior, np.float64) / np.sum(prior)
    return quota(
        classes, confidences, np.array([_ceil(fraction * len(classes) * share) for share in shares])
    )


def _ceil(amount: float) -> int:
    """Rounded up, at least 1, but for what only floating point adds (0.07 x 100 is 7)."""
    return max(math.ceil(amount - 1e-9), 1)


def quota(classes: np.ndarray, confidences: np.ndarray, quota: np.ndarray) -> np.ndarray:
    """The confidence of each class's `quota`-th most confident video; 0 for a class that keeps all it has."""
    thresholds = np.zeros(len(quota))
    for label, count in enumerate(quota):
        own = confidences[classes == label]
        if count < len(own):
            thresholds[label] = np.partition(own, len(own) - count)[len(own) - count]
    return thresholds
