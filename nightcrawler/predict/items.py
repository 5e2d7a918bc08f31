"""Results of many videos, one after the other: an error of one costs that one only."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.remote import local_video
from nightcrawler.data.video.salvage import Damage, probe_damaged
from nightcrawler.data.video.stream import ASSUMED_FPS, readable_video_frames
from nightcrawler.predict.annotate import whole_video_span
from nightcrawler.predict.ensemble import Ensemble
from nightcrawler.predict.long_video import predict_long_videos
from nightcrawler.predict.sliding_windows import ScoredSpan, Window
from nightcrawler.predict.survive import PredictMany, survive
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.utils.errors import VideoError, unexpected_as_video_error
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.progress import progress

logger = get_logger(__name__)

WINDOWS_PER_LINE = 100
PROBED_TOGETHER = 16
# A longer video is predicted by windows of so many seconds, and so many apart, by itself: it shows
# one action after another.
LONG_SEC = 12.0
LONG_WINDOW = (4.0, 2.0)
# Short side of frames that are only counted.
COUNTED_SIDE_PX = 32


@dataclass(frozen=True)
class Windows:
    """Windows of time that videos are predicted by.

    Attributes:
        every: length and stride in seconds for videos of any length, None for whole videos.
        long: without `every`, those of videos of more than `LONG_SEC`, None for whole videos.
    """

    every: tuple[float, float] | None = None
    long: tuple[float, float] | None = None


def predict_items(
    ensemble: Ensemble,
    items: Sequence[VideoItem],
    windows: Windows,
    show_windows: bool = True,
) -> Iterator[tuple[VideoResult, list[ScoredSpan]]]:
    """Yield the result of each video and its spans of time, with progress on standard error.

    Args:
        ensemble: models to run.
        items: videos.
        windows: windows of time.
        show_windows: show progress over the windows of each video.
    """

    def by_windows(
        window: tuple[float, float], items: Sequence[VideoItem]
    ) -> Iterator[tuple[VideoResult, list[ScoredSpan]]]:
        def show(windows: Iterable[Window], total: int) -> Iterator[Window]:
            return progress(windows, total, "windows", every=WINDOWS_PER_LINE, enabled=show_windows)

        return survive(
            ensemble.class_names,
            items,
            lambda rest: predict_long_videos(ensemble, rest, *window, show),
        )

    def whole(items: Sequence[VideoItem]) -> Iterator[tuple[VideoResult, list[ScoredSpan]]]:
        names = ensemble.class_names
        return survive(names, items, lambda rest: _whole_videos(ensemble, rest))

    if windows.every is not None:
        yield from by_windows(windows.every, items)
        return
    pairs = whole(items)
    if windows.long is not None:
        long = functools.partial(by_windows, windows.long)
        pairs = _by_length(items, whole, long, ensemble.limits)
    yield from progress(pairs, len(items), "predict", enabled=len(items) > 1)


def _by_length(
    items: Sequence[VideoItem], whole: PredictMany, by_windows: PredictMany, limits: Limits
) -> Iterator[tuple[VideoResult, list[ScoredSpan]]]:
    """Yield results in order, short videos by one function and long ones by another."""
    # Neighbours of one kind stay together: the next video is decoded while the models run. Not all
    # of them, as each is probed before the first is predicted.
    for first in range(0, len(items), PROBED_TOGETHER):
        part = items[first : first + PROBED_TOGETHER]
        for long, group in itertools.groupby(part, key=functools.partial(_is_long, limits=limits)):
            predict = by_windows if long else whole
            yield from predict(list(group))


def _is_long(item: VideoItem, limits: Limits) -> bool:
    """Return whether a video is longer than `LONG_SEC`. One that cannot be read is not."""
    return (length_of(item, limits) or 0.0) > LONG_SEC


def length_of(item: VideoItem, limits: Limits) -> float | None:
    """Return the length of a video in seconds, None for one that cannot be read."""
    try:
        # Damaged or not: the rest of a long one is predicted by windows.
        with unexpected_as_video_error(item.path, "open"), local_video(str(item.path)) as path:
            info = probe_damaged(path, limits, Damage())
    except VideoError:
        return None
    return info.num_frames / (info.fps or ASSUMED_FPS)


def has_readable_part(item: VideoItem, limits: Limits) -> bool:
    """Return whether a video is damaged, but has frames that windows can be predicted of."""
    damage = Damage()
    num_read = 0
    try:
        with unexpected_as_video_error(item.path, "open"), local_video(str(item.path)) as path:
            info = probe_damaged(path, limits, damage)
            frames = readable_video_frames(path, info, damage, COUNTED_SIDE_PX, limits)
            for _ in frames:
                num_read += 1
                if damage:
                    break
    except VideoError as error:
        damage.interrupt(error.cause)
    return bool(damage) and num_read > 0


def _whole_videos(
    ensemble: Ensemble, items: Sequence[VideoItem]
) -> Iterator[tuple[VideoResult, list[ScoredSpan]]]:
    for result in ensemble.videos(items):
        spans = []
        if result.ok:
            spans.append(whole_video_span(result))
        yield result, spans
