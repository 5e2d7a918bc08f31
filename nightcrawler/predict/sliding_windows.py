"""Sliding windows over a stream of frames, and the timeline that their predictions make."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from nightcrawler.data.video.integrity.limits import Limits, check_memory
from nightcrawler.data.video.stream import ASSUMED_FPS, Frame
from nightcrawler.predict.trust import SURE, longest, status_of_mean, without_certainty
from nightcrawler.pseudo.predictions import STATUS_OK

# Largest length of a window in strides: the model sees each frame once per window that covers it.
MAX_OVERLAP = 100
# What to do where the frames of a window are too many.
SHORTER = "take a shorter --window-sec, or --whole"
# Classes kept per span of time, so that memory does not grow with the number of classes.
SHOWN_CLASSES = 5


@dataclass(frozen=True)
class Window:
    """Frames from `start_sec` to `end_sec`: at least one, in order."""

    start_sec: float
    end_sec: float
    frames: list[Frame]


class FrameBuffer:
    """Frames of the last `window_sec` seconds, bounded in memory.

    Args:
        source: name of the video, for errors.
        window_sec: seconds that a frame is kept.
        limits: limits that include the memory of a window.
    """

    def __init__(self, source: str, window_sec: float, limits: Limits | None = None) -> None:
        self.source = source
        self.window_sec = window_sec
        self.limits = limits or Limits()
        self.frames: deque[Frame] = deque()

    def add(self, frame: Frame) -> None:
        """Append a frame and drop frames older than the window, or of another size.

        Raises:
            VideoError: if the window exceeds the memory limit.
        """
        while self.frames and self.frames[0].time_sec <= frame.time_sec - self.window_sec:
            self.frames.popleft()
        if self.frames and self.frames[-1].rgb.shape != frame.rgb.shape:
            # A camera came back with other settings.
            self.frames.clear()
        height, width = frame.rgb.shape[:2]
        count = len(self.frames) + 1
        check_memory(self.source, count, width, height, self.limits, SHORTER)
        self.frames.append(frame)


def check_window(window_sec: float, stride_sec: float) -> None:
    """Refuse windows that leave gaps or overlap more than `MAX_OVERLAP` times.

    Args:
        window_sec: length of a window, in seconds.
        stride_sec: time between starts of windows, in seconds.

    Raises:
        ValueError: if a length is out of range.
    """
    is_finite = 0 < window_sec < float("inf")
    if not (is_finite and window_sec / MAX_OVERLAP <= stride_sec <= window_sec):
        raise ValueError(
            f"window_sec {window_sec:g} and stride_sec {stride_sec:g}: expected a window above 0 s "
            f"and a stride between a {MAX_OVERLAP}th of the window and the whole window"
        )


def sliding_windows(
    frames: Iterable[Frame],
    window_sec: float,
    stride_sec: float,
    source: str = "",
    limits: Limits | None = None,
) -> Iterator[Window]:
    """Yield windows that start every `stride_sec` seconds.

    The last window ends with the video, and is as long as the others if the video is. Windows
    without frames are left out. At most one window of frames is in memory.

    Args:
        frames: frames in order of time.
        window_sec: length of a window, see `check_window`.
        stride_sec: time between starts of windows, see `check_window`.
        source: name of the video, for errors.
        limits: limits that include the memory of a window.
    """
    buffer = FrameBuffer(source, window_sec, limits)
    start = 0.0
    end = -1.0
    for frame in frames:
        while frame.time_sec >= start + window_sec:
            inside = [one for one in buffer.frames if one.time_sec >= start]
            if not inside:
                # A gap in the stream: jump to the window of the next frame, however far away.
                start = max(frame.time_sec // stride_sec * stride_sec, start + stride_sec)
                continue
            end = start + window_sec
            yield Window(start, end, inside)
            start += stride_sec
        buffer.add(frame)
    # Frames after the end of the last full window: the buffer holds exactly one window of them.
    if buffer.frames and buffer.frames[-1].time_sec >= end:
        yield window_of(list(buffer.frames))


def window_of(frames: list[Frame]) -> Window:
    """Return frames as a window that ends at the expected time of the next frame."""
    first = frames[0].time_sec
    last = frames[-1].time_sec
    # A single frame tells no rate.
    frame_sec = (last - first) / max(len(frames) - 1, 1) or 1 / ASSUMED_FPS
    return Window(first, last + frame_sec, frames)


@dataclass(frozen=True)
class ScoredSpan:
    """A span of time with the mean scores of the windows that cover it.

    Attributes:
        start_sec: start, in seconds from the first frame.
        end_sec: end, in seconds from the first frame.
        top: most probable classes with their mean probabilities, the most probable first.
        status: how far they are to be believed, one of `predict.trust.TRUST`.
    """

    start_sec: float
    end_sec: float
    top: tuple[tuple[int, float], ...]
    status: str = STATUS_OK


@dataclass(frozen=True)
class Segment:
    """A stretch of time with one most probable class.

    Attributes:
        start_sec: start, in seconds from the first frame.
        end_sec: end, in seconds from the first frame.
        label: class number.
        prob: mean probability of the class over the stretch.
        status: how far it is to be believed, one of `predict.trust.TRUST`.
    """

    start_sec: float
    end_sec: float
    label: int
    prob: float
    status: str = STATUS_OK


@dataclass(frozen=True)
class ScoredWindow:
    """A window with its prediction.

    Attributes:
        start_sec: start, in seconds from the first frame.
        end_sec: end, in seconds from the first frame.
        probs: probabilities `[K]`.
        status: of the answer.
    """

    start_sec: float
    end_sec: float
    probs: np.ndarray
    status: str


@dataclass
class Timeline:
    """Spans of averaged window probabilities, built as windows arrive.

    Memory grows by a few numbers per stride.

    Attributes:
        spans: finished spans, in order of time.
    """

    spans: list[ScoredSpan] = field(default_factory=list)
    _open: list[ScoredWindow] = field(default_factory=list)

    def add(
        self, start_sec: float, end_sec: float, probs: np.ndarray, status: str = STATUS_OK
    ) -> None:
        """Add the prediction of a window.

        Args:
            start_sec: start of the window, not before the starts of earlier windows.
            end_sec: end of the window.
            probs: probabilities `[K]`.
            status: of the window's answer.
        """
        self._finish_until(start_sec)
        self._open.append(ScoredWindow(start_sec, end_sec, probs, status))

    def finish(self) -> list[ScoredSpan]:
        """Return all spans, after the last window."""
        self._finish_until(max((window.end_sec for window in self._open), default=0.0))
        return self.spans

    def _finish_until(self, until: float) -> None:
        """Make spans of the time before `until`, which no later window covers."""
        finished = self.spans[-1].end_sec if self.spans else 0.0
        edges = {finished, until}
        for window in self._open:
            ends = (window.start_sec, window.end_sec)
            edges.update(edge for edge in ends if finished <= edge < until)
        for start, end in itertools.pairwise(sorted(edges)):
            covering = []
            for window in self._open:
                if window.start_sec <= start and window.end_sec >= end:
                    covering.append(window)
            if covering and start < end:
                self.spans.append(_mean_span(start, end, covering))
        self._open = [window for window in self._open if window.end_sec > until]


def _mean_span(start: float, end: float, windows: list[ScoredWindow]) -> ScoredSpan:
    """Return a span with the mean of the windows that cover it, and the status of most of them.

    The mean is sure where all of them are, of its class: then it has what makes each of them sure.
    """
    mean = np.mean([window.probs for window in windows], axis=0)
    labels = np.argsort(-mean, kind="stable")[:SHOWN_CLASSES].tolist()
    top = tuple((label, float(mean[label])) for label in labels)
    status = longest((window.status, 1.0) for window in windows)
    sure = [one for one in windows if one.status == SURE and one.probs.argmax() == labels[0]]
    if len(sure) < len(windows):
        status = without_certainty(status)
    return ScoredSpan(start, end, top, status)


def merge_spans(spans: Iterable[ScoredSpan]) -> list[Segment]:
    """Merge adjacent spans with the same most probable class.

    Probabilities are averaged with the lengths of the spans as weights, statuses by
    `status_of_mean`.
    """
    groups: list[list[ScoredSpan]] = []
    # Spans with equal ends are adjacent: both ends come from the same window edge.
    for span in spans:
        last = groups[-1][-1] if groups else None
        if last and last.top[0][0] == span.top[0][0] and last.end_sec == span.start_sec:
            groups[-1].append(span)
        else:
            groups.append([span])
    return [_segment(group) for group in groups]


def _segment(spans: list[ScoredSpan]) -> Segment:
    """Return adjacent spans of one class as one stretch."""
    lengths = [span.end_sec - span.start_sec for span in spans]
    probs = [span.top[0][1] for span in spans]
    prob = float(np.average(probs, weights=lengths))
    statuses = [span.status for span in spans]
    sure = [one for one, status in zip(probs, statuses, strict=True) if status == SURE]
    return Segment(
        spans[0].start_sec,
        spans[-1].end_sec,
        spans[0].top[0][0],
        prob,
        status_of_mean(zip(statuses, lengths, strict=True), prob, min(sure, default=math.inf)),
    )


def seconds_of_classes(segments: Iterable[Segment]) -> dict[int, float]:
    """Return how many seconds each class of a timeline lasts, by class number.

    Example:
        >>> seconds_of_classes([Segment(0.0, 2.0, 1, 0.9), Segment(2.0, 2.5, 0, 0.6)])
        {1: 2.0, 0: 0.5}
    """
    seconds: dict[int, float] = {}
    for segment in segments:
        length = segment.end_sec - segment.start_sec
        seconds[segment.label] = seconds.get(segment.label, 0.0) + length
    return seconds


def span_at(spans: list[ScoredSpan], time_sec: float) -> ScoredSpan:
    """Return the last span that starts at or before a time, or the first span."""
    place = bisect.bisect_right(spans, time_sec, key=lambda span: span.start_sec) - 1
    return spans[max(place, 0)]
