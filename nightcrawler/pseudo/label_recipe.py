"""Label recipes: an ensemble, and the way to select videos for pseudo-labels.

Files of thresholds (`write_thresholds`, `read_thresholds`) are the smaller form with thresholds
only. A key that nothing reads is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from nightcrawler.pseudo.ensemble_recipe import (
    ENSEMBLE_KEYS,
    EnsembleSpec,
    read_classes,
    read_ensemble,
    read_label_use,
    read_per_class,
)
from nightcrawler.pseudo.recipe_yaml import Values, open_values
from nightcrawler.pseudo.threshold_search import PLAIN
from nightcrawler.pseudo.thresholds import EQUAL, LABELLED, Calibration
from nightcrawler.utils.io import atomic_write

# Keys of SELECT that each method reads.
SELECT_KEYS = {
    "all": (),
    "thresholds": ("THRESHOLDS",),
    "top_fraction": ("FRACTION",),
    "balanced": ("FRACTION", "PRIOR"),
    "calibrated": (
        "PRECISION",
        "CONFIDENCE",
        "SUPPORT",
        "SPLIT",
        "AGREE",
        "AGREE_NEW",
        "PRIOR",
        "FLOOR",
        "CEILING",
        "FRACTION",
    ),
}


@dataclass(frozen=True)
class LabelRecipe:
    """Recipe for pseudo-labels.

    Attributes:
        classes: names of the K classes (empty if it fits any).
        labels: label use of the recipe's numbers, `label-free` or `oracle`.
        ensemble: the models and their weights.
        method: a key of `SELECT_KEYS`.
        thresholds: one per class, for `thresholds`.
        fractions: share of the videos to keep in each round. The last holds for later rounds.
            `calibrated` has one for all rounds.
        prior: weight of each class, for `balanced` and `calibrated`.
        calibration: settings of `calibrated`.
    """

    classes: list[str]
    labels: str
    ensemble: EnsembleSpec
    method: str
    thresholds: list[float] | None
    fractions: list[float]
    prior: list[float] | None
    calibration: Calibration | None


@dataclass(frozen=True)
class Thresholds:
    """One threshold per class.

    Attributes:
        classes: names of the K classes.
        labels: label use of the thresholds, `label-free` or `oracle`.
        thresholds: K numbers 0..1.
    """

    classes: list[str]
    labels: str
    thresholds: list[float]


def read_label_recipe(path: str | Path) -> LabelRecipe:
    """Read a label recipe.

    Args:
        path: the YAML file.

    Raises:
        ConfigError: naming file, line and key.

    Example:
        >>> recipe = read_label_recipe("configs/pseudo/default.yaml")
        >>> recipe.method, list(recipe.ensemble.folders)
        ('calibrated', ['ssv2', 'k600', 'mvit', 'sf'])
    """
    values = open_values(path)
    shared = ("CLASSES", "LABELS", "MODELS", *ENSEMBLE_KEYS)
    # First any section at all, so that a misspelt METHOD is named before the keys it would read.
    values.known(*shared, "SELECT")
    classes = read_classes(values)
    method = values.choice("SELECT.METHOD", tuple(SELECT_KEYS), "all")
    # A key of another method would have no effect, so it is an error.
    values.known(*shared, *(f"SELECT.{name}" for name in ("METHOD", *SELECT_KEYS[method])))
    thresholds = read_per_class(values, "SELECT.THRESHOLDS", classes)
    # The default of every other method is usable, but there are no usual thresholds.
    if method == "thresholds" and thresholds is None:
        raise values.fault("SELECT.METHOD", "thresholds, but there are no SELECT.THRESHOLDS")
    prior = _prior(values, method, classes)
    labels = read_label_use(values)
    ensemble = read_ensemble(values, classes)
    fractions = _fractions(values)
    if method == "calibrated" and len(fractions) > 1:
        raise values.fault(
            "SELECT.FRACTION",
            f"{fractions}, expected one number for all rounds: a class whose precision is not "
            "shown must not keep more of its clips in later rounds",
        )
    calibration = _calibration(values, prior) if method == "calibrated" else None
    return LabelRecipe(classes, labels, ensemble, method, thresholds, fractions, prior, calibration)


def _prior(values: Values, method: str, classes: list[str]) -> list[float] | None:
    """Return the weight of each class, or `None` if not given class by class."""
    # `labelled` and `equal` are priors by name, see `_calibration`.
    if method == "calibrated" and isinstance(values.get("SELECT.PRIOR"), str):
        return None
    prior = read_per_class(values, "SELECT.PRIOR", classes)
    if prior is not None and min(prior) <= 0:
        raise values.fault("SELECT.PRIOR", "expected numbers above 0")
    return prior


def _fractions(values: Values) -> list[float]:
    """Return the share of videos to keep in each round."""
    given = values.get("SELECT.FRACTION", 1.0)
    fractions = given if isinstance(given, list) else [given]
    if not fractions or not all(type(one) in (int, float) and 0 < one <= 1 for one in fractions):
        raise values.fault(
            "SELECT.FRACTION",
            f"{given!r}, expected a number above 0 and up to 1, or one for each round",
        )
    return list(map(float, fractions))


def _calibration(values: Values, prior: Sequence[float] | None) -> Calibration:
    """Return the settings of `calibrated`, with a prior that was read class by class."""
    usual = Calibration()
    split = values.get("SELECT.SPLIT", usual.split)
    if not isinstance(split, str) or not split:
        raise values.fault("SELECT.SPLIT", f"{split!r}, expected the name of a split")
    agree = _agreement(values, "AGREE", usual.agree)
    agree_new = None
    if values.get("SELECT.AGREE_NEW") is not None:
        agree_new = _agreement(values, "AGREE_NEW", agree)
        if type(agree_new) is type(agree) and agree_new < agree:
            raise values.fault(
                "SELECT.AGREE_NEW",
                f"{agree_new!r}, expected at least AGREE ({agree!r}): a new label needs no less "
                "agreement than one of the round before",
            )
    precision = _number(values, "PRECISION", usual.precision, 0.0, 1.0)
    confidence = _number(values, "CONFIDENCE", usual.confidence, PLAIN, 0.9999)
    if precision == 1 and confidence > PLAIN:
        raise values.fault(
            "SELECT.PRECISION",
            f"1, which no number of clips shows with CONFIDENCE {confidence:g}: lower it, or "
            f"set CONFIDENCE {PLAIN} for the plain share of right clips",
        )
    support = values.get("SELECT.SUPPORT", usual.support)
    if type(support) is not int or support < 1:
        raise values.fault("SELECT.SUPPORT", f"{support!r}, expected a whole number from 1")
    weights: str | tuple[float, ...] = tuple(prior or ())
    if not weights:
        weights = values.choice("SELECT.PRIOR", (LABELLED, EQUAL), LABELLED)
    floor = _number(values, "FLOOR", usual.floor, 0.0, 1.0)
    ceiling = _number(values, "CEILING", usual.ceiling, 1.0, math.inf)
    return Calibration(
        precision, split, agree, weights, floor, ceiling, support, confidence, agree_new
    )


def _agreement(values: Values, name: str, default: float) -> float:
    """Return a number of models (int) or a share of them (float) of `SELECT`."""
    value = values.get(f"SELECT.{name}", default)
    # An int counts models and a float is a share of them: 1 is one model, 1.0 all of them.
    if type(value) not in (int, float) or value < 0 or (type(value) is float and value > 1):
        raise values.fault(
            f"SELECT.{name}",
            f"{value!r}, expected a number of models, or a share of them (0.0 to 1.0)",
        )
    return value


def _number(values: Values, name: str, default: float, least: float, most: float) -> float:
    """Return a number of `SELECT` within bounds."""
    value = values.get(f"SELECT.{name}", default)
    if type(value) not in (int, float) or not least <= value <= most:
        expected = f"from {least:g}" if most == math.inf else f"{least:g} to {most:g}"
        raise values.fault(f"SELECT.{name}", f"{value!r}, expected a number {expected}")
    return float(value)


def read_thresholds(path: str | Path) -> Thresholds:
    """Read a file of thresholds.

    Args:
        path: the YAML file.

    Raises:
        ConfigError: naming file, line and key.
    """
    values = open_values(path)
    values.known("CLASSES", "LABELS", "THRESHOLDS")
    classes = read_classes(values)
    thresholds = read_per_class(values, "THRESHOLDS", classes)
    if thresholds is None:
        raise values.fault("THRESHOLDS", "missing, expected a number for each of CLASSES")
    return Thresholds(classes, read_label_use(values), thresholds)


def write_thresholds(path: Path, thresholds: Thresholds, note: str) -> None:
    """Write a file that `read_thresholds` reads, atomically.

    Args:
        path: the YAML file.
        thresholds: to write.
        note: comment on its first line.
    """
    content = {
        "LABELS": thresholds.labels,
        "CLASSES": thresholds.classes,
        "THRESHOLDS": dict(zip(thresholds.classes, thresholds.thresholds, strict=True)),
    }
    with atomic_write(path, "w") as file:
        file.write(f"# {note}\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}")
