"""Pseudo-labels: choose them, write them, and compare them with known labels."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nightcrawler.pseudo.ensemble import Joined
from nightcrawler.pseudo.submission import text_rows
from nightcrawler.pseudo.threshold_search import ThresholdSearch
from nightcrawler.pseudo.thresholds import (
    Calibration,
    agreeing,
    calibrated,
    class_balanced,
    keep_all,
    most_probable,
    selected,
    top_fraction,
)
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import plain_name, read_csv_rows, write_csv_rows


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo-labels of n of N videos.

    Attributes:
        rows: int64 `[n]`, rows of the joined predictions.
        labels: int64 `[n]`.
        probs: float64 `[n, K]`, of the mixture.
        thresholds: float64 `[K]`, applied to the confidences.
        rules: for each class the one of `thresholds.RULES` that gave its threshold (empty unless
            thresholds were calibrated).
    """

    rows: np.ndarray
    labels: np.ndarray
    probs: np.ndarray
    thresholds: np.ndarray
    rules: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Selection:
    """Way to select videos.

    Attributes:
        method: `all`, `thresholds`, `top_fraction`, `balanced` or `calibrated`.
        thresholds: one per class, for `thresholds`.
        fraction: share of the videos to keep, for the last three.
        prior: weight of each class, for `balanced` and `calibrated` (equal when absent).
        calibration: settings of `calibrated`.
        found: thresholds of `calibrated` on the known clips.
    """

    method: str
    thresholds: Sequence[float] | None = None
    fraction: float = 1.0
    prior: Sequence[float] | None = None
    calibration: Calibration | None = None
    found: ThresholdSearch | None = None


def choose(
    joined: Joined,
    probs: np.ndarray,
    selection: Selection,
    before: Mapping[str, int] | None = None,
) -> PseudoLabels:
    """Choose pseudo-labels for the videos that have a prediction.

    Args:
        joined: the models' predictions for N videos.
        probs: their mixture `[N, K]`.
        selection: way to select.
        before: name to pseudo-label in the round before, `None` for a first round.

    Raises:
        UserError: if no video is left.
    """
    rows = np.flatnonzero(joined.ok)
    # Videos on which models disagree are left out first: they must not fill a class's quota.
    if selection.calibration is not None:
        agree = _agreeing(joined, probs.argmax(axis=1), selection.calibration, before)
        rows = np.flatnonzero(joined.ok & agree)
    _refuse_nothing_left(joined, rows)
    classes, confidences = most_probable(probs[rows])
    thresholds, rules = _thresholds(classes, confidences, probs.shape[1], selection)
    kept = selected(classes, confidences, thresholds)
    if not kept.any():
        raise UserError(
            f"none of {len(joined.names)} videos reaches the threshold of its class; lower the "
            "thresholds"
        )
    return PseudoLabels(rows[kept], classes[kept], probs[rows[kept]], thresholds, rules)


def _refuse_nothing_left(joined: Joined, rows: np.ndarray) -> None:
    """Refuse a choice among no videos, which is no matter of thresholds.

    Raises:
        UserError: if no video has a prediction, or models agree on none.
    """
    if not joined.ok.any():
        first = joined.names[0]
        raise UserError(
            f"none of {len(joined.names)} videos has a prediction ('{first}': {joined.why[0]})"
        )
    if not len(rows):
        raise UserError(
            f"on none of {int(joined.ok.sum())} videos enough models agree; lower SELECT.AGREE"
        )


def _agreeing(
    joined: Joined, classes: np.ndarray, calibration: Calibration, before: Mapping[str, int] | None
) -> np.ndarray:
    """Return the mask `[N]` of videos on whose class enough models agree.

    Without a round before, no label is newer than another: `agree` holds for all.
    """
    agree = agreeing(joined, classes, calibration.agree)
    if before is None or calibration.agree_new is None:
        return agree
    earlier = np.array([before.get(name, -1) for name in joined.names], np.int64)
    return agree & ((earlier == classes) | agreeing(joined, classes, calibration.agree_new))


def _thresholds(
    classes: np.ndarray, confidences: np.ndarray, num_classes: int, selection: Selection
) -> tuple[np.ndarray, list[str]]:
    """Return the thresholds `[K]` of a selection, and the deciding rules of a calibration."""
    prior = selection.prior or [1.0] * num_classes
    if selection.method == "thresholds":
        assert selection.thresholds is not None
        return np.asarray(selection.thresholds, np.float64), []
    if selection.method == "top_fraction":
        return top_fraction(classes, confidences, num_classes, selection.fraction), []
    if selection.method == "balanced":
        return class_balanced(classes, confidences, selection.fraction, prior), []
    if selection.method == "calibrated":
        assert selection.calibration is not None
        assert selection.found is not None
        return calibrated(
            classes, confidences, selection.found, selection.fraction, prior, selection.calibration
        )
    return keep_all(num_classes), []


def write_pseudo_labels(path: Path, joined: Joined, pseudo: PseudoLabels) -> None:
    """Write `path,label,p0,...,p{K-1}` rows in the order of the predictions, atomically.

    Args:
        path: the CSV file.
        joined: predictions with the names of the videos.
        pseudo: pseudo-labels of some of them.
    """
    plain = zip(pseudo.rows.tolist(), pseudo.labels.tolist(), text_rows(pseudo.probs), strict=True)
    write_csv_rows(path, ([joined.names[row], label, *texts] for row, label, texts in plain))


def read_labels(path: Path) -> dict[str, int]:
    """Read name to label of a list or a file of pseudo-labels, rows `path,label,...`.

    Args:
        path: the CSV file, with or without a `path,label` header.

    Raises:
        UserError: if the file cannot be read, or a row has no label or a repeated name.
    """
    labels: dict[str, int] = {}
    for row, fields in read_csv_rows(path, ("path", "label")):
        if len(fields) < 2 or not re.fullmatch(r"[+-]?[0-9]{1,9}", fields[1]):
            raise UserError(f"{path}: row {row} is {','.join(fields)[:80]!r}, expected path,label")
        name = plain_name(fields[0])
        if name in labels:
            raise UserError(f"{path}: row {row}: a second row of '{name}'")
        labels[name] = int(fields[1])
    if not labels:
        raise UserError(f"{path}: the list is empty")
    return labels


def count_classes(path: Path, class_names: Sequence[str]) -> list[float]:
    """Count the videos of each class `[K]` in a list, without those of unknown label.

    Args:
        path: the CSV file.
        class_names: names of the K classes.

    Raises:
        UserError: if it cannot be read, has no label, or one of another class.
    """
    labels = np.array(list(read_labels(path).values()), np.int64)
    if labels.max() >= len(class_names) or labels.max() < 0:
        raise UserError(f"{path}: largest label {labels.max()}, expected 0..{len(class_names) - 1}")
    return np.bincount(labels[labels >= 0], minlength=len(class_names)).astype(float).tolist()


@dataclass(frozen=True)
class ClassFigures:
    """Quality of the pseudo-labels of one class, or of all.

    Attributes:
        name: of the class.
        rows: pseudo-labels of the class.
        known: those whose true label is known.
        correct: those that are right.
        true: videos of the class by their true label.
        covered: those that have a pseudo-label, of any class.
    """

    name: str
    rows: int
    known: int
    correct: int
    true: int
    covered: int

    @property
    def precision(self) -> float:
        """Share of right pseudo-labels among those of known label (NaN without any)."""
        return self.correct / self.known if self.known else float("nan")

    @property
    def coverage(self) -> float:
        """Share of the class's videos that have a pseudo-label (NaN without any)."""
        return self.covered / self.true if self.true else float("nan")


def compare(
    names: Iterable[str], labels: np.ndarray, truth: dict[str, int], class_names: Sequence[str]
) -> list[ClassFigures]:
    """Compare pseudo-labels with true labels.

    Args:
        names: videos that have a pseudo-label.
        labels: int64 `[n]`, their pseudo-labels.
        truth: name to label, -1 where unknown.
        class_names: names of the K classes.

    Returns:
        Figures of each class, and of all as the last.
    """
    num_classes = len(class_names)
    true = np.array([truth.get(name, -1) for name in names], np.int64)
    known_truth = np.array([label for label in truth.values() if label >= 0], np.int64)
    # In the order of the fields of ClassFigures.
    groups = (labels, labels[true >= 0], labels[true == labels], known_truth, true[true >= 0])
    counts = [np.bincount(values, minlength=num_classes) for values in groups]
    figures = []
    for i, name in enumerate(class_names):
        figures.append(ClassFigures(name, *(int(count[i]) for count in counts)))
    return [*figures, ClassFigures("all", *(int(count.sum()) for count in counts))]


def table(
    figures: Sequence[ClassFigures], thresholds: Sequence[float] | None = None
) -> Iterator[str]:
    """Yield the lines of a table, one line per class.

    Args:
        figures: of each class, and of all as the last.
        thresholds: one per class `[K]`, for one more column.
    """
    width = max(len(one.name) for one in figures) + 2
    header = f"{'class':<{width}}{'rows':>8}{'known':>8}{'right':>8}"
    header += f"{'precision':>12}{'coverage':>12}"
    if thresholds is not None:
        header += f"{'threshold':>12}"
    yield header
    for place, one in enumerate(figures):
        line = f"{one.name:<{width}}{one.rows:>8}{one.known:>8}{one.correct:>8}"
        line += f"{_percent(one.precision, 2):>12}{_percent(one.coverage, 1):>12}"
        if thresholds is not None and place < len(thresholds):
            line += f"{thresholds[place]:>12.4f}"
        yield line


def _percent(share: float, digits: int) -> str:
    """Return a share in percent, or a dash for NaN."""
    # NaN is the only number that differs from itself.
    return "-" if share != share else f"{100 * share:.{digits}f} %"
