"""Events: hysteresis, shortest length, gaps, and the clock."""

from __future__ import annotations

import datetime
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrawler.predict.events.rules import Event, EventRule, EventTracker
from nightcrawler.predict.events.tell import Events
from nightcrawler.predict.sliding_windows import ScoredSpan
from nightcrawler.predict.video_result import VideoResult

NAMES = ("Run", "Walk")
RULE = EventRule(0.6, 0.4, 2.0)


def found(
    probs: list[float], rule: EventRule = RULE, is_live: bool = False, step: float = 1.0
) -> list[tuple[str, float, float | None]]:
    """State, start and end of the events of `Run`, whose probability is given for each step."""
    tracker = EventTracker(rule, NAMES, "cam", is_live)
    events: list[Event] = []
    for number, prob in enumerate(probs):
        top = [(0, prob), (1, 1 - prob)]
        events += tracker.add(number * step, (number + 1) * step, top)
    events += tracker.finish()
    return [(one.state, one.start_sec, one.end_sec) for one in events if one.class_name == "Run"]


def test_an_event_begins_at_one_probability_and_ends_below_a_lower_one() -> None:
    probs = [0.5, 0.6, 0.41, 0.4, 0.39, 0.59, 0.7, 0.2]
    assert found(probs) == [("ended", 1.0, 4.0)]


def test_events_shorter_than_the_least_are_left_out() -> None:
    assert found([0.9, 0.1, 0.9, 0.9, 0.1]) == [("ended", 2.0, 4.0)]
    assert found([0.9] * 10, step=0.2) == [("ended", 0.0, 2.0)]  # sums of floats
    assert found([0.9] * 9, step=0.2) == []


def test_live_events_are_told_once_they_last_long_enough() -> None:
    assert found([0.1, 0.9, 0.9, 0.9, 0.1, 0.9], is_live=True) == [
        ("started", 1.0, None),
        ("ended", 1.0, 4.0),
    ]


def test_the_probability_is_the_mean_over_time() -> None:
    tracker = EventTracker(RULE, NAMES, "a.mp4")
    tracker.add(0.0, 1.0, [(1, 0.9)], "unsure")
    tracker.add(1.0, 4.0, [(1, 0.5)], "sure")
    [event] = tracker.finish()
    assert event.record() == {
        "event": "ended",
        "source": "a.mp4",
        "class": "Walk",
        "probability": pytest.approx(0.6),
        "status": "sure",
        "start_sec": 0.0,
        "end_sec": 4.0,
        "start_time": None,
        "end_time": None,
    }


def test_a_gap_ends_an_event_unless_it_is_bridged() -> None:
    for bridge, expected in ((0.0, [(0.0, 3.0), (5.0, 8.0)]), (2.0, [(0.0, 8.0)])):
        tracker = EventTracker(RULE, NAMES, "cam", bridge_sec=bridge)
        events = tracker.add(0.0, 3.0, [(0, 0.9)]) + tracker.add(5.0, 8.0, [(0, 0.9)])
        events += tracker.finish()
        assert [(one.start_sec, one.end_sec) for one in events] == expected


def test_windows_that_overlap_count_once_and_no_prediction_ends_an_event() -> None:
    tracker = EventTracker(RULE, NAMES, "cam", is_live=True)
    assert tracker.add(0.0, 3.0, [(0, 0.9)])[0].state == "started"
    assert tracker.add(1.0, 4.0, [(0, 0.5)]) == []
    assert tracker.add(1.0, 4.0, [(0, 0.1)]) == [], "nothing new"
    [event] = tracker.add(2.0, 5.0, [])
    assert (event.state, event.end_sec) == ("ended", 4.0)
    assert event.probability == pytest.approx((3 * 0.9 + 0.5) / 4)


def test_times_by_the_clock() -> None:
    tracker = EventTracker(RULE, NAMES, "cam", is_live=True)
    noon = datetime.datetime(2026, 11, 29, 12, tzinfo=datetime.UTC)
    [started] = tracker.add(10.0, 12.5, [(0, 0.9)], clock_sec=noon.timestamp())
    [ended] = tracker.finish()
    for event in (started, ended):
        assert event.start_time is not None
        start = datetime.datetime.fromisoformat(event.start_time)
        assert start == noon + datetime.timedelta(seconds=10)
    assert started.end_time is None
    assert ended.end_time is not None
    end = datetime.datetime.fromisoformat(ended.end_time)
    assert end == noon + datetime.timedelta(seconds=12.5)


def test_only_the_classes_that_are_asked_for() -> None:
    rule = EventRule(0.4, 0.3, 0.0, classes=(1,))
    tracker = EventTracker(rule, NAMES, "cam")
    tracker.add(0.0, 1.0, [(0, 0.5), (1, 0.5)])
    assert [one.class_name for one in tracker.finish()] == ["Walk"]


@pytest.mark.parametrize(
    "values",
    [(0.4, 0.6, 1), (0.6, 0.1, 1), (1.1, 0.5, 1), (0.6, 0.4, -1), (0.6, 0.4, float("inf"))],
)
def test_rules_that_do_not_fit(values: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        EventRule(*values)


class Kept:
    """Receiver that keeps events."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def send(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        pass


def test_events_of_a_video() -> None:
    kept = Kept()
    events = Events(EventRule(), NAMES, [kept])
    result = VideoResult("a.mp4", -1, "sure", NAMES, 0, (0.8, 0.2))
    whole = ScoredSpan(0.0, float("inf"), ((0, 0.8), (1, 0.2)), "unsure")
    events.tell_video(result, [whole], 3.5)
    events.tell_video(result, [whole], None)
    assert [(one.start_sec, one.end_sec) for one in kept.events] == [(0.0, 3.5), (0.0, None)]
    assert {one.probability for one in kept.events} == {0.8}
    Events(EventRule(), NAMES, [kept], reject=True).tell_video(result, [whole], 3.5)
    assert len(kept.events) == 2


@given(st.lists(st.floats(0, 1), max_size=40), st.floats(0.2, 0.6), st.floats(0, 5))
def test_events_are_those_of_a_plain_search(probs: list[float], end: float, least: float) -> None:
    """Runs of steps at or above `end`, from the first step at or above `start`, if long enough."""
    expected = []
    numbers = iter(range(len(probs)))
    for number in numbers:
        if probs[number] >= 0.6:
            run = list(
                itertools.takewhile(lambda one: probs[one] >= end, range(number, len(probs)))
            )
            if len(run) >= least - 1e-6:
                expected.append(("ended", float(number), float(number + len(run))))
            next(itertools.islice(numbers, len(run) - 1, len(run) - 1), None)
    assert found(probs, EventRule(0.6, end, least)) == expected


def test_a_second_class_is_not_sure_because_the_first_is() -> None:
    """And the mean of an event must be as probable as what was sure in it."""
    tracker = EventTracker(EventRule(0.3, 0.2, 0.0), ("Run", "Walk"), "a.mp4")
    tracker.add(0.0, 4.0, [(0, 0.65), (1, 0.35)], "sure")
    found = {event.class_name: event.status for event in tracker.finish()}
    assert found == {"Run": "sure", "Walk": "unsure"}
    tracker.add(4.0, 8.0, [(0, 0.65)], "sure")
    tracker.add(8.0, 10.0, [(0, 0.35)], "unsure")
    assert [event.status for event in tracker.finish()] == ["unsure"]
