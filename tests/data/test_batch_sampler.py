"""Samplers: the order is a pure function of seed, epoch and position, whatever the number of ranks."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightcrawler.data.batch_sampler import (
    ChunkSampler,
    MicroBatchSampler,
    SampleKey,
    balanced_order,
    balanced_shares,
    source_groups,
    source_weights,
    weighted_draws,
)


def steps_of_all_ranks(
    num_items: int, steps: int, batch: int, micro: int, world: int, epoch: int
) -> list[list[int]]:
    """Videos of each step, gathered over ranks in micro-batch order."""
    ranks = [
        MicroBatchSampler(num_items, steps, batch, micro, rank, world, seed=7)
        for rank in range(world)
    ]
    for sampler in ranks:
        sampler.set_position(epoch)
    streams = [list(sampler) for sampler in ranks]
    per_step = batch // (micro * world)
    gathered = []
    for step in range(steps):
        rows = [
            streams[rank][step * per_step + k] for k in range(per_step) for rank in range(world)
        ]
        gathered.append([request.index for row in rows for request in row])
    return gathered


@pytest.mark.parametrize("balanced", [False, True])
def test_videos_that_are_kept_come_equally_often_and_others_never(balanced: bool) -> None:
    labels = np.array([0] * 12 + [1] * 8)
    kept = np.array([0, 2, 5, 7, 12, 13, 18, 19])
    sampler = MicroBatchSampler(20, 4, 8, 2, seed=3, balance=labels if balanced else None)
    before = sampler.epoch_items(1)
    sampler.keep(kept)
    counts = Counter(place for epoch in range(5) for place in sampler.epoch_items(epoch))
    assert set(counts) == set(kept.tolist())
    assert set(counts.values()) == {5 * 4 * 8 // 8}
    # As a sampler of these videos alone draws them.
    alone = MicroBatchSampler(8, 4, 8, 2, seed=3, balance=labels[kept] if balanced else None)
    assert sampler.epoch_items(2) == kept[alone.epoch_items(2)].tolist()
    sampler.keep(None)
    assert sampler.epoch_items(1) == before


@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_the_same_steps(world: int) -> None:
    assert steps_of_all_ranks(50, 6, 8, 2, world, 3) == steps_of_all_ranks(50, 6, 8, 2, 1, 3)


@given(st.integers(1, 40), st.integers(1, 10), st.integers(1, 6))
@settings(max_examples=50, deadline=None)
def test_over_epochs_every_video_comes_equally_often(
    num_items: int, steps: int, epochs: int
) -> None:
    sampler = MicroBatchSampler(num_items, steps, 4, 2, seed=1)
    counts: Counter[int] = Counter()
    for epoch in range(epochs):
        sampler.set_position(epoch)
        counts.update(request.index for batch in sampler for request in batch)
    assert sum(counts.values()) == epochs * steps * 4
    full = [counts[index] for index in range(num_items)]
    assert max(full) - min(full) <= 1


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_balanced_classes_come_equally_often_and_so_do_videos_of_a_class(
    classes: list[int], cycles: int
) -> None:
    labels = np.array(classes)
    drawn = np.concatenate([balanced_order(3, 1, cycle, labels) for cycle in range(cycles)])
    per_class = Counter(labels[drawn].tolist())
    assert set(per_class) == set(classes)
    assert len(set(per_class.values())) == 1
    for label in per_class:
        counts = np.bincount(drawn, minlength=len(labels))[labels == label]
        assert counts.max() - counts.min() <= 1


def test_a_class_of_few_clips_leaves_draws_to_the_others() -> None:
    """Share out 358 draws: 10 to a class of one clip, 70 to one of seven, 278 to the others."""
    counts = np.array([300, 50, 7, 1])
    assert balanced_shares(counts, 0).tolist() == [90, 90, 90, 90]
    assert balanced_shares(counts, 10).tolist() == [139, 139, 70, 10]
    assert balanced_shares(counts, 1).tolist() == counts.tolist()


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.integers(1, 5), st.integers(1, 12))
@settings(max_examples=50, deadline=None)
def test_no_clip_comes_more_often_than_the_limit(
    classes: list[int], cycles: int, limit: int
) -> None:
    labels = np.array(classes)
    for cycle in range(cycles):
        drawn = balanced_order(3, 1, cycle, labels, limit)
        assert len(labels) <= len(drawn) < len(labels) + len(set(classes))
        counts = np.bincount(drawn, minlength=len(labels))
        assert counts.max() <= limit
        # Equally often, unless the limit of a class is below: then every clip takes the limit.
        per_class = {label: counts[labels == label].sum() for label in set(classes)}
        for label, number in per_class.items():
            at_limit = number == limit * (labels == label).sum()
            assert at_limit or number == max(per_class.values())


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("first_step", [0, 4])
def test_keys_count_the_occurrences_within_the_epoch(world: int, first_step: int) -> None:
    """Counted by hand over the whole epoch, whatever ranks see and wherever a run resumes."""
    labels = np.array([0] * 20 + [1] * 3 + [2])
    ranks = [
        MicroBatchSampler(24, 9, 8, 2, rank, world, seed=2, balance=labels) for rank in range(world)
    ]
    for epoch in (0, 3):
        wanted: list[SampleKey] = []
        for index in ranks[0].epoch_items(epoch):
            times = sum(key.index == index for key in wanted)
            wanted.append(SampleKey(index, epoch, times))
        for sampler in ranks:
            sampler.set_position(epoch, first_step)
        found = [key for turn in zip(*ranks, strict=True) for batch in turn for key in batch]
        assert found == wanted[8 * first_step :]
        assert len(set(wanted)) == len(wanted)
        assert max(key.occurrence for key in wanted) > 1


def test_a_balanced_stream_is_the_same_on_any_rank_and_after_resuming() -> None:
    labels = np.array([0] * 20 + [1] * 3 + [2])
    whole = MicroBatchSampler(24, 5, 8, 2, seed=2, balance=labels)
    batches = list(whole)
    assert Counter(labels[[r.index for batch in batches[:12] for r in batch]].tolist()) == {
        0: 8,
        1: 8,
        2: 8,
    }
    ranks = [
        list(MicroBatchSampler(24, 5, 8, 2, rank, 2, seed=2, balance=labels)) for rank in range(2)
    ]
    assert [batch for pair in zip(*ranks, strict=True) for batch in pair] == batches
    whole.set_position(0, first_step=3)
    assert list(whole) == batches[12:]


def test_resuming_in_the_middle_gives_the_rest() -> None:
    sampler = MicroBatchSampler(30, 5, 6, 3, seed=2)
    sampler.set_position(1)
    whole = list(sampler)
    sampler.set_position(1, first_step=3)
    assert list(sampler) == whole[6:]
    assert len(sampler) == 4


def test_epochs_and_streams_differ() -> None:
    first = MicroBatchSampler(30, 5, 6, 3, seed=2)
    other = MicroBatchSampler(30, 5, 6, 3, seed=2, stream=1)
    assert list(first) != list(other)
    before = list(first)
    first.set_position(1)
    assert [[r.index for r in b] for b in first] != [[r.index for r in b] for b in before]


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 4))
@settings(deadline=None)
def test_chunks_cover_every_video_once_without_padding(
    num_items: int, chunk: int, world: int
) -> None:
    ranks = [ChunkSampler(num_items, chunk, rank, world) for rank in range(world)]
    seen = [request.index for sampler in ranks for batch in sampler for request in batch]
    assert sorted(seen) == list(range(num_items))
    assert [len(sampler) for sampler in ranks] == [len(list(sampler)) for sampler in ranks]


def test_a_limited_chunk_sampler_is_the_same_on_any_number_of_ranks() -> None:
    def taken(world: int) -> set[SampleKey]:
        ranks = [ChunkSampler(100, 4, rank, world, limit=30, seed=5) for rank in range(world)]
        return {request for sampler in ranks for batch in sampler for request in batch}

    assert taken(1) == taken(3)
    assert len(taken(1)) == 30


def test_draws_are_shared_out_by_weights_to_the_last_one() -> None:
    assert weighted_draws(np.array([1.0, 1, 1]), 10).tolist() == [4, 3, 3]
    assert weighted_draws(np.array([3.0, 1]), 8).tolist() == [6, 2]
    assert weighted_draws(np.array([5.0, 3, 2]), 7).tolist() == [4, 2, 1]
    rng = np.random.default_rng(0)
    for _ in range(50):
        weights, total = rng.uniform(0.1, 5, 9), int(rng.integers(1, 300))
        draws = weighted_draws(weights, total)
        assert draws.sum() == total
        assert np.abs(draws - weights / weights.sum() * total).max() < 1


def test_sources_are_mixed_by_shares_within_equal_classes() -> None:
    # Source 0 has classes 0 and 1, source 1 has classes 1 and 2, of very different sizes.
    sources = np.array([0] * 60 + [1] * 300)
    labels = np.array([0] * 50 + [1] * 10 + [1] * 290 + [2] * 10)
    groups = source_groups(sources, labels)
    weights = source_weights(sources, labels, [1.0, 3.0])
    sampler = MicroBatchSampler(360, 45, 8, 4, balance=groups, weights=weights)
    drawn = np.array([sampler.epoch_items(epoch) for epoch in range(4)]).ravel()
    shares = {
        pair: np.mean((sources[drawn] == pair[0]) & (labels[drawn] == pair[1]))
        for pair in [(0, 0), (0, 1), (1, 1), (1, 2)]
    }
    expected = {(0, 0): 1 / 3, (0, 1): 1 / 12, (1, 1): 1 / 4, (1, 2): 1 / 3}
    for pair, share in expected.items():
        assert shares[pair] == pytest.approx(share, abs=0.01)
    # Within a source and class every video comes as often as the others.
    counts = np.bincount(drawn, minlength=360)
    for group in np.unique(groups):
        assert np.ptp(counts[groups == group]) <= 1
    # A video that comes again in an epoch has draws of its own.
    keys = [key for batch in sampler for key in batch]
    assert len(set(keys)) == len(keys) == 360
