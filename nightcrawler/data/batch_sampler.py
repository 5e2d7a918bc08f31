"""Which video comes when: pure functions of seed, epoch and position, whatever the number of ranks and workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class SampleKey(NamedTuple):
    """One video wanted from a dataset: its index, and the epoch that seeds its augmentation."""

    index: int
    epoch: int


def permutation(seed: int, stream: int, cycle: int, num_items: int) -> np.ndarray:
    """Order of a stream's videos in its `cycle`-th pass, int64 `[num_items]`."""
    return np.random.default_rng([seed, stream, cycle]).permutation(num_items)


def balanced_order(seed: int, stream: int, cycle: int, labels: np.ndarray) -> np.ndarray:
    """Order of a stream's videos in its `cycle`-th pass in which every class comes equally often.

    A pass has about as many places as there are videos. Each class fills its share of them from an order of its own,
    which goes on where the last pass left off: rare classes come again sooner, no video of a class more often than
    another, give or take one.

    Args:
        seed, stream, cycle: as of `permutation`.
        labels: int64 `[N]`.

    Returns:
        int64 `[ceil(N / classes) * classes]`.
    """
    classes = np.unique(labels)
    share = -(-len(labels) // len(classes))
    places = np.arange(cycle * share, (cycle + 1) * share)
    picked = []
    for label in classes.tolist():
        own = np.flatnonzero(labels == label)
        turns = np.unique(places // len(own)).tolist()
        orders = {
            turn: np.random.default_rng([seed, stream, label, turn]).permutation(own)
            for turn in turns
        }
        picked += [orders[place // len(own)][place % len(own)] for place in places.tolist()]
    return np.array(picked, np.int64)[permutation(seed, stream, cycle, len(picked))]


class MicroBatchSampler(Sampler[list[SampleKey]]):
    """Yields this rank's micro-batches of an epoch.

    A step takes `batch_size` videos, cut into micro-batches of `micro_batch`; rank r takes every `world`-th one from
    the r-th. The videos of an epoch are the head of a permutation; a stream that is shorter than the epoch starts
    again with the next permutation, one that is longer continues where the last epoch left off, so that over the
    epochs every video comes equally often.

    Args:
        num_items: videos in the stream.
        num_steps: steps of an epoch.
        batch_size: videos in a step, over all ranks.
        micro_batch: videos in a micro-batch.
        rank, world: this process and the number of processes.
        seed: seed of the order.
        stream: number of the stream, so that two streams have different orders.
        balance: int64 `[num_items]`, labels whose classes are to come equally often; `None` takes all videos alike.
    """

    def __init__(
        self,
        num_items: int,
        num_steps: int,
        batch_size: int,
        micro_batch: int,
        rank: int = 0,
        world: int = 1,
        seed: int = 0,
        stream: int = 0,
        balance: np.ndarray | None = None,
    ) -> None:
        if batch_size % (micro_batch * world):
            raise ValueError(
                f"batch {batch_size} is not a multiple of micro-batch {micro_batch} x {world} ranks"
            )
        self.num_items, self.num_steps = num_items, num_steps
        self.batch_size, self.micro_batch = batch_size, micro_batch
        self.rank, self.world = rank, world
        self.seed, self.stream, self.balance = seed, stream, balance
        self.cycle_length = len(self._order(0))
        self.epoch, self.first_step = 0, 0

    def set_position(self, epoch: int, first_step: int = 0) -> None:
        """Start the next iteration at a step of an epoch."""
        self.epoch, self.first_step = epoch, first_step

    @property
    def micro_batches_per_step(self) -> int:
        """Micro-batches of this rank in a step."""
        return self.batch_size // (self.micro_batch * self.world)

    def _order(self, cycle: int) -> np.ndarray:
        if self.balance is None:
            return permutation(self.seed, self.stream, cycle, self.num_items)
        return balanced_order(self.seed, self.stream, cycle, self.balance)

    def step_items(self, epoch: int, step: int) -> list[int]:
        """Indices of the videos of one step, over all ranks."""
        start = (epoch * self.num_steps + step) * self.batch_size
        places = [
            divmod(position, self.cycle_length)
            for position in range(start, start + self.batch_size)
        ]
        orders = {cycle: self._order(cycle) for cycle in {cycle for cycle, _ in places}}
        return [int(orders[cycle][place]) for cycle, place in places]

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for step in range(self.first_step, self.num_steps):
            items = self.step_items(self.epoch, step)
            for start in range(
                self.rank * self.micro_batch, self.batch_size, self.world * self.micro_batch
            ):
                yield [
                    SampleKey(index, self.epoch)
                    for index in items[start : start + self.micro_batch]
                ]

    def __len__(self) -> int:
        return (self.num_steps - self.first_step) * self.micro_batches_per_step


class ChunkSampler(Sampler[list[SampleKey]]):
    """Yields this rank's chunks of a fixed or shuffled order, each video once, the last chunk shorter.

    Args:
        num_items: videos.
        chunk: videos in a chunk.
        rank, world: rank r takes every `world`-th chunk from the r-th.
        limit: most videos to take; `None` for all.
        seed: shuffles the order before the limit is applied (anew each epoch); `None` keeps list order.
    """

    def __init__(
        self,
        num_items: int,
        chunk: int,
        rank: int = 0,
        world: int = 1,
        limit: int | None = None,
        seed: int | None = None,
    ) -> None:
        self.num_items, self.chunk, self.rank, self.world = num_items, chunk, rank, world
        self.num_taken = num_items if limit is None else min(limit, num_items)
        self.seed, self.epoch = seed, 0

    def set_position(self, epoch: int) -> None:
        """Choose the epoch whose order is drawn."""
        self.epoch = epoch

    def _chunks(self) -> list[list[int]]:
        if self.seed is None:
            order = list(range(self.num_items))
        else:
            order = permutation(self.seed, -1 % 2**32, self.epoch, self.num_items).tolist()
        order = order[: self.num_taken]
        return [order[start : start + self.chunk] for start in range(0, len(order), self.chunk)]

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for chunk in self._chunks()[self.rank :: self.world]:
            yield [SampleKey(index, self.epoch) for index in chunk]

    def __len__(self) -> int:
        num_chunks = -(-self.num_taken // self.chunk)
        return len(range(self.rank, num_chunks, self.world))
