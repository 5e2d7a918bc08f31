"""Timing of functions against each other."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def race(
    calls: Mapping[str, Callable[[], object]],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the seconds of the fastest run of each function.

    The functions take turns, so that other load on the machine hits all of them alike.

    Args:
        calls: Name to function.
        repeats: Runs of each function.
        clock: Clock in seconds. `time.process_time` counts the work of this process alone, on all
            its threads.
    """
    seconds = dict.fromkeys(calls, float("inf"))
    for _ in range(repeats):
        for name, call in calls.items():
            start = clock()
            call()
            seconds[name] = min(seconds[name], clock() - start)
    return seconds
