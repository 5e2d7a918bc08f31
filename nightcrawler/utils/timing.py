"""Measured time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def race(calls: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Seconds of the fastest run of each call; they take turns, so that whatever else runs here hits all alike."""
    seconds = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            seconds[name] = min(seconds[name], time.perf_counter() - start)
    return seconds
