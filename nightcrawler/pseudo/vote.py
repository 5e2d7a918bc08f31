"""Majority vote over any number of submissions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nightcrawler.pseudo.ensemble import row_order
from nightcrawler.pseudo.submission import Submission
from nightcrawler.utils.errors import UserError

TIES = ("probability", "class")


def majority(
    labels: np.ndarray, confidences: np.ndarray, num_classes: int, tie: str = "probability"
) -> np.ndarray:
    """The class int64 `[N]` that most of V voters name.

    Classes named equally often are told apart by the summed probability that their voters give them (`tie`
    `probability`), then, or at once (`class`), by the smaller class id. The order of the voters does not matter.

    Args:
        labels: classes `[V, N]`.
        confidences: each voter's probability of its own class `[V, N]`.
    """
    assert tie in TIES, tie
    # Summed from small to large: the same numbers give the same sum whoever comes first.
    order = np.argsort(confidences, axis=0, kind="stable")
    rows = np.arange(labels.shape[1])
    votes, support = np.zeros((2, labels.shape[1], num_classes))
    for voter in order:
        votes[rows, labels[voter, rows]] += 1
        support[rows, labels[voter, rows]] += confidences[voter, rows]
    leading = votes == votes.max(axis=1, keepdims=True)
    return np.where(leading, support if tie == "probability" else 0.0, -1.0).argmax(axis=1)


def vote(
    submissions: Sequence[Submission], sources: Sequence[str], tie: str = "probability"
) -> Submission:
    """The majority of submissions, joined by the videos' names, in the order of the first.

    Its confidence is the mean of those who voted for the class, its probabilities (where every submission has them)
    the mean of all.

    Raises:
        UserError: if the submissions are not of the same videos and classes.
    """
    first = submissions[0]
    labels, confidences, probs = [], [], []
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
            f"{', '.join(sources)}: of {', '.join(map(str, sorted(widths)))} classes: not the same ones"
        )
    named, given = np.stack(labels), np.stack(confidences)
    num_classes = widths.pop() if widths else 0
    winner = majority(named, given, max(num_classes, int(named.max(initial=0)) + 1), tie)
    for_it = named == winner
    mean = np.sort(given * for_it, axis=0).sum(axis=0) / for_it.sum(axis=0)
    whole = len(probs) == len(submissions)
    return Submission(
        first.names, winner, mean, np.mean(np.sort(probs, axis=0), axis=0) if whole else None
    )
