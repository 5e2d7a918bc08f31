"""Windows that slide over a stream of frames, and the timeline that their predictions make."""

from __future__ import annotations

import bisect
import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from nightcrawler.data.video.integrity.limits import Limits, check_memory
from nightcrawler.predict.stream import ASSUMED_FPS, Frame
from nightcrawler.utils.errors import UserError

MOST_STEPS = 100
SHOWN_CLASSES = 5


@dataclass(frozen=True)
class Window:
    """What was seen from `start_sec` to `end_sec`: frames, at least one, in order."""

    start_sec: float
    end_sec: float
    frames: list[Frame]


class Held:
    """The frames of the last `window_sec`, bounded in memory.

    Args:
        source: name for errors.
        window_sec: how long a frame is held.
        limits: of its memory.
    """

    def __init__(self, source: str, window_sec: float, limits: Limits | None = None) -> None:
        self.source, self.window_sec, self.limits = source, window_sec, limits or Limits()
        self.frames: deque[Frame] = deque()

    def add(self, frame: Frame) -> None:
        """Hold a frame, let go of those that are too old.

        Raises:
            VideoError: if a window takes more memory than is allowed.
        """
        while self.frames and self.frames[0].time_sec <= frame.time_sec - self.window_sec:
            self.frames.popleft()
        height, width = frame.rgb.shape[:2]
        check_memory(self.source, len(self.frames) + 1, width, height, self.limits)
        self.frames.append(frame)


def check_steps(window_sec: float, stride_sec: float) -> None:
    """Refuse windows that leave gaps, or overlap more than `MOST_STEPS` times.

    Raises:
        UserError: with both lengths.
    """
    if not (0 < window_sec < float("inf") and window_sec / MOST_STEPS <= stride_sec <= window_sec):
        raise UserError(
            f"a window of {window_sec:g} s every {stride_sec:g} s: expected a window above 0 s and a stride from a "
            f"{MOST_STEPS}th of it up to its length"
        )


def sliding_windows(
    frames: Iterable[Frame],
    window_sec: float,
    stride_sec: float,
    source: str = "",
    limits: Limits | None = None,
) -> Iterator[Window]:
    """Windows that start every `stride_sec`; the last one ends with the video and is whole where the video is as long.

    No more frames are held than a window has. Windows without any frame are left out.

    Args:
        frames: in order of time.
        window_sec, stride_sec: see `check_steps`.
        source, limits: as of `Held`.
    """
    held, start, end = Held(source, window_sec, limits), 0.0, -1.0
    for frame in frames:
        while frame.time_sec >= start + window_sec:
            inside = [one for one in held.frames if one.time_sec >= start]
            if not inside:  # a gap: on to the window of the frame, however far that is
                start = max(frame.time_sec // stride_sec * stride_sec, start + stride_sec)
                continue
            end = start + window_sec
            yield Window(start, end, inside)
            start += stride_sec
        held.add(frame)
    if held.frames and held.frames[-1].time_sec >= end:
        yield as_window(list(held.frames))


def as_window(frames: list[Frame]) -> Window:
    """A window of frames that ends when the next frame would come."""
    first, last = frames[0].time_sec, frames[-1].time_sec
    return Window(
        first, last + ((last - first) / max(len(frames) - 1, 1) or 1 / ASSUMED_FPS), frames
    )


@dataclass(frozen=True)
class Piece:
    """A stretch of time, and its most probable classes with their mean probability over the windows that cover it."""

    start_sec: float
    end_sec: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True)
class Segment:
    """A stretch of time with one most probable class, and that class's mean probability."""

    start_sec: float
    end_sec: float
    label: int
    prob: float


@dataclass
class Timeline:
    """Turns windows' probabilities into pieces, as windows come; memory grows by a few numbers a stride.

    Attributes:
        pieces: what is settled, in order of time.
    """

    pieces: list[Piece] = field(default_factory=list)
    _open: list[tuple[float, float, np.ndarray]] = field(default_factory=list)

    def add(self, start_sec: float, end_sec: float, probs: np.ndarray) -> None:
        """Take a window that starts no sooner than those before it; probs are `[K]`."""
        self._settle(start_sec)
        self._open.append((start_sec, end_sec, probs))

    def finish(self) -> list[Piece]:
        """All pieces, after the last window."""
        self._settle(max((end for _, end, _ in self._open), default=0.0))
        return self.pieces

    def _settle(self, until: float) -> None:
        """Make pieces of the time before `until`, which no later window reaches."""
        edges = {edge for start, end, _ in self._open for edge in (start, end) if edge < until}
        settled = self.pieces[-1].end_sec if self.pieces else 0.0
        for start, end in itertools.pairwise(
            sorted({edge for edge in edges if edge >= settled} | {until, settled})
        ):
            covering = [
                probs for first, last, probs in self._open if first <= start and last >= end
            ]
            if covering and start < end:
                mean = np.mean(covering, axis=0)
                labels = np.argsort(-mean, kind="stable")[:SHOWN_CLASSES].tolist()
                self.pieces.append(
                    Piece(start, end, tuple((label, float(mean[label])) for label in labels))
                )
        self._open = [one for one in self._open if one[1] > until]


def merge_pieces(pieces: Iterable[Piece]) -> list[Segment]:
    """Segments: neighbouring pieces of one most probable class, as one; the probability is weighed by their lengths."""
    segments: list[Segment] = []
    for piece in pieces:
        (label, prob), length = piece.top[0], piece.end_sec - piece.start_sec
        last = segments[-1] if segments else None
        if last and last.label == label and last.end_sec == piece.start_sec:
            before = last.end_sec - last.start_sec
            mean = (last.prob * before + prob * length) / (before + length)
            segments[-1] = Segment(last.start_sec, piece.end_sec, label, mean)
        else:
            segments.append(Segment(piece.start_sec, piece.end_sec, label, prob))
    return segments


def piece_at(pieces: list[Piece], time_sec: float) -> Piece:
    """The piece of a time; the first or the last outside of all."""
    place = bisect.bisect_right(pieces, time_sec, key=lambda piece: piece.start_sec) - 1
    return pieces[max(place, 0)]
