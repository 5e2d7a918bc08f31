"""What a golden case is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
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
    matches: Callable[[Mapping[str, Any]], bool]
    run: Callable[[Mapping[str, Any]], Iterable[Check]]


def absolute(name: str, got: Any, expected: Any, tolerance: float) -> Check:
    """Largest absolute difference; shapes must agree."""
    return Check(name, _largest(got, expected), tolerance)


def relative(name: str, got: Any, expected: Any, tolerance: float) -> Check:
    """Largest absolute difference over the largest expected magnitude; shapes must agree."""
    expected = _figures(expected)
    finite = np.abs(expected[np.isfinite(expected)])
    return of_sum(name, got, expected, finite.max(initial=0.0), tolerance)


def of_sum(name: str, got: Any, expected: Any, magnitude: Any, tolerance: float) -> Check:
    """Largest absolute difference over `magnitude`: what a sum adds up to without signs.

    A sum is rounded with its terms: one of large terms that cancel is no worse for being off by
    more than its own tolerance.
    """
    return Check(name, _largest(got, expected) / max(float(magnitude), 1e-300), tolerance)


def exact(name: str, got: Any, expected: Any) -> Check:
    """Zero when equal, one when not (any plain Python value)."""
    return Check(name, 0.0 if got == expected else 1.0, 0.0)


def _figures(values: Any) -> np.ndarray:
    """float64 array in which `null` is NaN."""
    return np.asarray(values, np.float64)


def _largest(got: Any, expected: Any) -> float:
    """Largest absolute difference; NaN differs from all but NaN, an infinity from all but itself."""
    got, expected = _figures(got), _figures(expected)
    if got.shape != expected.shape:
        return float("inf")
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    different = np.abs(got[~same] - expected[~same])
    return float(different.max(initial=0.0))


def find_kind(kinds: Sequence[Kind], case: Mapping[str, Any]) -> Kind | None:
    """The first kind that recognises the case."""
    return next((kind for kind in kinds if kind.matches(case)), None)


def has(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """Recognise a case by a field: any of these."""
    return lambda case: any(name in case for name in names)


def cases_have(*names: str) -> Callable[[Mapping[str, Any]], bool]:
    """Recognise a case by the fields of its list `cases`: all of these in each."""

    def matches(case: Mapping[str, Any]) -> bool:
        inner = case.get("cases")
        return isinstance(inner, list) and all(
            isinstance(one, Mapping) and all(name in one for name in names) for one in inner
        )

    return matches
