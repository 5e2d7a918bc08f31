"""Choice of the frames of a clip: one of each segment (Wang et al. 2016), or a dense window."""

from __future__ import annotations

import numpy as np

from nightcrawler.utils.float32 import linspace_float32


def segment_bounds(num_total: int, num_frames: int) -> np.ndarray:
    """Cut a video into equal segments.

    Segments have (num_total - 1) / num_frames frames. Edges are rounded half to even and shared by
    neighbours.

    Args:
        num_total: number of frames of the video.
        num_frames: number of segments.

    Returns:
        First and last frame of each segment, inclusive, int64 `[num_frames, 2]`.
    """
    # Floating point and half to even, as in the published code: other rounding gives other frames.
    length = float(num_total - 1) / num_frames
    edges = np.rint(np.arange(num_frames + 1) * length).astype(np.int64)
    return np.stack([edges[:-1], edges[1:]], axis=1)


def random_segment_indices(num_total: int, rng: np.random.Generator, num_frames: int) -> np.ndarray:
    """Draw one frame of each segment (training).

    Args:
        num_total: number of frames of the video.
        rng: generator of the draws.
        num_frames: number of frames of the clip.

    Returns:
        int64 `[num_frames]`.
    """
    bounds = segment_bounds(num_total, num_frames)
    # Both ends count: neighbouring segments share an edge, and a short video repeats frames.
    return rng.integers(bounds[:, 0], bounds[:, 1], endpoint=True)


def segment_indices(
    num_total: int, num_frames: int, *, view: int = 0, num_views: int = 1, published: bool = False
) -> np.ndarray:
    """Take one fixed frame of each segment (testing).

    A single view takes the start of each segment plus half a segment (cut to whole frames). Several
    views cut each segment into `num_views` parts, and view v does the same with the v-th part:
    views share no frame as soon as the video has more than num_frames x num_views frames.

    Args:
        num_total: number of frames of the video.
        num_frames: number of frames of the clip.
        view: number of the view, from 0.
        num_views: number of views.
        published: use the published rule, start + trunc(segment / (num_views + 1) * (view + 1)),
            whose views coincide on short videos.

    Returns:
        int64 `[num_frames]`, not decreasing, below `num_total`.
    """
    if published:
        length = float(num_total - 1) / num_frames
        offset = int(length / (num_views + 1) * (view + 1))
        return segment_bounds(num_total, num_frames)[:, 0] + offset
    # Part v of segment s is part s * num_views + v of the video.
    num_parts = num_frames * num_views
    starts = segment_bounds(num_total, num_parts)[view::num_views, 0]
    return starts + int(float(num_total - 1) / num_parts / 2)


def dense_start(
    num_total: int, clip_size: float, view: int, num_views: int, use_offset: bool = True
) -> float:
    """Return the first frame of one of several windows.

    Args:
        num_total: number of frames of the video.
        clip_size: number of frames that a window spans.
        view: number of the window, from 0.
        num_views: number of windows.
        use_offset: let windows span the video from its first frame to its last (one window: the
            middle). Otherwise they start at equal distances from frame 0.
    """
    slack = max(num_total - clip_size, 0)
    if not use_offset:
        return slack * view / num_views
    if num_views == 1:
        return float(slack // 2)
    return view * float(slack // (num_views - 1))


def window_indices(num_total: int, start: float, end: float, num_frames: int) -> np.ndarray:
    """Take frames evenly from `start` to `end`, kept inside the video, int64 `[num_frames]`."""
    # In float32 as in the published code: a place on a whole frame may round below it in one
    # precision and not in the other.
    places = linspace_float32(start, end, num_frames)
    return places.clip(0, num_total - 1).astype(np.int64)


def dense_indices(
    num_total: int,
    num_frames: int,
    sampling_rate: int,
    *,
    view: int = 0,
    num_views: int = 1,
    use_offset: bool = True,
) -> np.ndarray:
    """Take the frames of a fixed window (testing).

    Args:
        num_total: number of frames of the video.
        num_frames: number of frames of the clip.
        sampling_rate: distance of neighbouring frames. The window spans `num_frames` times as many.
        view: number of the window, from 0.
        num_views: number of windows.
        use_offset: see `dense_start`.

    Returns:
        int64 `[num_frames]`.
    """
    clip_size = num_frames * sampling_rate
    start = dense_start(num_total, clip_size, view, num_views, use_offset)
    return window_indices(num_total, start, start + clip_size - 1, num_frames)


def random_dense_indices(
    num_total: int, rng: np.random.Generator, num_frames: int, sampling_rate: int
) -> np.ndarray:
    """Take the frames of a window whose start is drawn uniformly (training).

    Args:
        num_total: number of frames of the video.
        rng: generator of the draw.
        num_frames: number of frames of the clip.
        sampling_rate: distance of neighbouring frames.

    Returns:
        int64 `[num_frames]`.
    """
    clip_size = num_frames * sampling_rate
    start = rng.uniform(0, max(num_total - clip_size, 0))
    return window_indices(num_total, start, start + clip_size - 1, num_frames)
