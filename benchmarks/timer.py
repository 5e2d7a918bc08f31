"""Timing of calls: the fastest of several runs, which other programs disturb least."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence


def fastest(call: Callable[[], object], repeats: int) -> float:
    """Return the seconds of the fastest of `repeats` calls, after one that warms up.

    Args:
        call: to measure.
        repeats: number of measured calls.
    """
    # The first call allocates memory and chooses kernels.
    call()
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def side_by_side(calls: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """Return the seconds of the fastest run of each call.

    The calls take turns, so that a disturbance by another program affects all of them.

    Args:
        calls: to measure.
        repeats: number of rounds.
    """
    # Alternating, because a CPU slows down when it gets warm.
    best = [float("inf")] * len(calls)
    for _ in range(repeats):
        for place, call in enumerate(calls):
            best[place] = min(best[place], fastest(call, 1))
    return best
