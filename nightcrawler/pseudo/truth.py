"""Labels that were kept apart from a split's list, for scoring."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.utils.errors import UserError


def read_truth(path: Path) -> dict[str, int]:
    """Name to label of a `path,label` file without a header.

    Raises:
        UserError: if a row is not a name and a whole number.
    """
    truth: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    for row, line in enumerate(lines, start=1):
        name, _, label = line.rpartition(",")
        if not name or not label.strip().lstrip("-").isdigit():
            raise UserError(f"{path}: row {row} is {line!r}, expected path,label")
        truth[name] = int(label)
    return truth


def add_truth(predictions: Predictions, truth: Mapping[str, int]) -> None:
    """Give the videos that have no label theirs, where `truth` (name to label) has it."""
    for row, name in enumerate(predictions.names):
        if predictions.labels[row] < 0:
            predictions.labels[row] = truth.get(name, -1)
