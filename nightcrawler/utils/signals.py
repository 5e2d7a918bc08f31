"""Signal handlers that are installed for the length of a block."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from types import FrameType

SignalHandler = Callable[[int, FrameType | None], None]


@contextlib.contextmanager
def signal_handler(numbers: Iterable[signal.Signals], handler: SignalHandler) -> Iterator[None]:
    """Handle signals by one function within the block, then restore the previous handlers.

    Python delivers signals to the main thread only: on any other thread the block runs unchanged.
    A hangup that is ignored, as `nohup` does, stays ignored.

    Args:
        numbers: Signals to handle.
        handler: Function of the signal's number and the interrupted frame.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {}
    for number in numbers:
        if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
            continue
        previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, earlier in previous.items():
            signal.signal(number, earlier)
