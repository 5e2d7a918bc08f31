"""Events in time: a class that is probable for a while, with hysteresis."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from nightcrawler.predict.trust import SURE, status_of_mean, without_certainty
from nightcrawler.pseudo.predictions import STATUS_OK

STARTED = "started"
ENDED = "ended"
# Of a span, the five most probable classes are kept: a class that is not among them has less.
LEAST_END = 0.2
# Edges of spans are sums of strides.
SLACK_SEC = 1e-6


@dataclass(frozen=True)
class EventRule:
    """When an event begins and ends.

    Attributes:
        start: least probability that begins an event.
        end: an event lasts until its class is less probable than this.
        min_sec: shorter events are left out.
        classes: class numbers that events are told of. Empty tells of all.
    """

    start: float = 0.6
    end: float = 0.4
    min_sec: float = 1.0
    classes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Raise a `ValueError` for values that do not fit."""
        if not LEAST_END <= self.end <= self.start <= 1:
            raise ValueError(
                f"an event starts at {self.start:g} and ends below {self.end:g}: expected "
                f"{LEAST_END:g} <= end <= start <= 1"
            )
        if not 0 <= self.min_sec < math.inf:
            raise ValueError(f"shortest event of {self.min_sec:g} s: expected 0 or more")


@dataclass(frozen=True)
class Event:
    """A class that was seen for a while.

    Attributes:
        state: `STARTED` while it lasts, `ENDED` once it is over.
        source: name of the video or camera.
        class_name: class.
        probability: mean probability of the class so far, weighted by time.
        status: how far it is to be believed so far, one of `predict.trust.TRUST`.
        start_sec: start, in seconds from the first frame.
        end_sec: end, in seconds from the first frame, None while it lasts or if it is unknown.
        start_time: start by the clock on the wall, ISO 8601, None for files.
        end_time: likewise its end.
    """

    state: str
    source: str
    class_name: str
    probability: float
    status: str
    start_sec: float
    end_sec: float | None = None
    start_time: str | None = None
    end_time: str | None = None

    def record(self) -> dict[str, str | float | None]:
        """Return the event as a JSON object, with the names that segments have."""
        return {
            "event": self.state,
            "source": self.source,
            "class": self.class_name,
            "probability": self.probability,
            "status": self.status,
            "start_sec": self.start_sec,
            "end_sec": self.end_sec,
            "start_time": self.start_time,
            "end_time": self.end_time,
        }


@dataclass
class _Run:
    """A class that is probable since `start_sec`.

    Attributes:
        start_sec: start.
        end_sec: end so far.
        clock_sec: clock at second 0 of the source, None for files.
        weighted: sum of probability times seconds.
        seconds: how long each status held.
        least_sure: least probability at which the class was sure.
        is_told: a `STARTED` event was returned.
    """

    start_sec: float
    end_sec: float
    clock_sec: float | None
    weighted: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    least_sure: float = math.inf
    is_told: bool = False

    def add(self, prob: float, status: str, seconds: float) -> None:
        """Add a stretch of time."""
        self.weighted += prob * seconds
        self.seconds[status] = self.seconds.get(status, 0.0) + seconds
        if status == SURE:
            self.least_sure = min(self.least_sure, prob)


class EventTracker:
    """Find the events of one source in its predictions, in order of time.

    Args:
        rule: when an event begins and ends.
        class_names: names of the K classes.
        source: name of the video or camera.
        is_live: tell of events while they last.
        bridge_sec: longest time without a prediction that an event lasts over.

    Example:
        >>> tracker = EventTracker(EventRule(0.6, 0.4, 1.0), ("Run", "Walk"), "a.mp4")
        >>> found = tracker.add(0.0, 2.0, [(0, 0.75)]) + tracker.add(2.0, 3.0, [(0, 0.45)])
        >>> [event] = found + tracker.finish()
        >>> event.class_name, event.start_sec, event.end_sec, event.probability
        ('Run', 0.0, 3.0, 0.65)
    """

    def __init__(
        self,
        rule: EventRule,
        class_names: Sequence[str],
        source: str,
        is_live: bool = False,
        bridge_sec: float = 0.0,
    ) -> None:
        self._rule = rule
        self._names = class_names
        self._source = source
        self._is_live = is_live
        self._bridge_sec = bridge_sec
        self._runs: dict[int, _Run] = {}
        self._end_sec: float | None = None

    def add(
        self,
        start_sec: float,
        end_sec: float,
        top: Iterable[tuple[int, float]],
        status: str = STATUS_OK,
        clock_sec: float | None = None,
    ) -> list[Event]:
        """Add the prediction of a span of time.

        Args:
            start_sec: start. Time that earlier spans cover is left out.
            end_sec: end, infinite for a video of unknown length.
            top: class numbers with their probabilities, the most probable first.
            status: of the prediction, whose class is the first.
            clock_sec: clock at second 0 of the source, seconds since 1970, None for files.

        Returns:
            the events that ended, then those that began.
        """
        probs = dict(top)
        first = next(iter(probs), None)
        before = self._end_sec
        events: list[Event] = []
        if before is not None:
            # Windows of a live source overlap: what they add is the time after the last one.
            if start_sec > before + self._bridge_sec + SLACK_SEC:
                events += self.finish()
            else:
                start_sec = before
        if end_sec <= start_sec:
            return events
        self._end_sec = end_sec
        # Ends first: a reader that follows the newest event must not see two at once.
        for label in [one for one in self._runs if probs.get(one, 0.0) < self._rule.end]:
            events += self._ended(label)
        # All of the video, where its length is unknown.
        seconds = 1.0 if math.isinf(end_sec) else end_sec - start_sec
        for label, prob in probs.items():
            if label not in self._runs:
                if not self._begins(label, prob):
                    continue
                self._runs[label] = _Run(start_sec, end_sec, clock_sec)
            run = self._runs[label]
            run.end_sec = end_sec
            run.add(prob, status if label == first else without_certainty(status), seconds)
            events += self._started(label)
        return events

    def _begins(self, label: int, prob: float) -> bool:
        is_wanted = not self._rule.classes or label in self._rule.classes
        return is_wanted and prob >= self._rule.start

    def _started(self, label: int) -> list[Event]:
        """Return the event of a class that lasts long enough, once."""
        run = self._runs[label]
        if not self._is_live or run.is_told or not self._is_long(run):
            return []
        run.is_told = True
        return [self._event(STARTED, label, run)]

    def _ended(self, label: int) -> list[Event]:
        """Forget a class, and return its event if it lasted long enough."""
        run = self._runs.pop(label)
        if not self._is_long(run):
            return []
        return [self._event(ENDED, label, run)]

    def _is_long(self, run: _Run) -> bool:
        return run.end_sec - run.start_sec >= self._rule.min_sec - SLACK_SEC

    def _event(self, state: str, label: int, run: _Run) -> Event:
        is_known = state == ENDED and not math.isinf(run.end_sec)
        mean = run.weighted / sum(run.seconds.values())
        return Event(
            state,
            self._source,
            self._names[label],
            mean,
            status_of_mean(run.seconds.items(), mean, run.least_sure),
            run.start_sec,
            run.end_sec if is_known else None,
            _iso_time(run.clock_sec, run.start_sec),
            _iso_time(run.clock_sec, run.end_sec) if is_known else None,
        )

    def finish(self) -> list[Event]:
        """End all events: the source has ended, or was away."""
        events: list[Event] = []
        for label in list(self._runs):
            events += self._ended(label)
        return events


def _iso_time(clock_sec: float | None, seconds: float) -> str | None:
    """Return a time of a source as ISO 8601 with milliseconds and the offset of local time."""
    if clock_sec is None:
        return None
    moment = datetime.datetime.fromtimestamp(clock_sec + seconds, datetime.UTC).astimezone()
    return moment.isoformat(timespec="milliseconds")
