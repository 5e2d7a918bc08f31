"""Order of the videos of an epoch, a pure function of seed, epoch and position.

It does not depend on the number of ranks and workers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from torch.utils.data import Sampler


class SampleKey(NamedTuple):
    """Key of a sample in a dataset.

    Attributes:
        index: position of the video in its list.
        epoch: epoch that seeds its augmentation.
        occurrence: number of times that the video came before in this epoch. It seeds the
            augmentation too, so that a video that comes again is drawn anew.
    """

    index: int  # type: ignore[assignment] # hides tuple.index, which nobody calls on a key
    epoch: int
    occurrence: int = 0


def permutation(seed: int, stream: int, cycle: int, num_items: int) -> np.ndarray:
    """Return the order of a stream's videos in its `cycle`-th pass, int64 `[num_items]`."""
    return np.random.default_rng([seed, stream, cycle]).permutation(num_items)


def balanced_shares(counts: np.ndarray, max_repeats: int) -> np.ndarray:
    """Return the number of draws of each class in a balanced pass.

    All classes get the same number, but none more than `max_repeats` times its videos. What a
    class cannot take is shared out among the others.

    Args:
        counts: number of videos of each class, int64 `[K]`, all above 0.
        max_repeats: largest number of draws of a video in a pass, 0 for no limit.

    Returns:
        Numbers of draws int64 `[K]`, of a sum of at least `counts.sum()` and less than K more.
    """
    total = int(counts.sum())
    limits = np.full(len(counts), total)
    if max_repeats:
        limits = np.minimum(counts * max_repeats, total)
    # The smallest level that fills a pass, by bisection: the sum grows with the level.
    low, high = 1, total
    while low < high:
        level = (low + high) // 2
        if np.minimum(limits, level).sum() >= total:
            high = level
        else:
            low = level + 1
    return np.minimum(limits, low)


def weighted_draws(weights: np.ndarray, total: int) -> np.ndarray:
    """Share out a number of draws by weights, the rest to the largest remainders.

    Args:
        weights: above 0, `[G]`.
        total: number of draws.

    Returns:
        int64 `[G]`, of sum `total`.
    """
    exact = weights / weights.sum() * total
    draws = np.floor(exact).astype(np.int64)
    rest = total - int(draws.sum())
    draws[np.argsort(draws - exact, kind="stable")[:rest]] += 1
    return draws


def source_weights(sources: np.ndarray, labels: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """Return the weight of each pair of source and class.

    All classes weigh the same. Within a class, the sources that have it weigh by their shares.

    Args:
        sources: source of each video, int64 `[N]`.
        labels: class of each video, int64 `[N]`.
        shares: share of each source, above 0.

    Returns:
        float64 `[G]` of the pairs, in the order of `np.unique` of `source_groups`.
    """
    groups = np.unique(source_groups(sources, labels))
    group_sources, group_labels = np.divmod(groups, labels.max() + 1)
    weights = np.asarray(shares, np.float64)[group_sources]
    totals = np.bincount(group_labels, weights)
    return weights / totals[group_labels]


def source_groups(sources: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return a number for each video's pair of source and class, int64 `[N]`."""
    return sources * (labels.max() + 1) + labels


def balanced_order(
    seed: int,
    stream: int,
    cycle: int,
    labels: np.ndarray,
    max_repeats: int = 0,
    weights: np.ndarray | None = None,
) -> np.ndarray:
    """Return the order of a stream's videos in its `cycle`-th pass, with every class equally often.

    A pass has about as many positions as there are videos. Each class fills its share of them from
    an order of its own, which continues where the last pass ended. Rare classes repeat sooner, so
    a pass does not hold every video of the frequent ones. Within a class, no video comes more
    often than another, give or take one.

    Args:
        seed: seed of the order.
        stream: number of the stream.
        cycle: number of the pass.
        labels: class of each video, int64 `[N]`.
        max_repeats: largest number of draws of a video in a pass, see `balanced_shares`.
        weights: weight of each class in `labels`, in ascending order, instead of equal ones that
            `max_repeats` limits.

    Returns:
        Positions of videos, int64 `[M]`, with N <= M < N + number of classes.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if weights is None:
        shares = balanced_shares(counts, max_repeats)
    else:
        shares = weighted_draws(weights, len(labels))
    picked = []
    for label, share in zip(classes.tolist(), shares.tolist(), strict=True):
        members = np.flatnonzero(labels == label)
        orders: dict[int, np.ndarray] = {}
        for position in range(cycle * share, (cycle + 1) * share):
            turn, place = divmod(position, len(members))
            if turn not in orders:
                rng = np.random.default_rng([seed, stream, label, turn])
                orders[turn] = rng.permutation(members)
            picked.append(orders[turn][place])
    # Picked class by class: shuffled, so that a batch holds several classes.
    return np.array(picked, np.int64)[permutation(seed, stream, cycle, len(picked))]


class MicroBatchSampler(Sampler[list[SampleKey]]):
    """Yield the micro-batches of one rank in an epoch.

    A step takes `batch_size` videos, cut into micro-batches of `micro_batch`. Rank r takes every
    `world`-th of them from the r-th. The videos of an epoch are the head of a permutation. A stream
    that is shorter than the epoch starts again with the next permutation. One that is longer
    continues where the last epoch ended, so that over the epochs every video comes equally often.

    Args:
        num_items: number of videos in the stream.
        num_steps: number of steps of an epoch.
        batch_size: number of videos in a step, over all ranks.
        micro_batch: number of videos in a micro-batch.
        rank: rank of this process.
        world: number of processes.
        seed: seed of the order.
        stream: number of the stream, so that two streams have different orders.
        balance: labels int64 `[num_items]` whose classes are to come equally often, or `None` for
            any order.
        max_repeats: largest number of draws of a video in a balanced pass, 0 for no limit.
        weights: weights of the classes of `balance`, see `balanced_order`.

    Raises:
        ValueError: if micro-batches and ranks do not divide the batch.
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
        max_repeats: int = 0,
        weights: np.ndarray | None = None,
    ) -> None:
        if batch_size % (micro_batch * world):
            raise ValueError(
                f"batch {batch_size} is not a multiple of micro-batch {micro_batch} x {world} ranks"
            )
        self.num_items = num_items
        self.num_steps = num_steps
        self.batch_size = batch_size
        self.micro_batch = micro_batch
        self.rank = rank
        self.world = world
        self.seed = seed
        self.stream = stream
        self.balance = balance
        self.max_repeats = max_repeats
        self.weights = weights
        # Positions of the videos that are drawn, int64, or `None` for all.
        self.kept: np.ndarray | None = None
        self.cycle_length = len(self._order(0))
        self.epoch = 0
        self.first_step = 0

    def keep(self, positions: np.ndarray | None) -> None:
        """Draw only some of the videos from now on; the number of steps stays.

        Args:
            positions: of the videos, int64, ascending, at least one. `None` draws all again.
        """
        self.kept = positions
        self.cycle_length = len(self._order(0))

    def set_position(self, epoch: int, first_step: int = 0) -> None:
        """Start the next iteration at a step of an epoch."""
        self.epoch = epoch
        self.first_step = first_step

    @property
    def micro_batches_per_step(self) -> int:
        """Number of micro-batches of this rank in a step."""
        return self.batch_size // (self.micro_batch * self.world)

    def _order(self, cycle: int) -> np.ndarray:
        kept = np.arange(self.num_items) if self.kept is None else self.kept
        if self.balance is None:
            return kept[permutation(self.seed, self.stream, cycle, len(kept))]
        balance = self.balance[kept]
        order = balanced_order(
            self.seed, self.stream, cycle, balance, self.max_repeats, self.weights
        )
        return kept[order]

    def epoch_items(self, epoch: int) -> list[int]:
        """Return the positions of an epoch's videos in their list, over all ranks, in order."""
        # Position in the endless sequence of passes: nothing depends on what was drawn before.
        length = self.num_steps * self.batch_size
        start = epoch * length
        first_cycle, skipped = divmod(start, self.cycle_length)
        last_cycle = (start + length - 1) // self.cycle_length
        orders = [self._order(cycle) for cycle in range(first_cycle, last_cycle + 1)]
        return np.concatenate(orders)[skipped : skipped + length].tolist()

    def __iter__(self) -> Iterator[list[SampleKey]]:
        # Ranks take turns, so that a step sees the same videos whatever their number.
        first = self.rank * self.micro_batch
        stride = self.world * self.micro_batch
        # Of the whole epoch and all ranks: the occurrence of a video is a function of its position.
        keys = _keys(self.epoch_items(self.epoch), self.epoch)
        for step in range(self.first_step, self.num_steps):
            batch = keys[step * self.batch_size : (step + 1) * self.batch_size]
            for start in range(first, self.batch_size, stride):
                yield batch[start : start + self.micro_batch]

    def __len__(self) -> int:
        return (self.num_steps - self.first_step) * self.micro_batches_per_step


class ChunkSampler(Sampler[list[SampleKey]]):
    """Yield one rank's chunks of a fixed or shuffled order.

    Each video comes once, the last chunk may be shorter.

    Args:
        num_items: number of videos.
        chunk: number of videos in a chunk.
        rank: rank of this process. Rank r takes every `world`-th chunk from the r-th.
        world: number of processes.
        limit: largest number of videos to take, or `None` for all.
        seed: shuffles the order before the limit is applied, anew in each epoch. `None` keeps
            list order.
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
        self.num_items = num_items
        self.chunk = chunk
        self.rank = rank
        self.world = world
        self.num_taken = num_items
        if limit is not None:
            self.num_taken = min(limit, num_items)
        self.seed = seed
        self.epoch = 0

    def set_position(self, epoch: int) -> None:
        """Choose the epoch whose order is drawn."""
        self.epoch = epoch

    def _order(self) -> list[int]:
        if self.seed is None:
            return list(range(self.num_items))
        # The number of no stream of training, so that the order is none of theirs.
        return permutation(self.seed, -1 % 2**32, self.epoch, self.num_items).tolist()

    def __iter__(self) -> Iterator[list[SampleKey]]:
        order = self._order()[: self.num_taken]
        # Whole chunks go to ranks in turn, so that a rank's videos do not depend on other ranks.
        starts = range(0, len(order), self.chunk)
        for start in starts[self.rank :: self.world]:
            yield _keys(order[start : start + self.chunk], self.epoch)

    def __len__(self) -> int:
        num_chunks = -(-self.num_taken // self.chunk)
        return len(range(self.rank, num_chunks, self.world))


def _keys(items: list[int], epoch: int) -> list[SampleKey]:
    """Return the keys of videos that are drawn in this order."""
    drawn: Counter[int] = Counter()
    keys = []
    for index in items:
        keys.append(SampleKey(index, epoch, drawn[index]))
        drawn[index] += 1
    return keys
