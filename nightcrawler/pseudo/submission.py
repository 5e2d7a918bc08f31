"""The challenge's file: `VideoID,Video,ClassID,Probability`, in three forms.

`Probability` is a plain number, that of the class; `all_probs` adds the columns `p0..p{K-1}`; `challenge` writes the K
probabilities in brackets instead of the number. A reader takes all three.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nightcrawler.pseudo.predictions import first_twice
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import write_csv_rows

HEADER = ("VideoID", "Video", "ClassID", "Probability")
FORMS = ("number", "all_probs", "challenge")
MAX_BYTES = 4 << 30
CHUNK = 1 << 14


@dataclass(frozen=True)
class Submission:
    """A class for each of N videos.

    Attributes:
        names: the N videos.
        labels: int64 `[N]`.
        confidences: float64 `[N]`, probability of the class.
        probs: float64 `[N, K]`, or `None` where a file does not hold them.
    """

    names: list[str]
    labels: np.ndarray
    confidences: np.ndarray
    probs: np.ndarray | None = None


def number(value: float) -> str:
    """Nine digits: enough to tell any two float32 apart."""
    return f"{value:.9g}"


def text_rows(probs: np.ndarray) -> Iterator[list[str]]:
    """Each row of `[N, K]` as text, a chunk of rows at a time in memory."""
    for start in range(0, len(probs), CHUNK):
        for row in probs[start : start + CHUNK].tolist():
            yield [f"{value:.9g}" for value in row]


def write_submission(path: str | Path, submission: Submission, form: str = "number") -> None:
    """Write a file of one of `FORMS`, atomically.

    Raises:
        UserError: if the form needs probabilities of all classes and the submission has none.
    """
    assert form in FORMS, form
    if form != "number" and submission.probs is None:
        raise UserError(
            f"{path}: the probabilities of all classes are asked for, but not all voters have them"
        )
    write_csv_rows(path, _rows(submission, form))


def _rows(submission: Submission, form: str) -> Iterator[Sequence[str | int]]:
    probs = submission.probs
    plain = zip(
        submission.names, submission.labels.tolist(), submission.confidences.tolist(), strict=True
    )
    if form == "number" or probs is None:
        yield HEADER
        for row, (name, label, confidence) in enumerate(plain):
            yield row, name, label, number(confidence)
    elif form == "all_probs":
        yield *HEADER, *(f"p{label}" for label in range(probs.shape[1]))
        for row, ((name, label, confidence), texts) in enumerate(
            zip(plain, text_rows(probs), strict=True)
        ):
            yield row, name, label, number(confidence), *texts
    else:
        yield HEADER
        for row, ((name, label, _), texts) in enumerate(zip(plain, text_rows(probs), strict=True)):
            yield row, name, label, f"[{', '.join(texts)}]"


def read_submission(path: str | Path) -> Submission:
    """Read a file of any of `FORMS`.

    Raises:
        UserError: if it is missing, has another header, or a row is bad (named, counted with the header from 1).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such submission; generate its mode first")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES >> 30} GiB: not a submission")
    rows = _Rows()
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if tuple(header[:4]) != HEADER:
                raise UserError(
                    f"{path}: row 1: expected {','.join(HEADER)}, found {','.join(header)[:80]!r}"
                )
            for fields in reader:
                rows.add(fields, len(header))
    except (ValueError, OverflowError, csv.Error) as error:
        raise UserError(f"{path}: row {len(rows.names) + 2}: {error}") from None
    try:
        return rows.submission()
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


class _Rows:
    """Rows as they are read; numbers are kept packed, a million rows being usual."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._labels = array("q")
        self._confidences = array("d")
        self._probs = array("d")

    def add(self, fields: Sequence[str], width: int) -> None:
        """Take a row.

        Raises:
            ValueError: if it has not `width` fields, or they are no numbers.
        """
        if len(fields) != width:
            raise ValueError(f"{len(fields)} fields, expected {width}")
        _, name, label, last, *others = fields
        if last.startswith("["):
            others = last.strip("[]").replace(",", " ").split()
            last = others[int(label)] if 0 <= int(label) < len(others) else "nan"
        self._confidences.append(float(last))
        self._labels.append(int(label))
        self._probs.extend(map(float, others))
        self.names.append(name)

    def submission(self) -> Submission:
        """All rows.

        Raises:
            UserError: if there is none, or names, classes or probabilities cannot be.
        """
        if len(set(self.names)) < len(self.names):
            raise UserError(f"holds {first_twice(self.names)} more than once")
        count = len(self.names)
        if not count or len(self._probs) % count:
            raise UserError(f"{count} videos, {len(self._probs)} probabilities: not a submission")
        labels, confidences = np.array(self._labels), np.array(self._confidences)
        probs = np.array(self._probs).reshape(count, -1) if self._probs else None
        bad = (labels < 0) | ~((confidences >= 0) & (confidences <= 1))
        if probs is not None:
            bad |= (labels >= probs.shape[1]) | ~((probs >= 0) & (probs <= 1)).all(axis=1)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise UserError(
                f"row {row + 2} '{self.names[row]}': a class or a probability (0..1) is out of range"
            )
        return Submission(self.names, labels, confidences, probs)
