"""Predict long recordings: sliding windows, a timeline, and at most one window in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.remote import local_video
from nightcrawler.data.video.salvage import Damage, probe_damaged
from nightcrawler.data.video.stream import ASSUMED_FPS, readable_video_frames
from nightcrawler.predict.model_input import FrameSpan
from nightcrawler.predict.sliding_windows import (
    ScoredSpan,
    Segment,
    Timeline,
    Window,
    merge_spans,
    seconds_of_classes,
    sliding_windows,
)
from nightcrawler.predict.trust import longest
from nightcrawler.predict.video_result import STATUS_DAMAGED, VideoResult
from nightcrawler.pseudo.predictions import STATUS_OK
from nightcrawler.utils.errors import NO_PERSON, VideoError

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

    def frames(self, item: VideoItem, span: FrameSpan) -> VideoResult:
        """Return the result of frames."""


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
        the result with its timeline, and the spans that the timeline was merged from. A damaged
        video has a result of its sound parts, and a status that tells the lost ones. One of which
        nothing can be read has a result with the reason, and no spans.
    """
    limits = model.limits
    damage = Damage()
    averaged = _Average(len(model.class_names))
    try:
        with local_video(str(item.path)) as path:
            info = probe_damaged(path, limits, damage)
            frames = readable_video_frames(
                path, info, damage, model.short_side, limits, model.color
            )
            windows: Iterable[Window] = sliding_windows(
                frames, window_sec, stride_sec, path, limits
            )
            if show is not None:
                seconds = info.num_frames / (info.fps or ASSUMED_FPS)
                windows = show(windows, max(round((seconds - window_sec) / stride_sec), 0) + 1)
            for window in windows:
                result = model.frames(item, span_of(window, item.path))
                if result.status == NO_PERSON and not result.ok:
                    # Nothing happens in this window. Others may show somebody.
                    continue
                # A model may refuse frames, such as pictures that are too small for its crops.
                if not result.ok:
                    return result, []
                averaged.add(window, result)
            if averaged.num_windows == 0 and damage:
                raise VideoError(item.path, damage.causes[0], "decode")
    except VideoError as error:
        if averaged.num_windows == 0:
            return _failed(model, item, error), []
        # Such as too many frames for one window: what was found before stays.
        damage.interrupt(error.cause)
        damage.end(info, 1 / (info.fps or ASSUMED_FPS))
    if averaged.num_windows == 0:
        return VideoResult(item.name, item.label, NO_PERSON, tuple(model.class_names)), []
    return averaged.result(model, item, damage)


class _Average:
    """Mean prediction of the windows of a video. Every window counts the same.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_windows = 0
        self.num_clips = 0
        self.timeline = Timeline()
        # Summed in float64, so that an hour of windows does not lose digits.
        self.total = np.zeros(num_classes)

    def add(self, window: Window, result: VideoResult) -> None:
        """Add the prediction of a window."""
        probs = np.array(result.probs)
        self.timeline.add(window.start_sec, window.end_sec, probs, result.status)
        self.total = self.total + probs
        self.num_windows += 1
        self.num_clips += result.num_clips

    def result(
        self, model: VideoModel, item: VideoItem, damage: Damage
    ) -> tuple[VideoResult, list[ScoredSpan]]:
        """Return the result of the video and its spans."""
        spans = self.timeline.finish()
        result = _mean_result(item, tuple(model.class_names), self.total / self.num_windows)
        segments = tuple(merge_spans(spans))
        class_id = longest_class(segments, result.probs)
        own = [one for one in segments if one.label == class_id]
        status = longest((one.status, one.end_sec - one.start_sec) for one in own)
        if damage:
            status = f"{STATUS_DAMAGED}: {damage.describe()}"
        result = replace(result, class_id=class_id, num_clips=self.num_clips)
        return replace(result, status=status, segments=segments), spans


def longest_class(segments: Sequence[Segment], probs: Sequence[float]) -> int:
    """Return the class that lasts longest, the more probable one of two that last equally.

    This is the class of a video that was predicted by windows, in every output.

    Args:
        segments: timeline of the video, at least one.
        probs: mean probabilities of the K classes.
    """
    seconds = seconds_of_classes(segments)
    return max(seconds, key=lambda label: (round(seconds[label], 6), probs[label]))


def _failed(model: VideoModel, item: VideoItem, error: VideoError) -> VideoResult:
    return VideoResult(item.name, item.label, error.status, class_names=tuple(model.class_names))


def span_of(window: Window, path: Path | None) -> FrameSpan:
    """Return the frames of a window as a span.

    Args:
        window: frames with their times.
        path: the file that they are of, `None` for those of a camera.
    """
    frames = [frame.rgb for frame in window.frames]
    seconds = window.end_sec - window.start_sec
    fps = len(frames) / seconds if seconds > 0 else 0.0
    return FrameSpan(frames, fps, path, window.start_sec, window.end_sec)


def _mean_result(item: VideoItem, class_names: tuple[str, ...], probs: np.ndarray) -> VideoResult:
    """Return the result of mean probabilities float64 `[K]`."""
    logits = np.log(np.maximum(probs, np.finfo(np.float32).tiny))
    return VideoResult(
        name=item.name,
        label=item.label,
        status=STATUS_OK,
        class_names=class_names,
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
