"""Label switches: a table of hand-tuned corrections, applied pass after pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nightcrawler.utils.errors import UserError

KEYS = ("FROM", "IF", "AT_MOST", "TO")


@dataclass(frozen=True)
class Switch:
    """One pass over all videos.

    A video of class `source` whose probability of class `gate` is at most `at_most` goes to the
    first class of `targets` that has at least the probability beside it. Without such a class it
    stays.

    Attributes:
        source: class to switch from.
        gate: class whose probability is compared.
        at_most: largest probability of `gate`.
        targets: pairs (class, least probability).
    """

    source: int
    gate: int
    at_most: float
    targets: tuple[tuple[int, float], ...]


def apply_switches(labels: np.ndarray, probs: np.ndarray, switches: Sequence[Switch]) -> np.ndarray:
    """Apply switches in their order, each on the labels of the one before.

    Args:
        labels: classes `[N]`.
        probs: probabilities `[N, K]`.
        switches: the passes.

    Returns:
        The labels after the last pass, int64 `[N]`.
    """
    labels = labels.copy()
    for switch in switches:
        waiting = (labels == switch.source) & (probs[:, switch.gate] <= switch.at_most)
        for target, least in switch.targets:
            going = waiting & (probs[:, target] >= least)
            labels[going] = target
            # A video goes to one class in a pass, the first of the targets that takes it.
            waiting &= ~going
    return labels


def parse_switches(table: Any, class_names: Sequence[str]) -> list[Switch]:
    """Parse a list of `{FROM: class, IF: class, AT_MOST: p, TO: [[class, p], ...]}`.

    Args:
        table: the list, with classes by name.
        class_names: names of the K classes, in index order.

    Raises:
        UserError: naming the row of the table, counted from 1.
    """
    if not isinstance(table, list):
        raise UserError(f"expected a list of {{{', '.join(KEYS)}}}, found {table!r}")
    switches = []
    for row, entry in enumerate(table, start=1):
        try:
            switches.append(_parse(entry, class_names))
        except UserError as error:
            raise UserError(f"row {row}: {error}") from None
    return switches


def _parse(entry: Any, class_names: Sequence[str]) -> Switch:
    """Return the switch of one row of the table."""
    if not isinstance(entry, dict) or set(entry) != set(KEYS):
        raise UserError(f"expected the keys {', '.join(KEYS)}, found {entry!r}")
    pairs = entry["TO"]
    are_pairs = isinstance(pairs, list) and all(
        isinstance(pair, list) and len(pair) == 2 for pair in pairs
    )
    if not are_pairs:
        raise UserError(f"TO: expected [[class, least probability], ...], found {pairs!r}")
    source = class_id(entry["FROM"], class_names)
    gate = class_id(entry["IF"], class_names)
    at_most = probability(entry["AT_MOST"], "AT_MOST")
    targets = []
    for name, least in pairs:
        targets.append((class_id(name, class_names), probability(least, f"TO {name}")))
    return Switch(source, gate, at_most, tuple(targets))


def class_id(name: Any, class_names: Sequence[str]) -> int:
    """Return the index of a class name.

    Args:
        name: to look up.
        class_names: names of the K classes, in index order.

    Raises:
        UserError: listing the names.
    """
    if name not in class_names:
        raise UserError(f"{name!r} is not a class; the classes are {', '.join(class_names)}")
    return list(class_names).index(name)


def probability(value: Any, name: str) -> float:
    """Return a value that is a number 0..1.

    Args:
        value: read from a recipe.
        name: of the value, for errors.

    Raises:
        UserError: for anything else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UserError(f"{name}: {value!r}, expected a number 0..1")
    return float(value)
