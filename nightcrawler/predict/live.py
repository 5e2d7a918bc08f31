"""Live sources: a thread reads all frames and keeps the last window, and a caller takes the newest.

Frames that no caller takes in time are dropped, so a prediction is never older than the time it
takes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.stream import Frame
from nightcrawler.predict.sliding_windows import FrameBuffer, Window, window_of
from nightcrawler.utils.errors import VideoError

# A reader that waits for a silent camera longer than this is left behind.
JOIN_SEC = 2.0
# A shorter share of a window is waited for once.
LEAST_SHARE = 0.8


class LatestWindow:
    """Newest window of a source that a thread reads.

    Use it as a context manager: the thread starts on entry and stops on exit.

    Args:
        frames: frames of the source, read in the thread.
        window_sec: length of a window, in seconds.
        source: name of the source, for errors.
        limits: limits that include the memory of a window.
    """

    def __init__(
        self,
        frames: Iterable[Frame],
        window_sec: float,
        source: str = "",
        limits: Limits | None = None,
    ) -> None:
        self._source = source
        self._frames = frames
        self._buffer = FrameBuffer(source, window_sec, limits)
        self._changed = threading.Condition()
        self._stopped = False
        self._ended = False
        self._error: VideoError | None = None
        # A daemon: a camera that stopped sending must not keep the process alive.
        self._thread = threading.Thread(target=self._read, name=f"reader of {source}", daemon=True)

    def __enter__(self) -> LatestWindow:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        self._thread.join(JOIN_SEC)

    def _read(self) -> None:
        try:
            for frame in self._frames:
                if self._stopped:
                    return
                with self._changed:
                    self._buffer.add(frame)
                    self._changed.notify()
        except VideoError as error:
            self._error = error
        except Exception as error:
            # An error in a thread would be lost: the waiting caller raises it.
            self._error = VideoError(self._source, f"{type(error).__name__}: {error}", "read")
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def wait(self, until_sec: float, or_end: bool = False) -> Window | None:
        """Wait until the source reaches `until_sec` and return the newest window.

        Args:
            until_sec: time of the source, in seconds.
            or_end: return the last frames, too, of a source that ends earlier.

        Returns:
            the window, or None where the source ended earlier.

        Raises:
            VideoError: if the source was lost earlier.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._newest() >= until_sec)
            # Even after the end: the last frames are still worth a prediction.
            if self._newest() >= (0 if or_end else until_sec):
                return window_of(list(self._buffer.frames))
        if self._error:
            raise self._error
        return None

    def _newest(self) -> float:
        """Return the time of the newest frame, -1 before the first."""
        if not self._buffer.frames:
            return -1.0
        return self._buffer.frames[-1].time_sec


def live_windows(
    frames: Iterable[Frame],
    window_sec: float,
    stride_sec: float,
    source: str = "",
    limits: Limits | None = None,
) -> Iterator[tuple[Window, int]]:
    """Yield the newest window, at most every `stride_sec` of the source's time.

    The first window is yielded once it is complete, or the source ends.

    Args:
        frames: frames of a live source.
        window_sec: length of a window, see `predict.windows.check_window`.
        stride_sec: time between windows, see `predict.windows.check_window`.
        source: name of the source, for errors.
        limits: limits that include the memory of a window.

    Yields:
        the window, and the number of frames since the previous window that are in neither.

    Raises:
        VideoError: if the source is lost.
    """
    # Counted in the source's time, which goes on while a prediction is made.
    due_sec = window_sec
    last_number = -1
    has_waited = False
    with LatestWindow(frames, window_sec, source, limits) as latest:
        while window := latest.wait(due_sec, or_end=last_number < 0):
            is_short = window.end_sec - window.start_sec < LEAST_SHARE * window_sec
            if is_short and not has_waited:
                # The source was away: its first frames are no window yet.
                has_waited = True
                due_sec = window.start_sec + window_sec
                continue
            has_waited = False
            yield window, max(window.frames[0].number - last_number - 1, 0)
            last_number = window.frames[-1].number
            due_sec = window.frames[-1].time_sec + stride_sec
