"""Measured time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def race(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Seconds of the fastest run of each call; they take turns, so that whatever else runs here hits all alike.

    `time.process_time` as the clock counts the work of this process alone, on all its threads.
    """
    seconds = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            start = clock()
            call()
            seconds[name] = min(seconds[name], clock() - start)
    return seconds
