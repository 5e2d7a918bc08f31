"""Progress with rate and time left: a bar on a terminal, a line every N steps in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def format_seconds(seconds: float) -> str:
    """`h:mm:ss`, for people."""
    minutes, secs = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}"


def progress(
    iterable: Iterable[Item],
    total: int | None = None,
    desc: str = "",
    every: int = 50,
    enabled: bool = True,
) -> Iterator[Item]:
    """Iterate while showing how far it is.

    Args:
        iterable: what to go through.
        total: number of items, where `len(iterable)` does not tell.
        desc: what is being done.
        every: off a terminal, print one line each `every` items (and at the end).
        enabled: `False` iterates silently (ranks other than the first).
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if not enabled:
        yield from iterable
    elif sys.stderr.isatty():
        yield from tqdm(iterable, total=total, desc=desc, dynamic_ncols=True)
    else:
        yield from _lines(iterable, total, desc, every)


def _lines(iterable: Iterable[Item], total: int | None, desc: str, every: int) -> Iterator[Item]:
    start = time.monotonic()
    done = 0
    for done, item in enumerate(iterable, start=1):
        yield item
        if done % every == 0 or done == total:
            print(
                progress_line(desc, done, total, time.monotonic() - start),
                file=sys.stderr,
                flush=True,
            )
    if total is None and done % every:
        print(
            progress_line(desc, done, total, time.monotonic() - start), file=sys.stderr, flush=True
        )


def progress_line(desc: str, done: int, total: int | None, seconds: float) -> str:
    """One line such as `render 50/200 (12.1/s, 0:00:12 left)`."""
    rate = done / max(seconds, 1e-9)
    if total is None:
        return f"{desc} {done} ({rate:.1f}/s)"
    return f"{desc} {done}/{total} ({rate:.1f}/s, {format_seconds((total - done) / max(rate, 1e-9))} left)"
