"""Pseudo-labels: chosen, written, and held against known labels."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nightcrawler.pseudo import select
from nightcrawler.pseudo.calibration import Calibration, agreeing, calibrated
from nightcrawler.pseudo.ensemble import Joined
from nightcrawler.pseudo.search import ThresholdSearch
from nightcrawler.pseudo.submission import text_rows
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import write_csv_rows


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo-labels of n of N videos.

    Attributes:
        rows: int64 `[n]`, rows of the joined predictions.
        labels: int64 `[n]`.
        probs: float64 `[n, K]`, as mixed.
        thresholds: float64 `[K]` that chose them.
        rules: what settled each class's threshold, where `calibration.RULES` did.
    """

    rows: np.ndarray
    labels: np.ndarray
    probs: np.ndarray
    thresholds: np.ndarray
    rules: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Selection:
    """How videos are selected: `all`, `thresholds`, `top_fraction`, `balanced` or `calibrated`, with what it needs."""

    method: str
    thresholds: Sequence[float] | None = None
    fraction: float = 1.0
    prior: Sequence[float] | None = None
    calibration: Calibration | None = None
    found: ThresholdSearch | None = None


def choose(joined: Joined, probs: np.ndarray, selection: Selection) -> PseudoLabels:
    """The pseudo-labels of mixed probabilities `[N, K]`; videos without a prediction get none.

    Raises:
        UserError: if no video is left.
    """
    rows, num_classes, rules = np.flatnonzero(joined.ok), probs.shape[1], list[str]()
    if selection.calibration is not None:
        agree = agreeing(joined, probs.argmax(axis=1), selection.calibration.agree)
        rows = np.flatnonzero(joined.ok & agree)
    classes, confidences = select.most_probable(probs[rows])
    prior = selection.prior or [1.0] * num_classes
    if selection.method == "thresholds":
        assert selection.thresholds is not None
        thresholds = np.asarray(selection.thresholds, np.float64)
    elif selection.method == "top_fraction":
        thresholds = select.top_fraction(classes, confidences, num_classes, selection.fraction)
    elif selection.method == "balanced":
        thresholds = select.class_balanced(classes, confidences, selection.fraction, prior)
    elif selection.method == "calibrated":
        assert selection.calibration is not None
        assert selection.found is not None
        thresholds, rules = calibrated(
            classes, confidences, selection.found, selection.fraction, prior, selection.calibration
        )
    else:
        thresholds = select.keep_all(num_classes)
    kept = select.selected(classes, confidences, thresholds)
    if not kept.any():
        raise UserError(
            f"none of {len(joined.names)} videos reaches the threshold of its class; lower the thresholds"
        )
    return PseudoLabels(rows[kept], classes[kept], probs[rows[kept]], thresholds, rules)


def write_pseudo_labels(path: Path, joined: Joined, pseudo: PseudoLabels) -> None:
    """Write `path,label,p0,...,p{K-1}` rows in the order of the predictions, atomically."""
    plain = zip(pseudo.rows.tolist(), pseudo.labels.tolist(), text_rows(pseudo.probs), strict=True)
    write_csv_rows(path, ([joined.names[row], label, *texts] for row, label, texts in plain))


def read_labels(path: Path) -> dict[str, int]:
    """Name to label of the rows `path,label,...` of a list or a file of pseudo-labels.

    Raises:
        UserError: if the file cannot be read, or a row has no such label or a name for the second time.
    """
    labels: dict[str, int] = {}
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            for row, fields in enumerate(csv.reader(file, strict=True), start=1):
                if not fields or (row == 1 and fields[:2] == ["path", "label"]):
                    continue
                if len(fields) < 2 or not fields[1].strip().removeprefix("-").isdecimal():
                    raise UserError(
                        f"{path}: row {row} is {','.join(fields)[:80]!r}, expected path,label"
                    )
                if fields[0] in labels:
                    raise UserError(f"{path}: row {row}: '{fields[0]}' is there twice")
                labels[fields[0]] = int(fields[1])
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a list ({error})") from None
    if not labels:
        raise UserError(f"{path}: the list is empty")
    return labels


def count_classes(path: Path, class_names: Sequence[str]) -> list[float]:
    """How many videos of each class `[K]` a list has; those of unknown label are left out.

    Raises:
        UserError: if it cannot be read, or has no label, or one of another class.
    """
    labels = np.array(list(read_labels(path).values()), np.int64)
    if labels.max() >= len(class_names) or labels.max() < 0:
        raise UserError(f"{path}: largest label {labels.max()}, expected 0..{len(class_names) - 1}")
    return np.bincount(labels[labels >= 0], minlength=len(class_names)).astype(float).tolist()


@dataclass(frozen=True)
class ClassFigures:
    """What pseudo-labels of one class (or of all) are worth.

    Attributes:
        rows: pseudo-labels of the class.
        known: those of them whose true label is known.
        correct: those of them that are right.
        true: videos of the class whose label is known.
        covered: those of them that have a pseudo-label, of any class.
    """

    name: str
    rows: int
    known: int
    correct: int
    true: int
    covered: int

    @property
    def precision(self) -> float:
        """Share of right pseudo-labels among those of known label; NaN where there are none."""
        return self.correct / self.known if self.known else float("nan")

    @property
    def coverage(self) -> float:
        """Share of the class's videos that have a pseudo-label; NaN where there are none."""
        return self.covered / self.true if self.true else float("nan")


def compare(
    names: Iterable[str], labels: np.ndarray, truth: dict[str, int], class_names: Sequence[str]
) -> list[ClassFigures]:
    """Figures of each class, and of all as the last.

    Args:
        names: videos that have a pseudo-label.
        labels: int64 `[n]`, their pseudo-labels.
        truth: name to label, -1 where unknown.
    """
    num_classes = len(class_names)
    true = np.array([truth.get(name, -1) for name in names], np.int64)
    counts = [
        np.bincount(values, minlength=num_classes)
        for values in (
            labels,
            labels[true >= 0],
            labels[true == labels],
            np.array([label for label in truth.values() if label >= 0], np.int64),
            true[true >= 0],
        )
    ]
    figures = [
        ClassFigures(name, *(int(one[i]) for one in counts)) for i, name in enumerate(class_names)
    ]
    return [*figures, ClassFigures("all", *(int(one.sum()) for one in counts))]


def table(
    figures: Sequence[ClassFigures], thresholds: Sequence[float] | None = None
) -> Iterator[str]:
    """Lines of a table, a class a line; `thresholds` `[K]` add a column."""
    width = max(len(one.name) for one in figures) + 2
    yield (
        f"{'class':<{width}}{'rows':>8}{'known':>8}{'right':>8}{'precision':>12}{'coverage':>12}"
        + (f"{'threshold':>12}" if thresholds is not None else "")
    )
    for place, one in enumerate(figures):
        line = f"{one.name:<{width}}{one.rows:>8}{one.known:>8}{one.correct:>8}"
        line += f"{_percent(one.precision, 2):>12}{_percent(one.coverage, 1):>12}"
        if thresholds is not None and place < len(thresholds):
            line += f"{thresholds[place]:>12.4f}"
        yield line


def _percent(share: float, digits: int) -> str:
    return "-" if share != share else f"{100 * share:.{digits}f} %"
