"""Predict long recordings: sliding windows, a timeline, and at most one window in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import probe
from nightcrawler.predict.sliding_windows import (
    ScoredSpan,
    Timeline,
    Window,
    merge_spans,
    sliding_windows,
)
from nightcrawler.predict.stream import ASSUMED_FPS, video_frames
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.pseudo.predictions import STATUS_OK
from nightcrawler.utils.errors import VideoError

# Wraps the windows of a video, of which there are about so many, to show progress.
ShowWindows = Callable[[Iterable[Window], int], Iterable[Window]]


class VideoModel(Protocol):
    """Interface of a model or an ensemble that predicts videos."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the K classes."""

    @property
    def short_side(self) -> int:
        """Short side of decoded frames in pixels, 0 for the size of the video."""

    @property
    def color(self) -> str:
        """Conversion of colours of decoded frames."""

    @property
    def limits(self) -> Limits:
        """Largest video that is accepted."""

    def videos(self, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
        """Yield the result of each video, in order."""

    def frames(self, item: VideoItem, frames: Sequence[np.ndarray]) -> VideoResult:
        """Return the result of frames uint8 `[H, W, 3]`."""


def predict_long_video(
    model: VideoModel,
    item: VideoItem,
    window_sec: float,
    stride_sec: float,
    show: ShowWindows | None = None,
) -> tuple[VideoResult, list[ScoredSpan]]:
    """Predict a video by sliding windows, and average them.

    Args:
        model: one model or an ensemble.
        item: the video.
        window_sec: length of a window, see `predict.windows.check_window`.
        stride_sec: time between windows, see `predict.windows.check_window`.
        show: wraps the windows to show progress.

    Returns:
        the result with its timeline, and the spans that the timeline was merged from. A video that
        cannot be read to its end has a result with the reason, and no spans.
    """
    limits = model.limits
    timeline = Timeline()
    # Summed in float64, so that an hour of windows does not lose digits.
    total = np.zeros(len(model.class_names))
    num_windows = 0
    num_clips = 0
    try:
        info = probe(str(item.path), limits)
        frames = video_frames(str(item.path), info, model.short_side, limits, model.color)
        windows: Iterable[Window] = sliding_windows(
            frames, window_sec, stride_sec, str(item.path), limits
        )
        if show is not None:
            seconds = info.num_frames / (info.fps or ASSUMED_FPS)
            windows = show(windows, max(round((seconds - window_sec) / stride_sec), 0) + 1)
        for window in windows:
            result = model.frames(item, [frame.rgb for frame in window.frames])
            # A model may refuse frames, such as pictures that are too small for its crops.
            if not result.ok:
                return result, []
            probs = np.array(result.probs)
            timeline.add(window.start_sec, window.end_sec, probs)
            total = total + probs
            num_windows += 1
            num_clips += result.num_clips
    except VideoError as error:
        failed = VideoResult(
            item.name,
            item.label,
            error.status,
            class_names=tuple(model.class_names),
        )
        return failed, []
    # Every window counts the same, so the class of the video may differ from its longest segment.
    spans = timeline.finish()
    result = _mean_result(item, tuple(model.class_names), total / num_windows)
    return replace(result, num_clips=num_clips, segments=tuple(merge_spans(spans))), spans


def _mean_result(item: VideoItem, class_names: tuple[str, ...], probs: np.ndarray) -> VideoResult:
    """Return the result of mean probabilities float64 `[K]`."""
    logits = np.log(np.maximum(probs, np.finfo(np.float32).tiny))
    return VideoResult(
        name=item.name,
        label=item.label,
        status=STATUS_OK,
        class_names=class_names,
        class_id=int(probs.argmax()),
        probs=tuple(probs.tolist()),
        logits=tuple(logits.tolist()),
    )


def predict_long_videos(
    model: VideoModel,
    items: Iterable[VideoItem],
    window_sec: float,
    stride_sec: float,
    show: ShowWindows | None = None,
) -> Iterator[tuple[VideoResult, list[ScoredSpan]]]:
    """Yield `predict_long_video` of each video, in order."""
    for item in items:
        yield predict_long_video(model, item, window_sec, stride_sec, show)
