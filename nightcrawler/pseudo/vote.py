"""Submissions of one mode, and the majority vote over any number of submissions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nightcrawler.pseudo.ensemble import Joined, mix, row_order
from nightcrawler.pseudo.ensemble_recipe import EnsembleSpec
from nightcrawler.pseudo.label_switches import Switch, apply_switches
from nightcrawler.pseudo.predictions import softmax
from nightcrawler.pseudo.submission import Submission
from nightcrawler.utils.errors import UserError

TIES = ("probability", "class")


@dataclass(frozen=True)
class Mode:
    """One way to a submission.

    Attributes:
        ensemble: the models and their weights.
        switches: label switches, applied in this order.
    """

    ensemble: EnsembleSpec
    switches: list[Switch]


def mode_submission(joined: Joined, mode: Mode, softmax_again: bool = False) -> Submission:
    """Mix models, predict the most probable class, and apply label switches.

    Videos without a prediction get class 0, all classes being equally probable.

    Args:
        joined: predictions of the mode's models.
        mode: their weights and the switches.
        softmax_again: write softmax(probabilities) as the published files did. No class changes.
    """
    num_classes = joined.probs[0].shape[1]
    probs = mix(joined.probs, mode.ensemble.mixture(num_classes), joined.opinions)
    # A submission needs a row for every video, so a missing prediction is a guess.
    probs[~joined.ok] = 1 / num_classes
    switched = apply_switches(probs.argmax(axis=1), probs, mode.switches)
    labels = np.where(joined.ok, switched, 0)
    written = softmax(probs) if softmax_again else probs
    confidences = np.take_along_axis(written, labels[:, None], axis=1)[:, 0]
    return Submission(joined.names, labels, confidences, written)


def majority(
    labels: np.ndarray, confidences: np.ndarray, num_classes: int, tie: str = "probability"
) -> np.ndarray:
    """Return the class that most of V voters name, int64 `[N]`.

    The order of the voters does not matter.

    Args:
        labels: classes `[V, N]`.
        confidences: each voter's probability of its own class `[V, N]`.
        num_classes: K.
        tie: between classes named equally often, `probability` takes the one with the largest
            sum of its voters' probabilities, and of equals the smaller class id. `class`
            takes the smaller class id at once.
    """
    assert tie in TIES, tie
    # Summed from small to large, so that the same numbers in any order give the same sum.
    order = np.argsort(confidences, axis=0, kind="stable")
    rows = np.arange(labels.shape[1])
    votes = np.zeros((labels.shape[1], num_classes))
    support = np.zeros((labels.shape[1], num_classes))
    for voter in order:
        votes[rows, labels[voter, rows]] += 1
        support[rows, labels[voter, rows]] += confidences[voter, rows]
    # Classes that do not lead must lose even against a leader without support.
    leading = votes == votes.max(axis=1, keepdims=True)
    if tie == "class":
        support = np.zeros_like(support)
    return np.where(leading, support, -1.0).argmax(axis=1)


def vote(
    submissions: Sequence[Submission], sources: Sequence[str], tie: str = "probability"
) -> Submission:
    """Return the majority vote of submissions, joined by video name, in the order of the first.

    The confidence is the mean over the voters for the class. The probabilities are the mean over
    all submissions, if each of them has them.

    Args:
        submissions: one or more.
        sources: their files, for errors.
        tie: one of `TIES`, see `majority`.

    Raises:
        UserError: if the submissions are not of the same videos and classes.
    """
    first = submissions[0]
    labels = []
    confidences = []
    probs = []
    for submission, source in zip(submissions, sources, strict=True):
        order = row_order(submission.names, first.names, source, sources[0])
        rows = slice(None) if order is None else order
        labels.append(submission.labels[rows])
        confidences.append(submission.confidences[rows])
        if submission.probs is not None:
            probs.append(submission.probs[rows])
    widths = {one.shape[1] for one in probs}
    if len(widths) > 1:
        raise UserError(
            f"{', '.join(sources)}: of {', '.join(map(str, sorted(widths)))} classes, expected "
            "the same classes in all"
        )
    named = np.stack(labels)
    given = np.stack(confidences)
    # Without probabilities the files do not tell K: the largest class named is enough to count.
    num_classes = widths.pop() if widths else 0
    winner = majority(named, given, max(num_classes, int(named.max(initial=0)) + 1), tie)
    for_it = named == winner
    # Sorted for the same reason as in `majority`.
    mean = np.sort(given * for_it, axis=0).sum(axis=0) / for_it.sum(axis=0)
    # A mean over some voters only would not belong to the class that all of them chose.
    mean_probs = None
    if len(probs) == len(submissions):
        mean_probs = np.mean(np.sort(probs, axis=0), axis=0)
    return Submission(first.names, winner, mean, mean_probs)
