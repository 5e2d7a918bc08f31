"""Confidence thresholds per class: which videos get a pseudo-label.

Every way of selecting ends in one threshold per class. A video is kept if its confidence (its
largest probability) is at least the threshold of its class (its most probable one). Videos that
tie at a threshold are all kept, so that the order of rows never matters.

Three ways lead to thresholds: a share of the videos (`top_fraction`, `class_balanced`), a
precision, recall or F1 on known labels (`threshold_search`), and the rules of `Calibration` on
clips that look dark and whose classes are known (`calibrated`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nightcrawler.pseudo.ensemble import Joined
from nightcrawler.pseudo.threshold_search import ThresholdSearch, search
from nightcrawler.utils.errors import UserError

# Metadata of fields of recipes that `workflow.recipe_text` leaves out at their default.
OPTIONAL = "optional"
LABELLED = "labelled"
EQUAL = "equal"
RULES = ("precision", "fraction", "support", "floor", "ceiling")


def most_probable(probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the most probable class of each video and its confidence.

    Args:
        probs: probabilities `[N, K]`.

    Returns:
        Classes int64 `[N]` (the first of equals) and confidences float64 `[N]`.
    """
    classes = probs.argmax(axis=1)
    return classes, np.take_along_axis(probs, classes[:, None], axis=1)[:, 0]


def selected(classes: np.ndarray, confidences: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return the mask of videos whose confidence reaches the threshold of their class.

    Args:
        classes: predicted classes `[N]`.
        confidences: their probabilities `[N]`.
        thresholds: one for each class `[K]`.

    Returns:
        The mask, bool `[N]`.
    """
    return confidences >= thresholds[classes]


# --- thresholds that keep a share of the videos ---


def keep_all(num_classes: int) -> np.ndarray:
    """Return thresholds `[K]` that keep every video."""
    return np.zeros(num_classes)


def top_fraction(
    classes: np.ndarray, confidences: np.ndarray, num_classes: int, fraction: float
) -> np.ndarray:
    """Return thresholds `[K]` that keep the most confident videos of each class.

    Args:
        classes: predicted classes `[N]`.
        confidences: their probabilities `[N]`.
        num_classes: K.
        fraction: share of each class to keep, rounded up to whole videos.
    """
    counts = np.bincount(classes, minlength=num_classes)
    kept = np.array([_ceil(fraction * count) for count in counts])
    return quota(classes, confidences, kept)


def class_balanced(
    classes: np.ndarray, confidences: np.ndarray, fraction: float, prior: Sequence[float]
) -> np.ndarray:
    """Return thresholds `[K]` that keep a fraction of all videos, shared out by a class prior.

    A class that has fewer videos than its share keeps them all.

    Args:
        classes: predicted classes `[N]`.
        confidences: their probabilities `[N]`.
        fraction: share of all videos to keep.
        prior: positive weight of each class `[K]`, of any sum.
    """
    shares = np.asarray(prior, np.float64) / np.sum(prior)
    counts = np.array([_ceil(fraction * len(classes) * share) for share in shares])
    return quota(classes, confidences, counts)


def _ceil(amount: float) -> int:
    """Round up, at least to 1."""
    # Less the error of floating point: 0.07 x 100 is a little more than 7.
    return max(math.ceil(amount - 1e-9), 1)


def quota(classes: np.ndarray, confidences: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return thresholds `[K]` that keep a number of videos of each class, the most confident.

    Args:
        classes: predicted classes `[N]`.
        confidences: their probabilities `[N]`.
        counts: videos to keep of each class `[K]`. A class with no more than that keeps all.
    """
    thresholds = np.zeros(len(counts))
    for label, count in enumerate(counts):
        own = confidences[classes == label]
        if count < len(own):
            # The count-th largest, without sorting all of them.
            thresholds[label] = np.partition(own, len(own) - count)[len(own) - count]
    return thresholds


# --- thresholds calibrated without labels of dark clips ---


@dataclass(frozen=True)
class Calibration:
    """Settings of the calibration on clips that look dark and whose classes are known.

    Six rules apply, in this order:

    - agreement: a video counts only if enough models agree with their mixture on its class, where
      a label that the round before did not give may need more of them.
    - precision: a class has the lowest threshold whose precision on the known clips has a lower
      confidence bound of at least `precision`, from at least `support` clips.
    - fraction: a class that reaches it at no threshold keeps a share of its most confident videos
      instead, the same in every round: nothing says that more of them are right.
    - support: so does a class that is predicted for fewer than `support` known clips.
    - floor: no class keeps less than this share of its number of videos by the prior, unless it
      has fewer.
    - ceiling: no class keeps more than this multiple of it.

    Attributes:
        precision: of each class's pseudo-labels, on the known clips.
        split: of the known clips.
        agree: models that must agree, a number (int) or a share (float) of them, 0 for none.
        prior: `labelled` (class frequencies of the labelled list), `equal`, or one number per
            class.
        floor: least share of the number of videos that the prior gives a class.
        ceiling: largest multiple of that number.
        support: least number of known clips that settle a threshold.
        confidence: of the lower bound of the precision, see
            `threshold_search.lower_bound`.
        agree_new: like `agree`, for labels that the round before did not give, `None` for `agree`.
    """

    precision: float = 0.8
    split: str = "val_dark"
    agree: float = 0.75
    prior: str | tuple[float, ...] = LABELLED
    floor: float = 0.25
    ceiling: float = 2.0
    support: int = 5
    confidence: float = 0.8
    # Left out of the text of recipes where it is not given, so that signatures stay.
    agree_new: float | None = field(default=None, metadata={OPTIONAL: True})


def agreeing(joined: Joined, classes: np.ndarray, agree: float) -> np.ndarray:
    """Return the mask of videos on whose class enough models agree.

    Args:
        joined: the models' predictions.
        classes: class of each video by the mixture `[N]`.
        agree: models that must find this class the most probable, a number (int), or a share
            (float) of those that have an opinion.

    Returns:
        The mask, bool `[N]`.

    Raises:
        UserError: if there are fewer models than that.
    """
    num_models = len(joined.probs)
    if not isinstance(agree, float) and agree > num_models:
        raise UserError(
            f"agree {agree}: {agree} models must agree on a class, but there are only {num_models} "
            "models: lower it"
        )
    votes = np.zeros(len(classes), np.int64)
    for probs, has_opinion in zip(joined.probs, joined.opinions, strict=True):
        votes += (probs.argmax(axis=1) == classes) & has_opinion
    least = np.full(len(classes), agree)
    if isinstance(agree, float):
        # A share of those who have an opinion, rounded up: half of three models are two.
        least = np.ceil(agree * np.sum(joined.opinions, axis=0) - 1e-9)
    return np.asarray(votes >= least)


def search_precision(known: Joined, mixed: np.ndarray, calibration: Calibration) -> ThresholdSearch:
    """Search the threshold of each class that reaches the precision on the known clips.

    Args:
        known: the models' predictions for clips with labels.
        mixed: their mixture `[N, K]`.
        calibration: agreement and precision.

    Raises:
        UserError: if no clip has a prediction and a label.
    """
    classes, confidences = most_probable(mixed)
    rows = known.ok & (known.labels >= 0)
    if not rows.any():
        raise UserError(
            f"none of the {len(known.names)} clips to calibrate with has a prediction and a label"
        )
    # As for the videos to be labelled: a threshold must be searched on the same kind of video.
    rows &= agreeing(known, classes, calibration.agree)
    return search(
        classes[rows],
        confidences[rows],
        known.labels[rows],
        mixed.shape[1],
        "precision",
        calibration.precision,
        calibration.support,
        calibration.confidence,
    )


def calibrated(
    classes: np.ndarray,
    confidences: np.ndarray,
    found: ThresholdSearch,
    fraction: float,
    prior: Sequence[float],
    calibration: Calibration,
) -> tuple[np.ndarray, list[str]]:
    """Apply the rules of `Calibration` to the videos on which the models agree.

    Args:
        classes: predicted classes `[N]`.
        confidences: their probabilities `[N]`.
        found: thresholds that reach the precision on the known clips.
        fraction: share to keep of a class that does not reach the precision, or whose known
            clips are too few.
        prior: positive weight of each class `[K]`, of any sum.
        calibration: support, floor and ceiling.

    Returns:
        Thresholds float64 `[K]`, and the deciding one of `RULES` for each class.
    """
    num_classes = len(found.thresholds)
    # For classes whose precision on the known clips says that no threshold can be trusted.
    most_confident = top_fraction(classes, confidences, num_classes, fraction)
    thresholds = np.where(found.reached, found.thresholds, most_confident)
    counts = np.bincount(classes[selected(classes, confidences, thresholds)], minlength=num_classes)
    by_prior = len(classes) * np.asarray(prior, np.float64) / np.sum(prior)
    # Limits in whole videos, less the error of floating point as in `_ceil`.
    least = np.ceil(calibration.floor * by_prior - 1e-9)
    most = np.maximum(np.ceil(calibration.ceiling * by_prior - 1e-9), 1)
    bounded_counts = np.maximum(np.clip(counts, least, most), 1).astype(np.int64)
    # Used only where a limit is crossed: its threshold keeps exactly the limit, ties apart.
    bounded = quota(classes, confidences, bounded_counts)
    low = counts < least
    high = counts > most
    few = np.array([one.predicted < calibration.support for one in found.evidence])
    cases = {"ceiling": high, "floor": low, "precision": found.reached, "support": few}
    deciding = np.select(list(cases.values()), list(cases), "fraction")
    return np.where(low | high, bounded, thresholds), deciding.tolist()
