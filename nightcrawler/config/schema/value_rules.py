"""Checks of a single value beyond range, length and choices. Each returns the fault or `None`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from nightcrawler.config.schema.conditions import DARKENED
from nightcrawler.config.schema.key import Rule
from nightcrawler.utils.plugins import MODULE_NAME
from nightcrawler.utils.registries import WRITERS

# Streams of `models.skeleton` (a test compares them).
STREAMS = ("joint", "bone", "velocity")
# Pattern of names, factor and first epoch of a learning rate.
LR_FACTOR = re.compile(
    r"(?P<pattern>[^=\s]+)=(?P<factor>\d+(\.\d*)?([eE]-?\d+)?)(@(?P<epoch>\d+(\.\d*)?))?"
)
MOST_LR_FACTOR = 1e6
# As timm writes a policy: magnitude, operations, standard deviation, increasing severity.
RAND_AUGMENT = re.compile(r"rand(-(m\d{1,2}(\.\d+)?|n\d{1,2}|mstd\d+(\.\d+)?|inc[01]))*")


def is_odd(noun: str) -> Rule:
    """Require an odd number of a noun."""

    def fault_of(value: int) -> str | None:
        return None if value % 2 else f"{value} is even, expected an odd number of {noun}"

    return fault_of


def is_ascending(value: Sequence[float]) -> str | None:
    """Require that the first of two numbers is not above the second."""
    return f"{value}: the least is above the most" if value[0] > value[1] else None


def is_not_empty(noun: str) -> Rule:
    """Require at least one element, called by a noun."""

    def fault_of(value: Sequence[Any]) -> str | None:
        return None if value else f"is empty: name at least one {noun}"

    return fault_of


def is_number_of(*allowed: int) -> Rule:
    """Require one of a few numbers."""
    listed = " or ".join(str(number) for number in allowed)

    def fault_of(value: int) -> str | None:
        return None if value in allowed else f"{value}: expected {listed}"

    return fault_of


def is_size(value: Sequence[Any]) -> str | None:
    """Require a short side, a height and a width, or nothing."""
    fits = len(value) <= 2 and all(isinstance(side, int) and 0 < side <= 4096 for side in value)
    return None if fits else f"{value}: expected one or two numbers between 1 and 4096"


def is_rand_augment(value: str) -> str | None:
    """Require a RandAugment policy as timm writes it, or nothing."""
    if not value or RAND_AUGMENT.fullmatch(value):
        return None
    return (
        f"'{value}' is not a RandAugment policy such as rand-m7-n4-mstd0.5-inc1, with m and n "
        "below 100"
    )


def is_block_rows(length: int) -> Rule:
    """Require rows of numbers: a block from 0 on, then values above 0."""

    def fault_of(rows: Sequence[Any]) -> str | None:
        for row in rows:
            if not isinstance(row, list) or len(row) != length:
                return f"{row}: expected {length} numbers, the first a block"
        for row in rows:
            if row[0] < 0 or min(row[1:]) <= 0:
                return f"{rows}: expected blocks from 0 on, and numbers above 0"
        return None

    return fault_of


def is_sizes_or_empty(sizes: Sequence[Any]) -> str | None:
    """Require three sizes over time, height and width, or nothing."""
    positive = all(isinstance(size, int) and size > 0 for size in sizes)
    if len(sizes) in (0, 3) and positive:
        return None
    return f"{sizes}: expected three numbers from 1 on (time, height, width), or []"


def is_gammas(gammas: Sequence[float]) -> str | None:
    """Require gammas that differ in the names of results files."""
    if len({f"{gamma:g}" for gamma in gammas}) < len(gammas):
        return f"{gammas} names a gamma twice"
    return None


def is_crop_counts(counts: Sequence[int]) -> str | None:
    """Require one (centre) or three (left, centre, right) spatial crops."""
    for count in counts:
        if count not in (1, 3):
            return f"{count}: expected 1 (centre) or 3 (left, centre, right)"
    return None


def is_threshold(value: float) -> str | None:
    """Require a number of standard deviations, or -1."""
    if value >= 0 or value == -1:
        return None
    return f"{value:g}: expected 0 or more standard deviations, or -1 for none"


def is_unique(names: Sequence[str]) -> str | None:
    """Require names that differ."""
    return "has a name twice" if len(set(names)) != len(names) else None


def are_streams(names: Sequence[str]) -> str | None:
    """Require one or more streams of a skeleton, each once."""
    if names and set(names) <= set(STREAMS) and len(set(names)) == len(names):
        return None
    return f"{list(names)}: expected one or more of {', '.join(STREAMS)}, each once"


def are_lr_factors(texts: Sequence[str]) -> str | None:
    """Require texts such as `head.*=10` or `blocks.*=0.1@2`."""
    for text in texts:
        rule = LR_FACTOR.fullmatch(text)
        if not rule or float(rule["factor"]) > MOST_LR_FACTOR:
            return (
                f"'{text}': expected PATTERN=FACTOR or PATTERN=FACTOR@EPOCH, such as head.*=10, "
                f"and a factor up to {MOST_LR_FACTOR:g}"
            )
    return None


def is_no_darkened_split(name: str) -> str | None:
    """Refuse bright splits that are darkened for validation and test."""
    return f"{name} is for validation and test only" if name in DARKENED else None


def is_module_names(names: Sequence[str]) -> str | None:
    """Require dotted module names."""
    for name in names:
        if not MODULE_NAME.fullmatch(name):
            return f"'{name}' is no module name: expected dotted names such as my_models.net"
    return None


def are_writers(names: Sequence[str]) -> str | None:
    """Require names of writers, each once."""
    for name in names:
        if name not in WRITERS:
            return str(WRITERS.unknown(name))
    return is_unique(names)
