"""Table of a vote's answers for people: `video,class,probability,agreement,status`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.predict.trust import DISAGREE, LEAST_SUPPORT, MARGIN, SURE, UNSURE
from nightcrawler.pseudo.ensemble import Joined, row_order
from nightcrawler.pseudo.predictions import STATUS_OK
from nightcrawler.pseudo.results_metadata import names_without_prediction
from nightcrawler.pseudo.submission import Submission
from nightcrawler.utils.io import write_spreadsheet_rows

ANSWERS_FILE = "predictions.csv"
HEADER = ("video", "class", "probability", "agreement", "status")


@dataclass(frozen=True)
class Ballot:
    """Predictions of the models of one voter for N videos.

    Attributes:
        names: names of the N videos.
        models: names of its M models.
        labels: int64 `[M, N]`, each model's most probable class, -1 without an opinion.
        probs: float64 `[N, K]`, their mixture, `None` where a file does not hold it.
        why: reason for a missing prediction of each video, else empty.
        class_names: names of the K classes, empty where none are known.
    """

    names: list[str]
    models: tuple[str, ...]
    labels: np.ndarray
    probs: np.ndarray | None
    why: list[str]
    class_names: tuple[str, ...] = ()


def ballot_of_models(joined: Joined, models: Sequence[str], submission: Submission) -> Ballot:
    """Return the ballot of a mode.

    Args:
        joined: predictions of the mode's models.
        models: their names.
        submission: of the mode.
    """
    labels = []
    for probs, opinion in zip(joined.probs, joined.opinions, strict=True):
        labels.append(np.where(opinion & joined.ok, probs.argmax(axis=1), -1))
    why = ["" if reason == STATUS_OK else reason for reason in joined.why]
    return Ballot(
        joined.names,
        tuple(models),
        np.stack(labels),
        submission.probs,
        why,
        tuple(joined.class_names),
    )


def ballot_of_file(path: Path, submission: Submission, metadata: Mapping[str, Any]) -> Ballot:
    """Return the ballot of a submission whose models are not known.

    Args:
        path: of the file.
        submission: its content.
        metadata: of the file: its classes, and its videos without a prediction.
    """
    without = names_without_prediction(path, metadata)
    why = ["no prediction" if name in without else "" for name in submission.names]
    labels = np.where([not reason for reason in why], submission.labels, -1)
    classes = tuple(metadata.get("classes", ()))
    return Ballot(submission.names, (path.stem,), labels[None], submission.probs, why, classes)


def write_answers(path: Path, vote: Submission, ballots: Sequence[Ballot]) -> None:
    """Write the table of a vote's answers, atomically.

    Args:
        path: the CSV file.
        vote: the vote.
        ballots: of its voters, one or more.
    """
    write_spreadsheet_rows(path, _rows(vote, [_in_order(ballot, vote.names) for ballot in ballots]))


def _in_order(ballot: Ballot, names: list[str]) -> Ballot:
    order = row_order(ballot.names, names, ballot.models[0], "the vote")
    if order is None:
        return ballot
    return Ballot(
        names,
        ballot.models,
        ballot.labels[:, order],
        None if ballot.probs is None else ballot.probs[order],
        [ballot.why[row] for row in order],
        ballot.class_names,
    )


def _rows(vote: Submission, ballots: Sequence[Ballot]) -> Iterator[Sequence[str]]:
    yield HEADER
    class_names = next((one.class_names for one in ballots if one.class_names), ())
    agreeing, heard = count_agreement(vote.labels, ballots)
    leads = _leads(vote, ballots)
    for row, name in enumerate(vote.names):
        # A video is without a prediction only if no voter had one.
        reasons = [ballot.why[row] for ballot in ballots]
        if all(reasons):
            yield name, "", "", "", reasons[0]
            continue
        label = int(vote.labels[row])
        status = SURE if leads[row] >= MARGIN else UNSURE
        if agreeing[row] < LEAST_SUPPORT * heard[row]:
            status = DISAGREE
        yield (
            name,
            class_names[label] if class_names else str(label),
            f"{vote.confidences[row]:.4f}",
            f"{agreeing[row]} of {heard[row]}",
            status,
        )


def count_agreement(labels: np.ndarray, ballots: Sequence[Ballot]) -> tuple[np.ndarray, np.ndarray]:
    """Count the models that name the class of each video, and those that have an opinion.

    A model of several ballots names a class if at least half of these ballots do.

    Args:
        labels: the classes, int64 `[N]`.
        ballots: in the order of these N videos.

    Returns:
        int64 `[N]` each.
    """
    found: dict[str, list[np.ndarray]] = {}
    for ballot in ballots:
        for model, own in zip(ballot.models, ballot.labels, strict=True):
            found.setdefault(model, []).append(own)
    agreeing = np.zeros(len(labels), np.int64)
    heard = np.zeros(len(labels), np.int64)
    for rows in found.values():
        own = np.stack(rows)
        opinions = (own >= 0).sum(axis=0)
        heard += opinions > 0
        agreeing += (opinions > 0) & (2 * (own == labels).sum(axis=0) >= opinions)
    return agreeing, heard


def _leads(vote: Submission, ballots: Sequence[Ballot]) -> np.ndarray:
    """Return the lead of each class over the second one, float64 `[N]`."""
    mixtures = [ballot.probs for ballot in ballots if ballot.probs is not None]
    if len(mixtures) < len(ballots):
        # The others share the rest at most.
        return 2 * vote.confidences - 1
    mean = np.mean(mixtures, axis=0)
    rows = np.arange(len(mean))
    own = mean[rows, vote.labels]
    mean[rows, vote.labels] = -1.0
    return np.asarray(own - mean.max(axis=1))
