"""What a golden case is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Check:
    """One comparison: it passes when `error <= tolerance` (NaN fails)."""

    name: str
    error: float
    tolerance: float

    @property
    def passed(self) -> bool:
        return bool(self.error <= self.tolerance)


@dataclass(frozen=True)
class Kind:
    """A format of case file: how it is recognised and how it is run."""

    name: str
    matches: Callable[[str, dict[str, Any]], bool]
    run: Callable[[dict[str, Any]], Iterable[Check]]


def absolute(name: str, got: Any, expected: Any, tolerance: float) -> Check:
    """Largest absolute difference; shapes must agree."""
    return Check(name, _largest(got, expected, relative=False), tolerance)


def relative(name: str, got: Any, expected: Any, tolerance: float) -> Check:
    """Largest absolute difference over the largest expected magnitude; shapes must agree."""
    return Check(name, _largest(got, expected, relative=True), tolerance)


def exact(name: str, got: Any, expected: Any) -> Check:
    """Zero when equal, one when not (any plain Python value)."""
    return Check(name, 0.0 if got == expected else 1.0, 0.0)


def _largest(got: Any, expected: Any, relative: bool) -> float:
    got, expected = np.asarray(got, np.float64), np.asarray(expected, np.float64)
    if got.shape != expected.shape:
        return float("inf")
    if expected.size == 0:
        return 0.0
    scale = max(float(np.abs(expected).max()), 1e-300) if relative else 1.0
    return float(np.abs(got - expected).max()) / scale


def find_kind(kinds: Sequence[Kind], stem: str, case: dict[str, Any]) -> Kind | None:
    """The first kind that recognises the case."""
    return next((kind for kind in kinds if kind.matches(stem, case)), None)
