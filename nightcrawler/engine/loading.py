"""Batches of a loader whose workers may die or hang."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data._utils import signal_handling

from nightcrawler.data.lists import VideoItem
from nightcrawler.utils.errors import UserError

SHOWN = 8


def iterate_batches(loader: Iterable[Any], items: Sequence[VideoItem], title: str) -> Iterator[Any]:
    """The batches of a loader; where no batch comes, one message that names the videos of the one that was due.

    Args:
        loader: a `DataLoader` whose `batch_sampler` yields lists of requests.
        items: the videos that requests count.
        title: what is loaded.

    Raises:
        UserError: if a worker was killed, failed, or gave nothing within `DATA_LOADER.TIMEOUT_SEC`.
    """
    batches = _started(loader)
    for count in itertools.count():
        try:
            batch = next(batches)
        except StopIteration:
            return
        except (RuntimeError, UserError) as error:
            due = _due(loader, items, count)
            raise UserError(f"{title}: loading a batch failed: {_reason(error)}{due}") from error
        yield batch


def _started(loader: Iterable[Any]) -> Iterator[Any]:
    """An iterator that notices a dead worker when a batch is asked for.

    torch would have the death raise an exception wherever the main thread happens to be.
    """
    if threading.current_thread() is not threading.main_thread():
        return iter(loader)
    handler = signal.getsignal(signal.SIGCHLD)
    if getattr(handler, "__module__", "") == signal_handling.__name__:
        # Of a loader that was started elsewhere.
        handler = signal.SIG_DFL
    batches = iter(loader)
    signal.signal(signal.SIGCHLD, handler or signal.SIG_DFL)
    return batches


def _reason(error: Exception) -> str:
    """A worker's own exception stands at the end of what the loader says; else the first line is the cause."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    reason = lines[-1] if lines[0].startswith("Caught ") else lines[0]
    return (
        f"{reason} (killed, perhaps for lack of memory)"
        if "exited unexpectedly" in reason
        else reason
    )


def _due(loader: Any, items: Sequence[VideoItem], count: int) -> str:
    requests = next(itertools.islice(loader.batch_sampler, count, None), [])
    names = [items[request.index].name for request in requests]
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"; the videos that were due: {', '.join(names[:SHOWN])}{more}"
