"""Stop requests from a scheduler (SIGTERM, SIGUSR1, SIGUSR2), agreed between ranks."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import TypeVar

import torch

from nightcrawler.utils import distributed
from nightcrawler.utils.signals import signal_handler

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
Item = TypeVar("Item")


class Preempted(Exception):
    """The run was asked to stop; its state is saved, and it can go on from there."""


class StopSignals:
    """Remembers that a stop was asked for; long loops look, and all ranks agree where they meet."""

    def __init__(self) -> None:
        self.requested = False

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.requested = True

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Listen within the block (main thread only), then restore what was there."""
        with signal_handler(SIGNALS, self._remember):
            yield

    def until(self, items: Iterable[Item]) -> Iterator[Item]:
        """The items until this rank is asked to stop, at least one."""
        for item in items:
            yield item
            if self.requested:
                return

    def check(self, device: torch.device) -> None:
        """Stop on every rank if any was asked to; every rank calls this.

        Raises:
            Preempted: if so.
        """
        if self.requested_anywhere(device):
            raise Preempted

    def requested_anywhere(self, device: torch.device) -> bool:
        """Whether any rank was asked to stop; every rank gets the same answer."""
        return distributed.any_rank(self.requested, device)
