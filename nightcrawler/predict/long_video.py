"""A long recording: windows slide over it, their answers make a timeline, and never more than a window is held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import probe
from nightcrawler.predict.ensemble import Ensemble
from nightcrawler.predict.rows import VideoResult
from nightcrawler.predict.stream import ASSUMED_FPS, video_frames
from nightcrawler.predict.windows import Piece, Timeline, Window, merge_pieces, sliding_windows
from nightcrawler.pseudo.predictions import STATUS_OK
from nightcrawler.utils.errors import VideoError

Show = Callable[[Iterable[Window], int], Iterable[Window]]


def short_side(group: Ensemble) -> int:
    """To what short side frames are decoded, in pixels: the models' where they agree, else 0, their own."""
    sides = {member.short_side for member in group.members}
    return sides.pop() if len(sides) == 1 else 0


def long_video(
    group: Ensemble, item: VideoItem, window_sec: float, stride_sec: float, show: Show
) -> tuple[VideoResult, list[Piece]]:
    """What is said of a video: the mean over its windows, and what is when.

    Args:
        group: the models.
        item: the video.
        window_sec, stride_sec: of windows, see `predict.windows.check_steps`.
        show: goes through windows, given about how many there will be, and shows how far it is.

    Returns:
        its row, with a timeline; and the pieces that the timeline was merged of. A video that cannot be read to its
        end has neither, but its cause.
    """
    timeline, limits = Timeline(), Limits()
    total, count, num_clips = np.zeros(len(group.class_names)), 0, 0
    try:
        found = probe(str(item.path), limits)
        seconds = found.num_frames / (found.fps or ASSUMED_FPS)
        frames = video_frames(str(item.path), found, short_side(group), limits)
        windows = sliding_windows(frames, window_sec, stride_sec, str(item.path), limits)
        for window in show(windows, max(round((seconds - window_sec) / stride_sec), 0) + 1):
            answer = group.frames(item, [frame.rgb for frame in window.frames])
            if not answer.ok:
                return answer, []
            probs = np.array(answer.probs)
            timeline.add(window.start_sec, window.end_sec, probs)
            total, count, num_clips = total + probs, count + 1, num_clips + answer.num_clips
    except VideoError as error:
        return VideoResult(item.name, item.label, f"error: {error.cause} ({error.where})"), []
    return _summary(item, total / count, num_clips, timeline.finish())


def _summary(
    item: VideoItem, probs: np.ndarray, num_clips: int, pieces: list[Piece]
) -> tuple[VideoResult, list[Piece]]:
    logits = np.log(np.maximum(probs, np.finfo(np.float32).tiny))
    row = VideoResult(
        item.name,
        item.label,
        STATUS_OK,
        int(probs.argmax()),
        tuple(probs.tolist()),
        tuple(logits.tolist()),
    )
    return replace(row, num_clips=num_clips, segments=tuple(merge_pieces(pieces))), pieces


def long_videos(
    group: Ensemble, items: Iterable[VideoItem], window_sec: float, stride_sec: float, show: Show
) -> Iterator[tuple[VideoResult, list[Piece]]]:
    """`long_video` of each, in order."""
    return (long_video(group, item, window_sec, stride_sec, show) for item in items)
