"""Stop requests (SIGTERM, SIGHUP, SIGUSR1, SIGUSR2), agreed between ranks."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

import torch

from nightcrawler.utils import distributed
from nightcrawler.utils.signals import signal_handler

# SIGTERM: a scheduler's or a user's; SIGHUP: the terminal was closed; SIGUSR1, SIGUSR2: Slurm's
# warning before the time limit.
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
Item = TypeVar("Item")


# A request, not an error, hence the name.
class Preempted(Exception):  # noqa: N818
    """Stop of a run on request, with its state saved for the same command to resume."""


class StopSignals:
    """Flag that a stop was requested: set by signals, polled by loops, agreed between ranks."""

    def __init__(self) -> None:
        self.requested = False

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.requested = True

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Handle the signals within the block (main thread only), then restore the handlers."""
        with signal_handler(SIGNALS, self._remember):
            yield

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield items until this rank is asked to stop, at least one.

        Args:
            items: any iterable.
        """
        for item in items:
            yield item
            if self.requested:
                return

    def check(self, device: torch.device) -> None:
        """Stop every rank if any was asked to: a collective that every rank calls.

        Args:
            device: device of this rank.

        Raises:
            Preempted: if a rank was asked to stop.
        """
        if self.requested_anywhere(device):
            raise Preempted

    def requested_anywhere(self, device: torch.device) -> bool:
        """Return True, on every rank, if any rank was asked to stop.

        Args:
            device: device of this rank.
        """
        return distributed.any_rank(self.requested, device)
