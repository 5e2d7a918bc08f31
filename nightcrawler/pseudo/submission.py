"""Submission files of the challenge, `VideoID,Video,ClassID,Probability`, in three forms.

`number`: Probability is that of the class. `all_probs`: the columns `p0..p{K-1}` are added.
`challenge`: the K probabilities in brackets stand for the number. A reader takes all three.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nightcrawler.pseudo.predictions import first_duplicate
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import plain_name, write_csv_rows

# Of a file without probabilities, the largest class tells how many there are.
MOST_CLASSES = 1 << 16
HEADER = ("VideoID", "Video", "ClassID", "Probability")
FORMS = ("number", "all_probs", "challenge")
MAX_BYTES = 4 << 30
# Rows turned into text at a time: a million rows as Python floats would not fit in memory.
CHUNK = 1 << 14


def submission_file(folder: Path, mode: int | None = None) -> Path:
    """Return the path of a submission.

    Args:
        folder: of the submissions.
        mode: number of the mode, None for the vote.
    """
    return folder / ("arid_pred.csv" if mode is None else f"arid_pred_{mode}.csv")


@dataclass(frozen=True)
class Submission:
    """A class for each of N videos.

    Attributes:
        names: names of the N videos.
        labels: int64 `[N]`.
        confidences: float64 `[N]`, probability of the class.
        probs: float64 `[N, K]`, or `None` where a file does not hold them.
    """

    names: list[str]
    labels: np.ndarray
    confidences: np.ndarray
    probs: np.ndarray | None = None


def number(value: float) -> str:
    """Return a number as text of nine digits, enough to tell any two float32 apart."""
    return f"{value:.9g}"


def text_rows(probs: np.ndarray) -> Iterator[list[str]]:
    """Yield each row of `[N, K]` as text.

    Args:
        probs: probabilities.
    """
    # All numbers of a row in one go: see `number`.
    form = ",".join(["%.9g"] * probs.shape[1])
    for start in range(0, len(probs), CHUNK):
        for row in probs[start : start + CHUNK].tolist():
            yield (form % tuple(row)).split(",")


def write_submission(path: str | Path, submission: Submission, form: str = "number") -> None:
    """Write a submission, atomically.

    Args:
        path: the CSV file.
        submission: to write.
        form: one of `FORMS`.

    Raises:
        UserError: if the form needs probabilities of all classes and the submission has none.
    """
    assert form in FORMS, form
    # Before the file is opened: a vote over files of plain numbers has no probabilities.
    if form != "number" and submission.probs is None:
        raise UserError(
            f"{path}: the form '{form}' needs the probabilities of all classes, but not all "
            "voters have them"
        )
    write_csv_rows(path, _rows(submission, form))


def _rows(submission: Submission, form: str) -> Iterator[Sequence[str | int]]:
    """Yield the header and the rows of a form."""
    probs = submission.probs
    plain = zip(
        submission.names, submission.labels.tolist(), submission.confidences.tolist(), strict=True
    )
    if form == "number" or probs is None:
        yield HEADER
        for row, (name, label, confidence) in enumerate(plain):
            yield row, name, label, number(confidence)
        return
    rows = enumerate(zip(plain, text_rows(probs), strict=True))
    if form == "all_probs":
        yield *HEADER, *(f"p{label}" for label in range(probs.shape[1]))
        for row, ((name, label, confidence), texts) in rows:
            yield row, name, label, number(confidence), *texts
    else:
        yield HEADER
        for row, ((name, label, _), texts) in rows:
            yield row, name, label, f"[{', '.join(texts)}]"


def read_submission(path: str | Path) -> Submission:
    """Read a submission in any of `FORMS`.

    Args:
        path: the CSV file.

    Raises:
        UserError: if it is missing, has another header, or a row is bad (named by its number,
            the header being row 1).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such submission; generate its mode first")
    if path.stat().st_size > MAX_BYTES:
        raise UserError(f"{path}: larger than {MAX_BYTES >> 30} GiB: not a submission")
    rows = _RowBuffer()
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


class _RowBuffer:
    """Rows read so far. Numbers are kept packed: a million rows are usual."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._labels = array("q")
        self._confidences = array("d")
        self._probs = array("d")

    def add(self, fields: Sequence[str], width: int) -> None:
        """Add a row.

        Args:
            fields: of the row.
            width: number of fields of the header.

        Raises:
            ValueError: if the row has another number of fields, or they are no numbers.
        """
        if len(fields) != width:
            raise ValueError(f"{len(fields)} fields, expected {width}")
        _, name, label, last, *others = fields
        # The challenge's form: all probabilities in one field.
        if last.startswith("["):
            others = last.strip("[]").replace(",", " ").split()
            # NaN fails the check of ranges in `submission`, with the row's number.
            last = others[int(label)] if 0 <= int(label) < len(others) else "nan"
        self._confidences.append(float(last))
        self._labels.append(int(label))
        self._probs.extend(map(float, others))
        # Last, because an error in this row counts the names to find the row's number.
        self.names.append(plain_name(name))

    def submission(self) -> Submission:
        """Return the submission of all rows.

        Raises:
            UserError: if there is no row, a repeated name, or a class or probability out of range.
        """
        if len(set(self.names)) < len(self.names):
            raise UserError(f"holds {first_duplicate(self.names)} more than once")
        count = len(self.names)
        if not count or len(self._probs) % count:
            raise UserError(f"{count} videos, {len(self._probs)} probabilities: not a submission")
        labels = np.array(self._labels)
        confidences = np.array(self._confidences)
        probs = np.array(self._probs).reshape(count, -1) if self._probs else None
        # Written so that NaN is bad too: it fails every comparison.
        bad = (labels < 0) | (labels >= MOST_CLASSES) | ~((confidences >= 0) & (confidences <= 1))
        if probs is not None:
            bad |= (labels >= probs.shape[1]) | ~((probs >= 0) & (probs <= 1)).all(axis=1)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise UserError(
                f"row {row + 2} '{self.names[row]}': a class or a probability (0..1) is out of "
                "range"
            )
        return Submission(self.names, labels, confidences, probs)
