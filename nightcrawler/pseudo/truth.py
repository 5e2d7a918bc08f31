"""Labels that were kept apart from a split's list, for scoring."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nightcrawler.pseudo.labels import read_labels
from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.utils.errors import UserError


def read_truth(path: Path | None) -> dict[str, int]:
    """Name to label of a `path,label` file; empty without one.

    Raises:
        UserError: if it cannot be read, or a row is bad.
    """
    return read_labels(path) if path else {}


def add_truth(predictions: Predictions, truth: Mapping[str, int]) -> None:
    """Give the videos that have no label theirs, where `truth` (name to label) has it.

    Raises:
        UserError: if a label is none of the predictions' classes.
    """
    num_classes = predictions.probs.shape[1]
    for row, name in enumerate(predictions.names):
        if predictions.labels[row] < 0:
            label = truth.get(name, -1)
            if label >= num_classes:
                raise UserError(f"'{name}': true label {label}, expected 0..{num_classes - 1}")
            predictions.labels[row] = label
