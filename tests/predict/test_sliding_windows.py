"""Windows and timelines, against what is counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.stream import Frame
from nightcrawler.predict.sliding_windows import (
    ScoredSpan,
    Segment,
    Timeline,
    check_window,
    merge_spans,
    sliding_windows,
    span_at,
)
from nightcrawler.utils.errors import VideoError

PIXEL = np.zeros((1, 1, 3), np.uint8)


def frames_at(*times: float) -> list[Frame]:
    return [Frame(number, time, PIXEL) for number, time in enumerate(times)]


def window_spans(
    times: list[float], window: float, stride: float
) -> list[tuple[float, float, list[int]]]:
    found = sliding_windows(frames_at(*times), window, stride)
    return [
        (one.start_sec, round(one.end_sec, 6), [frame.number for frame in one.frames])
        for one in found
    ]


def test_windows_slide_and_the_last_ends_with_the_video() -> None:
    seconds = [float(time) for time in range(8)]
    assert window_spans(seconds, 4, 2) == [
        (0, 4, [0, 1, 2, 3]),
        (2, 6, [2, 3, 4, 5]),
        (4, 8, [4, 5, 6, 7]),
    ]
    assert window_spans(seconds[:7], 4, 2)[1:] == [(2, 6, [2, 3, 4, 5]), (3, 7, [3, 4, 5, 6])]
    assert window_spans(seconds[:6], 4, 4) == [(0, 4, [0, 1, 2, 3]), (2, 6, [2, 3, 4, 5])]


def test_a_video_shorter_than_a_window_is_one() -> None:
    assert window_spans([0.0, 0.5, 1.0], 4, 2) == [(0, 1.5, [0, 1, 2])]
    assert window_spans([0.0], 4, 2) == [(0, 0.04, [0])]
    assert window_spans([], 4, 2) == []


def test_a_gap_of_years_takes_no_time() -> None:
    found = window_spans([0.0, 1.0, 1e9, 1e9 + 1], 2, 0.02)
    assert found[0] == (0, 2, [0, 1])
    assert found[-1][2] == [2, 3]
    assert len(found) < 110


@settings(deadline=None, max_examples=80)
@given(
    st.lists(st.floats(0, 3, allow_nan=False), min_size=1, max_size=60),
    st.floats(0.5, 5),
    st.floats(0.05, 1),
)
def test_every_frame_is_in_a_window_and_no_window_is_longer(
    gaps: list[float], window: float, share: float
) -> None:
    times = np.cumsum(gaps) - gaps[0]
    found = list(sliding_windows(frames_at(*times), window, window * share))
    assert {frame.number for one in found for frame in one.frames} == set(range(len(times)))
    for one in found:
        assert one.frames[-1].time_sec - one.frames[0].time_sec <= window + 1e-9
        assert [frame.number for frame in one.frames] == sorted(
            frame.number for frame in one.frames
        )
    assert [one.start_sec for one in found] == sorted(one.start_sec for one in found)


def test_a_window_that_takes_too_much_memory_is_refused() -> None:
    with pytest.raises(VideoError, match=r"3 frames of 1x1 pixels .* or --whole"):
        list(sliding_windows(frames_at(0, 1, 2), 9, 3, "a.mp4", Limits(memory_bytes=6)))


@pytest.mark.parametrize(
    ("window", "stride"), [(0, 0), (-1, 1), (2, 3), (2, 0), (2, 0.001), (float("inf"), 1)]
)
def test_windows_that_make_no_sense(window: float, stride: float) -> None:
    with pytest.raises(
        ValueError, match=r"window_sec .* and stride_sec .*: expected a window above 0 s"
    ):
        check_window(window, stride)


def test_overlapping_windows_are_averaged_where_they_overlap() -> None:
    timeline = Timeline()
    timeline.add(0, 4, np.array([0.9, 0.1]))
    timeline.add(2, 6, np.array([0.2, 0.8]))
    timeline.add(4, 8, np.array([0.1, 0.9]))
    spans = timeline.finish()
    assert [(one.start_sec, one.end_sec) for one in spans] == [(0, 2), (2, 4), (4, 6), (6, 8)]
    first = [dict(one.top)[0] for one in spans]
    np.testing.assert_allclose(first, [0.9, 0.55, 0.15, 0.1])
    segments = merge_spans(spans)
    assert [(one.start_sec, one.end_sec, one.label) for one in segments] == [(0, 4, 0), (4, 8, 1)]
    np.testing.assert_allclose([one.prob for one in segments], [(0.9 + 0.55) / 2, (0.85 + 0.9) / 2])


def test_a_span_is_sure_where_all_its_windows_are_of_its_class() -> None:
    """The mean of two that are sure of different classes leads by little."""
    timeline = Timeline()
    timeline.add(0, 4, np.array([0.8, 0.1, 0.1]), "sure")
    timeline.add(2, 6, np.array([0.7, 0.2, 0.1]), "sure")
    timeline.add(4, 8, np.array([0.05, 0.9, 0.05]), "sure")
    timeline.add(6, 10, np.array([0.3, 0.4, 0.3]), "unsure")
    timeline.add(8, 12, np.array([0.5, 0.3, 0.2]), "no person")
    statuses = [one.status for one in timeline.finish()]
    assert statuses == ["sure", "sure", "unsure", "unsure", "no person", "no person"]


def test_a_stretch_is_sure_where_its_mean_is_as_probable_as_a_sure_part() -> None:
    sure, other = ScoredSpan(0, 4, ((1, 0.8),), "sure"), ScoredSpan(4, 6, ((1, 0.3),), "unsure")
    (segment,) = merge_spans([sure, other])
    assert (segment.status, round(segment.prob, 3)) == ("unsure", 0.633)
    less = ScoredSpan(0, 4, ((1, 0.6),), "sure")
    likely = ScoredSpan(4, 6, ((1, 0.7),), "unsure")
    assert merge_spans([less, likely])[0].status == "sure"


def test_a_gap_between_windows_stays_one() -> None:
    timeline = Timeline()
    timeline.add(0, 2, np.array([0.7, 0.3]))
    timeline.add(10, 12, np.array([0.7, 0.3]))
    assert merge_spans(timeline.finish()) == [Segment(0, 2, 0, 0.7), Segment(10, 12, 0, 0.7)]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 6), st.floats(0, 1)), min_size=1, max_size=30
    )
)
def test_spans_are_the_mean_of_what_covers_them(steps: list[tuple[int, int, float]]) -> None:
    """Against a table of every second."""
    timeline, start, windows = Timeline(), 0, []
    for gap, length, prob in steps:
        start += gap
        windows.append((start, start + length, prob))
        timeline.add(start, start + length, np.array([prob, 1 - prob]))
    spans = timeline.finish()
    for second in range(max(end for _, end, _ in windows)):
        covering = [prob for first, end, prob in windows if first <= second < end]
        inside = [one for one in spans if one.start_sec <= second < one.end_sec]
        assert len(inside) == bool(covering)
        if covering:
            assert dict(inside[0].top)[0] == pytest.approx(np.mean(covering))


def test_the_span_of_a_time() -> None:
    spans = [ScoredSpan(1, 2, ((0, 1.0),)), ScoredSpan(2, 5, ((1, 1.0),))]
    assert [span_at(spans, time).start_sec for time in (0, 1, 1.9, 2, 9)] == [1, 1, 1, 2, 2]
