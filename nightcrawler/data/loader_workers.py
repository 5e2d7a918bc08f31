"""Processes of a data loader: how they start, and how they pass on every failure."""

from __future__ import annotations

import multiprocessing.queues
import os
import sys
from typing import Any

import torch
from torch._utils import ExceptionWrapper


class HandOverError(RuntimeError):
    """A batch was made, but could not be handed over to the main process."""


def start_worker(_: int) -> None:
    """Prepare a worker process, as `worker_init_fn` of a loader."""
    # One worker a core: threads of several would only wait for each other.
    torch.set_num_threads(1)
    # A stop signal to the process group of the run is for the run, which still needs its workers.
    os.setpgid(0, 0)
    # A thread hands batches over through shared memory. Its failures are only printed otherwise,
    # and the main process waits for the batch until its timeout.
    queues: Any = multiprocessing.queues.Queue
    queues._on_queue_feeder_error = _pass_on


def _pass_on(queue: Any, error: Exception, entry: Any) -> None:
    """Send the error of handing over an entry, in place of it.

    Args:
        queue: the queue of finished batches.
        error: raised while the entry was handed over.
        entry: number of the batch, and the batch.
    """
    number = entry[0] if isinstance(entry, tuple) else None
    if not isinstance(number, int):
        sys.stderr.write(f"a loader process could not hand over its result: {error}\n")
        return
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    reported = HandOverError(text)
    wrapper = ExceptionWrapper((HandOverError, reported, None), "in a DataLoader worker process")
    queue.put((number, wrapper))
