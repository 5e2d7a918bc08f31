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

    A video of class `source` whose probability of class `gate` is at most `at_most` goes to the first class of
    `targets` that has at least the probability beside it; where none has, it stays.
    """

    source: int
    gate: int
    at_most: float
    targets: tuple[tuple[int, float], ...]


def apply_switches(labels: np.ndarray, probs: np.ndarray, switches: Sequence[Switch]) -> np.ndarray:
    """Labels int64 `[N]` after the passes, given probabilities `[N, K]`; later passes see what earlier ones did."""
    labels = labels.copy()
    for switch in switches:
        waiting = (labels == switch.source) & (probs[:, switch.gate] <= switch.at_most)
        for target, least in switch.targets:
            going = waiting & (probs[:, target] >= least)
            labels[going] = target
            waiting &= ~going
    return labels


def parse_switches(table: Any, class_names: Sequence[str]) -> list[Switch]:
    """Switches of a list of `{FROM: class, IF: class, AT_MOST: p, TO: [[class, p], ...]}`, classes by name.

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
    if not isinstance(entry, dict) or set(entry) != set(KEYS):
        raise UserError(f"expected the keys {', '.join(KEYS)}, found {entry!r}")
    targets = entry["TO"]
    if not isinstance(targets, list) or not all(
        isinstance(pair, list) and len(pair) == 2 for pair in targets
    ):
        raise UserError(f"TO: expected [[class, least probability], ...], found {targets!r}")
    return Switch(
        source=class_id(entry["FROM"], class_names),
        gate=class_id(entry["IF"], class_names),
        at_most=probability(entry["AT_MOST"], "AT_MOST"),
        targets=tuple(
            (class_id(name, class_names), probability(least, f"TO {name}"))
            for name, least in targets
        ),
    )


def class_id(name: Any, class_names: Sequence[str]) -> int:
    """Index of a class name.

    Raises:
        UserError: listing the names there are.
    """
    if name not in class_names:
        raise UserError(f"{name!r} is not a class; there are {', '.join(class_names)}")
    return list(class_names).index(name)


def probability(value: Any, name: str) -> float:
    """A number 0..1.

    Raises:
        UserError: naming it.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise UserError(f"{name}: {value!r}, expected a number 0..1")
    return float(value)
