"""Frame sampling: indices in range, sorted, of the exact number; views apart where the video is long enough."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nightcrawler.data.frame_sampling import (
    dense_indices,
    dense_start,
    random_dense_indices,
    random_segment_indices,
    segment_bounds,
    segment_indices,
    window_indices,
)

lengths = st.integers(1, 3000)
frame_counts = st.sampled_from([1, 2, 3, 8, 16, 32, 64])
seeds = st.integers(0, 2**32 - 1)


def check_indices(indices: np.ndarray, num_total: int, num_frames: int) -> None:
    assert indices.shape == (num_frames,)
    assert indices.dtype == np.int64
    assert indices.min() >= 0
    assert indices.max() < num_total
    assert (np.diff(indices) >= 0).all()


@given(lengths, frame_counts)
def test_segment_bounds_are_rounded_fractions(num_total: int, num_frames: int) -> None:
    """Edge i is i (N - 1) / T rounded; halves are rounded to the even neighbour."""
    edges = [Fraction(i * (num_total - 1), num_frames) for i in range(num_frames + 1)]
    bounds = segment_bounds(num_total, num_frames)
    assert bounds.shape == (num_frames, 2)
    assert (bounds[1:, 0] == bounds[:-1, 1]).all()
    for edge, got in zip(edges, [*bounds[:, 0], bounds[-1, 1]], strict=True):
        assert abs(edge - int(got)) <= Fraction(1, 2)
    if (num_total - 1) % num_frames == 0:
        assert bounds[:, 0].tolist() == [int(edge) for edge in edges[:-1]]


def test_halves_are_rounded_to_even() -> None:
    assert segment_bounds(6, 2).tolist() == [[0, 2], [2, 5]]
    assert segment_bounds(8, 2).tolist() == [[0, 4], [4, 7]]


@given(lengths, frame_counts, seeds)
def test_random_segments(num_total: int, num_frames: int, seed: int) -> None:
    indices = random_segment_indices(num_total, np.random.default_rng(seed), num_frames)
    check_indices(indices, num_total, num_frames)
    bounds = segment_bounds(num_total, num_frames)
    assert ((bounds[:, 0] <= indices) & (indices <= bounds[:, 1])).all()
    assert (
        indices == random_segment_indices(num_total, np.random.default_rng(seed), num_frames)
    ).all()


def test_random_segments_are_uniform_with_both_ends() -> None:
    rng = np.random.default_rng(0)
    drawn = np.stack([random_segment_indices(41, rng, 4) for _ in range(4000)])
    for segment in range(4):
        counts = np.bincount(drawn[:, segment] - 10 * segment, minlength=11)
        assert len(counts) == 11
        assert stats.chisquare(counts).pvalue > 1e-3


@given(lengths, frame_counts, st.integers(1, 10), st.booleans(), st.data())
def test_segment_views(
    num_total: int, num_frames: int, num_views: int, published: bool, data: st.DataObject
) -> None:
    view = data.draw(st.integers(0, num_views - 1))
    indices = segment_indices(
        num_total, num_frames, view=view, num_views=num_views, published=published
    )
    check_indices(indices, num_total, num_frames)
    bounds = segment_bounds(num_total, num_frames)
    # An edge is rounded by at most half a frame, so a frame may lie one off its segment.
    assert ((bounds[:, 0] - 1 <= indices) & (indices <= bounds[:, 1] + 1)).all()


@given(frame_counts, st.integers(2, 10), st.integers(1, 500))
def test_views_share_no_frame_of_a_long_video(num_frames: int, num_views: int, extra: int) -> None:
    num_total = num_frames * num_views + extra
    views = [
        segment_indices(num_total, num_frames, view=view, num_views=num_views)
        for view in range(num_views)
    ]
    together = np.concatenate(views)
    assert len(np.unique(together)) == num_frames * num_views
    assert (np.diff(np.stack(views), axis=0) > 0).all()


@given(st.integers(2, 500), st.integers(2, 10), frame_counts)
def test_views_are_parts_of_one_finer_cut(num_total: int, num_views: int, num_frames: int) -> None:
    views = [
        segment_indices(num_total, num_frames, view=view, num_views=num_views)
        for view in range(num_views)
    ]
    finer = segment_indices(num_total, num_frames * num_views)
    assert np.stack(views, axis=1).reshape(-1).tolist() == finer.tolist()


def test_published_views_coincide_on_short_videos() -> None:
    """The three published views of 32 frames are one up to 43 frames; ours part as soon as there are frames enough."""
    published = {
        tuple(segment_indices(43, 32, view=view, num_views=3, published=True)) for view in range(3)
    }
    assert len(published) == 1
    assert (
        len(
            {
                tuple(segment_indices(44, 32, view=view, num_views=3, published=True))
                for view in range(3)
            }
        )
        == 2
    )
    assert len({tuple(segment_indices(43, 32, view=view, num_views=3)) for view in range(3)}) == 3


def test_a_single_view_by_hand() -> None:
    """Segments of 100 / 4 = 25 frames: starts 0, 25, 50, 75 plus 12."""
    assert segment_indices(101, 4).tolist() == [12, 37, 62, 87]
    assert segment_indices(101, 2, view=1, num_views=2).tolist() == [37, 87]
    assert segment_indices(1, 4).tolist() == [0, 0, 0, 0]


def test_every_view_of_short_videos_by_the_published_rule() -> None:
    """The start of each segment, rounded half to even, and a whole number of frames after it."""
    num_cases = 0
    for num_total, num_frames, num_views in itertools.product(
        range(1, 251), (4, 8, 16, 32), (1, 2, 3, 5, 10)
    ):
        length = (num_total - 1) / num_frames
        starts = [round(length * segment) for segment in range(num_frames)]
        for view in range(num_views):
            offset = int(length / (num_views + 1) * (view + 1))
            found = segment_indices(
                num_total, num_frames, view=view, num_views=num_views, published=True
            )
            assert found.tolist() == [start + offset for start in starts]
            num_cases += 1
    assert num_cases == 21_000


@given(lengths, frame_counts, st.integers(1, 8), st.integers(1, 10), st.booleans(), st.data())
@settings(max_examples=150)
def test_dense_views(
    num_total: int,
    num_frames: int,
    rate: int,
    num_views: int,
    use_offset: bool,
    data: st.DataObject,
) -> None:
    view = data.draw(st.integers(0, num_views - 1))
    indices = dense_indices(
        num_total, num_frames, rate, view=view, num_views=num_views, use_offset=use_offset
    )
    check_indices(indices, num_total, num_frames)
    if num_total >= num_frames * rate and num_frames > 1:
        assert indices[-1] - indices[0] in (num_frames * rate - 1, num_frames * rate - 2)


@pytest.mark.parametrize("num_views", [1, 2, 3, 10])
def test_dense_windows_reach_from_end_to_end(num_views: int) -> None:
    starts = [dense_start(200, 64, view, num_views) for view in range(num_views)]
    step = 136 // max(num_views - 1, 1)
    assert starts == ([68.0] if num_views == 1 else [view * step for view in range(num_views)])
    without = [dense_start(200, 64, view, num_views, use_offset=False) for view in range(num_views)]
    np.testing.assert_allclose(without, [136 * view / num_views for view in range(num_views)])


def test_a_short_video_repeats_its_last_frame() -> None:
    assert window_indices(5, 0, 7, 8).tolist() == [0, 1, 2, 3, 4, 4, 4, 4]
    assert dense_indices(3, 4, 2, view=2, num_views=3).tolist() == [0, 2, 2, 2]


@given(lengths, frame_counts, st.integers(1, 8), seeds)
def test_random_dense(num_total: int, num_frames: int, rate: int, seed: int) -> None:
    indices = random_dense_indices(num_total, np.random.default_rng(seed), num_frames, rate)
    check_indices(indices, num_total, num_frames)
    assert (
        indices == random_dense_indices(num_total, np.random.default_rng(seed), num_frames, rate)
    ).all()


def test_random_dense_starts_are_uniform() -> None:
    rng = np.random.default_rng(1)
    starts = [random_dense_indices(10_016, rng, 8, 2)[0] for _ in range(2000)]
    assert stats.kstest(starts, stats.uniform(0, 10_000).cdf).pvalue > 1e-3
