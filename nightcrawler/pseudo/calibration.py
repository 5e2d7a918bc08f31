"""Thresholds without labels of dark clips: the same models predict clips that look dark and whose classes are known.

Five rules, in this order:

- agreement: a video counts only if enough models call it what their mixture calls it;
- precision: a class has the lowest threshold that reaches the wanted precision on the known clips;
- fraction: a class that reaches it at no threshold, or that no known clip is given, keeps a share of its most confident
  videos instead;
- floor: no class keeps less than a share of what the prior grants it, as far as it has videos;
- ceiling: no class keeps more than a multiple of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nightcrawler.pseudo.ensemble import Joined
from nightcrawler.pseudo.recipe_yaml import Values
from nightcrawler.pseudo.search import ThresholdSearch, search
from nightcrawler.pseudo.select import most_probable, quota, selected, top_fraction
from nightcrawler.utils.errors import UserError

KEYS = ("PRECISION", "SPLIT", "AGREE", "PRIOR", "FLOOR", "CEILING", "FRACTION")
LABELLED, EQUAL = "labelled", "equal"
RULES = ("precision", "fraction", "floor", "ceiling")


@dataclass(frozen=True)
class Calibration:
    """What the rules are to reach.

    Attributes:
        precision: of each class's pseudo-labels, on the known clips.
        split: of the known clips.
        agree: models that must agree, a number (int) or a share (float) of them; 0 for none.
        prior: `labelled` (how often classes come in the labelled list), `equal`, or a number for each class.
        floor, ceiling: of what the prior grants a class.
    """

    precision: float = 0.8
    split: str = "val_dark"
    agree: float = 0
    prior: str | tuple[float, ...] = LABELLED
    floor: float = 0.25
    ceiling: float = 2.0


def read_calibration(values: Values, prior: Sequence[float] | None) -> Calibration:
    """The values of `SELECT`; `prior` where it is given class by class.

    Raises:
        ConfigError: naming file, line and key.
    """
    usual = Calibration()
    split = values.get("SELECT.SPLIT", usual.split)
    if not isinstance(split, str) or not split:
        raise values.fault("SELECT.SPLIT", f"{split!r}, expected the name of a split")
    agree = values.get("SELECT.AGREE", usual.agree)
    if type(agree) not in (int, float) or agree < 0 or (type(agree) is float and agree > 1):
        raise values.fault(
            "SELECT.AGREE",
            f"{agree!r}, expected a number of models, or a share of them (0.0 to 1.0)",
        )
    return Calibration(
        _number(values, "PRECISION", usual.precision, 0.0, 1.0),
        split,
        agree,
        tuple(prior) if prior else values.choice("SELECT.PRIOR", (LABELLED, EQUAL), LABELLED),
        _number(values, "FLOOR", usual.floor, 0.0, 1.0),
        _number(values, "CEILING", usual.ceiling, 1.0, math.inf),
    )


def _number(values: Values, name: str, default: float, least: float, most: float) -> float:
    value = values.get(f"SELECT.{name}", default)
    if type(value) not in (int, float) or not least <= value <= most:
        expected = f"from {least:g}" if most == math.inf else f"{least:g} to {most:g}"
        raise values.fault(f"SELECT.{name}", f"{value!r}, expected a number {expected}")
    return float(value)


def agreeing(joined: Joined, classes: np.ndarray, agree: float) -> np.ndarray:
    """Bool `[N]`: as many models as `agree` says find the class `[N]` of a video the most probable.

    Raises:
        UserError: if there are not so many models.
    """
    num_models = len(joined.probs)
    least = math.ceil(agree * num_models - 1e-9) if isinstance(agree, float) else agree
    if least > num_models:
        raise UserError(f"SELECT.AGREE {agree}: there are only {num_models} models")
    votes = sum(
        (probs.argmax(axis=1) == classes for probs in joined.probs),
        np.zeros(len(classes), np.int64),
    )
    return np.asarray(votes >= least)


def search_precision(known: Joined, mixed: np.ndarray, rules: Calibration) -> ThresholdSearch:
    """The threshold of each class on clips whose classes are known, and whether it reaches the precision.

    Args:
        known: the models' predictions, with labels.
        mixed: their mixture `[N, K]`.
        rules: see there.

    Raises:
        UserError: if no clip has a prediction and a label.
    """
    classes, confidences = most_probable(mixed)
    rows = known.ok & (known.labels >= 0)
    if not rows.any():
        raise UserError(
            f"none of the {len(known.names)} clips to calibrate with has a prediction and a label"
        )
    rows &= agreeing(known, classes, rules.agree)
    return search(
        classes[rows],
        confidences[rows],
        known.labels[rows],
        mixed.shape[1],
        "precision",
        rules.precision,
    )


def calibrated(
    classes: np.ndarray,
    confidences: np.ndarray,
    found: ThresholdSearch,
    fraction: float,
    shares: Sequence[float],
    rules: Calibration,
) -> tuple[np.ndarray, list[str]]:
    """Thresholds `[K]` of the videos that count, and for each class the rule that settled it.

    Args:
        classes: predicted classes `[N]`.
        confidences: their probabilities `[N]`.
        found: thresholds that reach the precision.
        fraction: kept of a class that does not reach it.
        shares: of each class by the prior `[K]`; they need not sum to 1.
        rules: floor and ceiling.
    """
    num_classes = len(found.thresholds)
    thresholds = np.where(
        found.reached, found.thresholds, top_fraction(classes, confidences, num_classes, fraction)
    )
    counts = np.bincount(classes[selected(classes, confidences, thresholds)], minlength=num_classes)
    fair = len(classes) * np.asarray(shares, np.float64) / np.sum(shares)
    least, most = (
        np.ceil(rules.floor * fair - 1e-9),
        np.maximum(np.ceil(rules.ceiling * fair - 1e-9), 1),
    )
    bounded = quota(
        classes, confidences, np.maximum(np.clip(counts, least, most), 1).astype(np.int64)
    )
    low, high = counts < least, counts > most
    settled = np.select([high, low, found.reached], [RULES[3], RULES[2], RULES[0]], RULES[1])
    return np.where(low | high, bounded, thresholds), settled.tolist()
