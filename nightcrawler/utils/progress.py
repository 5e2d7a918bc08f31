"""Progress with rate and time left: a bar on a terminal, one line every N steps in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


class TolerantStream:
    """Stream whose text is dropped where it cannot be written, as to a terminal that was closed.

    A run must not end, unsaved, because nobody watches it any more.

    Args:
        stream: Text stream.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write text, and return its length."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the stream."""
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        """Return any other attribute of the stream, such as `fileno`."""
        return getattr(self._stream, name)


def format_seconds(seconds: float) -> str:
    """Return seconds as `h:mm:ss`."""
    minutes, secs = divmod(round(max(seconds, 0.0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}"


def print_above_bar(line: str) -> None:
    """Print a line to standard output at once, above a bar on the same terminal."""
    # Flushed: watches and cameras are followed through a pipe.
    if sys.stdout is None:
        return
    with tqdm.external_write_mode(file=sys.stdout):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def progress(
    iterable: Iterable[Item],
    total: int | None = None,
    desc: str = "",
    every: int = 50,
    enabled: bool = True,
) -> Iterator[Item]:
    """Iterate and show the progress on standard error.

    Args:
        iterable: Items to iterate over.
        total: Number of items, if the iterable has no length.
        desc: Name of the work.
        every: Items between two lines, if standard error is no terminal.
        enabled: `False` iterates silently (ranks above 0).
    """
    if total is None and isinstance(iterable, Sized):
        total = len(iterable)
    if not enabled:
        yield from iterable
    elif sys.stderr.isatty():
        # A bar redraws its line, which would fill a log file.
        bar: Any = TolerantStream(sys.stderr)
        yield from tqdm(iterable, total=total, desc=desc, dynamic_ncols=True, file=bar)
    else:
        yield from _lines(iterable, total, desc, every)


def _lines(iterable: Iterable[Item], total: int | None, desc: str, every: int) -> Iterator[Item]:
    start = time.monotonic()
    done = 0

    def report() -> None:
        line = progress_line(desc, done, total, time.monotonic() - start)
        TolerantStream(sys.stderr).write(f"{line}\n")

    for done, item in enumerate(iterable, start=1):
        yield item
        if done % every == 0 or done == total:
            report()
    # Without a total, nothing says that an item was the last one.
    if total is None and done % every:
        report()


def progress_line(desc: str, done: int, total: int | None, seconds: float) -> str:
    """Return one line such as `render 50/200 (12.1/s, 0:00:12 left)`.

    Args:
        desc: Name of the work.
        done: Items done.
        total: Number of items, or `None` if unknown.
        seconds: Seconds since the start.
    """
    rate = done / max(seconds, 1e-9)
    if total is None:
        return f"{desc} {done} ({rate:.1f}/s)"
    left = format_seconds((total - done) / max(rate, 1e-9))
    return f"{desc} {done}/{total} ({rate:.1f}/s, {left} left)"
