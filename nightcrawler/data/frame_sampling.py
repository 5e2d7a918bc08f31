"""Which frames of a video make a clip."""

from __future__ import annotations

import numpy as np


def segment_bounds(num_total: int, num_frames: int) -> np.ndarray:
    """First and last frame of each of `num_frames` equal segments, inclusive; int64 `[num_frames, 2]`.

    Segments have (num_total - 1) / num_frames frames; edges are rounded half to even and shared by neighbours.
    """
    edges = np.rint(np.arange(num_frames + 1) * (float(num_total - 1) / num_frames)).astype(
        np.int64
    )
    return np.stack([edges[:-1], edges[1:]], axis=1)


def random_segment_indices(num_total: int, rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """One frame drawn from each segment (training); int64 `[num_frames]`."""
    bounds = segment_bounds(num_total, num_frames)
    return rng.integers(bounds[:, 0], bounds[:, 1], endpoint=True)


def segment_indices(
    num_total: int, num_frames: int, *, view: int = 0, num_views: int = 1, published: bool = False
) -> np.ndarray:
    """One fixed frame of each segment (testing); int64 `[num_frames]`, not decreasing, below `num_total`.

    A single view takes each segment's start plus half a segment (cut to whole frames). Several views cut each segment
    into `num_views` parts, and view v does the same with the v-th part: views share no frame as soon as the video has
    more than num_frames x num_views frames.

    Args:
        num_total: frames of the video.
        num_frames: frames of the clip.
        view: which view, from 0.
        num_views: how many views there are.
        published: the published rule, start + trunc(segment / (num_views + 1) * (view + 1)), whose views coincide on
            short videos.
    """
    if published:
        size = float(num_total - 1) / num_frames
        return segment_bounds(num_total, num_frames)[:, 0] + int(
            size / (num_views + 1) * (view + 1)
        )
    parts = num_frames * num_views
    starts = segment_bounds(num_total, parts)[view::num_views, 0]
    return starts + int(float(num_total - 1) / parts / 2)


def dense_start(
    num_total: int, clip_size: float, view: int, num_views: int, use_offset: bool = True
) -> float:
    """First frame of one of `num_views` windows of `clip_size` frames.

    Args:
        num_total: frames of the video.
        clip_size: frames that a window spans.
        view, num_views: which window of how many.
        use_offset: windows reach from the first frame to the last (one window: the middle); otherwise they start at
            equal distances from frame 0.
    """
    slack = max(num_total - clip_size, 0)
    if not use_offset:
        return slack * view / num_views
    return float(slack // 2) if num_views == 1 else view * float(slack // (num_views - 1))


def window_indices(num_total: int, start: float, end: float, num_frames: int) -> np.ndarray:
    """`num_frames` frames evenly from `start` to `end`, kept inside the video; int64 `[num_frames]`."""
    return np.clip(np.linspace(start, end, num_frames), 0, num_total - 1).astype(np.int64)


def dense_indices(
    num_total: int,
    num_frames: int,
    sampling_rate: int,
    *,
    view: int = 0,
    num_views: int = 1,
    use_offset: bool = True,
) -> np.ndarray:
    """Frames of a test window of `num_frames` x `sampling_rate` frames; int64 `[num_frames]`."""
    clip_size = num_frames * sampling_rate
    start = dense_start(num_total, clip_size, view, num_views, use_offset)
    return window_indices(num_total, start, start + clip_size - 1, num_frames)


def random_dense_indices(
    num_total: int, rng: np.random.Generator, num_frames: int, sampling_rate: int
) -> np.ndarray:
    """Frames of a window whose start is drawn uniformly (training); int64 `[num_frames]`."""
    clip_size = num_frames * sampling_rate
    start = rng.uniform(0, max(num_total - clip_size, 0))
    return window_indices(num_total, start, start + clip_size - 1, num_frames)
