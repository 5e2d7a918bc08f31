"""Batches of a data loader whose workers may die, hang or fail."""

from __future__ import annotations

import contextlib
import itertools
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data._utils import signal_handling

from nightcrawler.data.batch_sampler import SampleKey
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.loader_workers import HandOverError
from nightcrawler.utils.doctor import check_shared_memory
from nightcrawler.utils.errors import UserError

# Names of videos that an error lists.
MAX_NAMES = 8


def iterate_batches(loader: Iterable[Any], items: Sequence[VideoItem], title: str) -> Iterator[Any]:
    """Yield a loader's batches, with an error that names the videos of one that fails.

    Args:
        loader: a `DataLoader` whose `batch_sampler` yields lists of `SampleKey`.
        items: the videos that the keys index.
        title: description of the data, for messages.

    Yields:
        Batches as the loader collates them.

    Raises:
        UserError: if a worker was killed, raised an exception, or exceeded the loader's timeout.
    """
    batches = _start(loader)
    for count in itertools.count():
        try:
            with _noticing_deaths():
                batch = next(batches)
        except StopIteration:
            return
        except HandOverError as error:
            # The videos are fine: the batch was made.
            reason = _reason(error).partition(": ")[2]
            advice = _shared_memory_advice()
            raise UserError(
                f"{title}: a loader process could not hand its batch over "
                f"({reason.removesuffix(advice).rstrip('; ')}); {advice}"
            ) from error
        except (RuntimeError, UserError) as error:
            due = _due_videos(loader, items, count)
            raise UserError(
                f"{title}: loading a batch failed: {_reason(error)}; "
                f"the videos that were due: {due}"
            ) from error
        yield batch


def _start(loader: Iterable[Any]) -> Iterator[Any]:
    """Start a loader so that a worker's death shows only when a batch is requested.

    torch installs a SIGCHLD handler that raises wherever the main thread happens to be, even in
    the middle of a save. The loader also notices a dead worker in `next`, so the handler that was
    there before is put back.
    """
    if threading.current_thread() is not threading.main_thread():
        return iter(loader)
    handler = signal.getsignal(signal.SIGCHLD)
    if getattr(handler, "__module__", "") == signal_handling.__name__:
        # Torch's own, left by a loader that was started elsewhere.
        handler = signal.SIG_DFL
    batches = iter(loader)
    signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)
    return batches


@contextlib.contextmanager
def _noticing_deaths() -> Iterator[None]:
    """Raise as soon as a worker dies within the block, not after the loader's timeout.

    Raises:
        RuntimeError: if a worker has died, now or before the block.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)

    def check(*_: object) -> None:
        signal_handling._error_if_any_worker_fails()

    signal.signal(signal.SIGCHLD, check)
    try:
        check()
        yield
    finally:
        signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)


def _shared_memory_advice() -> str:
    """Return the free space through which batches pass, and how to get more."""
    check = check_shared_memory()
    return f"shared memory: {check.found}; where that is little, {check.advice}"


def _reason(error: Exception) -> str:
    """Return the line of a loader's error that states the cause."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # "Caught X in DataLoader worker process ..." is followed by a traceback, the cause is last.
    reason = lines[0]
    if reason.startswith("Caught "):
        reason = lines[-1]
    if "shared memory" in reason:
        return f"{reason.partition('. ')[0]}; {_shared_memory_advice()}"
    if "exited unexpectedly" in reason:
        return f"{reason} (killed, perhaps for lack of memory)"
    return reason


def _due_videos(loader: Any, items: Sequence[VideoItem], count: int) -> str:
    """Return the names of the videos of the batch with number `count`, for a message."""
    keys: Sequence[SampleKey] = next(itertools.islice(loader.batch_sampler, count, None), [])
    names = [items[key.index].name for key in keys]
    shown = ", ".join(names[:MAX_NAMES])
    if len(names) > MAX_NAMES:
        return f"{shown} and {len(names) - MAX_NAMES} more"
    return shown
