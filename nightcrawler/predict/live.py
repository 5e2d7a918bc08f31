"""Live sources: a thread reads all frames and keeps the last window of them; who asks gets the newest.

What is not asked for in time is dropped, so that an answer is never older than the time it takes to make it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator

from nightcrawler.predict.stream import Frame
from nightcrawler.predict.windows import Held, Window, as_window
from nightcrawler.utils.errors import VideoError

JOIN_SEC = 2.0


class LatestWindow:
    """The newest window of a source that a thread reads.

    A context: the thread starts on entry, and stops on leaving.

    Args:
        frames: the source, read in the thread.
        window_sec: length of a window.
        source: name for errors.
    """

    def __init__(self, frames: Iterable[Frame], window_sec: float, source: str = "") -> None:
        self._source, self._frames = source, frames
        self._held = Held(source, window_sec)
        self._changed = threading.Condition()
        self._stopped = self._ended = False
        self._fault: VideoError | None = None
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
                    self._held.add(frame)
                    self._changed.notify()
        except VideoError as error:
            self._fault = error
        except Exception as error:  # a thread's error would be lost: the one who waits gets it
            self._fault = VideoError(self._source, f"{type(error).__name__}: {error}", "read")
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def wait(self, until_sec: float) -> Window | None:
        """The newest window, once the source has come to `until_sec`; `None` where it ended before.

        Raises:
            VideoError: if the source was lost before.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._newest() >= until_sec)
            if self._newest() >= until_sec:
                return as_window(list(self._held.frames))
        if self._fault:
            raise self._fault
        return None

    def _newest(self) -> float:
        return self._held.frames[-1].time_sec if self._held.frames else -1.0


def live_windows(
    frames: Iterable[Frame], window_sec: float, stride_sec: float, source: str = ""
) -> Iterator[tuple[Window, int]]:
    """The newest window, at most every `stride_sec` of the source's time, from its first whole window on.

    Args:
        frames: a live source.
        window_sec, stride_sec: see `predict.windows.check_steps`.
        source: name for errors.

    Yields:
        the window, and how many frames since the window before were dropped without having been in any.

    Raises:
        VideoError: if the source is lost.
    """
    due, seen = window_sec, -1
    with LatestWindow(frames, window_sec, source) as latest:
        while window := latest.wait(due):
            yield window, max(window.frames[0].number - seen - 1, 0)
            seen, due = window.frames[-1].number, window.frames[-1].time_sec + stride_sec
