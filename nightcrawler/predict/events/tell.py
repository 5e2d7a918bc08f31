"""Tell events to their receivers: lines, a webhook, MQTT."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from nightcrawler.predict.annotate import without_unsure
from nightcrawler.predict.events.rules import Event, EventRule, EventTracker
from nightcrawler.predict.sliding_windows import ScoredSpan, Window
from nightcrawler.predict.trust import SURE
from nightcrawler.predict.video_result import VideoResult

# A camera that is silent for longer is away, and events do not last over that.
LIVE_BRIDGE_SEC = 10.0


class Receiver(Protocol):
    """Receiver of events."""

    def send(self, event: Event) -> None:
        """Take an event, without waiting for its delivery."""

    def close(self) -> None:
        """Deliver events that wait, for a bounded time, and say how many are lost."""


def to_json(event: Event) -> str:
    """Return an event as one line of JSON."""
    return json.dumps(event.record(), allow_nan=False)


class Lines:
    """Receiver that prints one JSON object per line.

    Args:
        echo: prints a line.
    """

    def __init__(self, echo: Callable[[str], None]) -> None:
        self._echo = echo

    def send(self, event: Event) -> None:
        """Print an event."""
        self._echo(to_json(event))

    def close(self) -> None:
        """Do nothing: every line is printed at once."""


class Events:
    """Events of all sources of a command.

    Args:
        rule: when an event begins and ends.
        class_names: names of the K classes.
        receivers: where events are told.
        reject: leave out predictions that are not sure.
    """

    def __init__(
        self,
        rule: EventRule,
        class_names: Sequence[str],
        receivers: Sequence[Receiver],
        reject: bool = False,
    ) -> None:
        self.rule = rule
        self.reject = reject
        self.class_names = class_names
        self._receivers = receivers

    def tell_video(
        self, result: VideoResult, spans: Sequence[ScoredSpan], seconds: float | None
    ) -> None:
        """Tell the events of a video that was predicted.

        Args:
            result: result of the video.
            spans: its predictions over time, in order.
            seconds: length of a video that was predicted as a whole, None if it is unknown.
        """
        tracker = EventTracker(self.rule, self.class_names, result.name)
        for span in without_unsure(spans) if self.reject else spans:
            end_sec = span.end_sec
            if math.isinf(end_sec) and seconds is not None:
                end_sec = seconds
            self.tell(tracker.add(span.start_sec, end_sec, span.top, span.status))
        self.tell(tracker.finish())

    def tell(self, events: Iterable[Event]) -> None:
        """Tell some events to all receivers."""
        for event in events:
            for receiver in self._receivers:
                receiver.send(event)

    def close(self) -> None:
        """Close all receivers."""
        for receiver in self._receivers:
            receiver.close()


class LiveEvents:
    """Events of a live source, told while they last. Leaving its context ends them.

    Args:
        events: where they are told.
        source: name of the source.
    """

    def __init__(self, events: Events, source: str) -> None:
        self._events = events
        self._tracker = EventTracker(
            events.rule, events.class_names, source, is_live=True, bridge_sec=LIVE_BRIDGE_SEC
        )

    def __enter__(self) -> LiveEvents:
        return self

    def __exit__(self, *_: object) -> None:
        self._events.tell(self._tracker.finish())

    def tell(self, window: Window, result: VideoResult, clock_sec: float) -> None:
        """Tell the events that a window begins or ends.

        Args:
            window: newest window of the source.
            result: its result. One without a prediction ends all events.
            clock_sec: clock at second 0 of the source, see `clock_at_start`.
        """
        probs = result.probs
        if self._events.reject and result.status != SURE:
            probs = ()
        found = self._tracker.add(
            window.start_sec, window.end_sec, enumerate(probs), result.status, clock_sec
        )
        self._events.tell(found)


def clock_at_start(window: Window) -> float:
    """Return the clock at second 0 of a source whose newest window ends now."""
    return time.time() - window.end_sec
