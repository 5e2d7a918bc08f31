"""Waiting for a condition in tests, with a deadline: no test sleeps for a fixed time to synchronise."""

from __future__ import annotations

import time
from collections.abc import Callable

# Between two looks at a condition; waiting for it costs at most this much more than it takes.
PERIOD_SEC = 0.01


def wait_until(
    condition: Callable[[], object],
    timeout: float = 120.0,
    what: str = "",
    check: Callable[[], None] | None = None,
    period: float = PERIOD_SEC,
) -> None:
    """Return as soon as a condition holds.

    Args:
        condition: polled until it is true.
        timeout: seconds until the wait fails.
        what: the condition in words, for the failure.
        check: called before each look; it raises where the condition can no longer come true.
        period: seconds between two looks.

    Raises:
        AssertionError: if the condition does not hold in time.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if check is not None:
            check()
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what or condition}"
        time.sleep(period)
