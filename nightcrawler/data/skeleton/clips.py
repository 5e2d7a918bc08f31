"""Clips of skeletons: windows of a track, filmed where it is in the world, and normalised.

A clip is float32 `[3, T, 13]`. x and y are in heights of the figure from the middle of its way, y
down, and the third is the confidence. A clip is normalised as a whole: what is left of the way of
the hips and of the size of the figure tells running from standing.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch
from torch import Tensor

from nightcrawler.data.skeleton.track import interpolate
from nightcrawler.pose.filming import film
from nightcrawler.pose.layouts import HIPS

# Channels of a frame in the world: x, y, z and confidence.
WORLD_CHANNELS = 4
# The figure is at least so high for its width, so that one who lies is not blown up.
LEAST_ASPECT = 1 / 3


def random_window(num_total: int, rng: np.random.Generator, length: int) -> np.ndarray:
    """Draw a window of a track, the whole track if it is shorter.

    Args:
        num_total: number of frames of the track.
        rng: generator of the draw.
        length: number of frames of the window.

    Returns:
        Frame numbers, int64.
    """
    start = int(rng.integers(max(num_total - length, 0), endpoint=True))
    return np.arange(start, min(start + length, num_total))


def fixed_window(num_total: int, view: int, num_views: int, *, length: int) -> np.ndarray:
    """Return one of several windows that span a track, the whole track if it is shorter.

    Args:
        num_total: number of frames of the track.
        view: number of the window, from 0.
        num_views: number of windows. A single one is in the middle.
        length: number of frames of the window.

    Returns:
        Frame numbers, int64.
    """
    slack = max(num_total - length, 0)
    start = slack // 2
    if num_views > 1:
        start = round(slack * view / (num_views - 1))
    return np.arange(start, min(start + length, num_total))


def film_if_world(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return frames of the picture, float32 `[N, 13, 3]`, filmed if they are of the world.

    Args:
        frames: `[N, 13, 3]` in the picture, or `[N, 13, 4]` in the world.
        rng: generator of the camera.
    """
    if frames.shape[-1] != WORLD_CHANNELS:
        return frames
    picture = film(frames[..., :3], rng)
    picture[..., 2] *= frames[..., 3]
    return picture


def resample(
    frames: np.ndarray, num_steps: int, length: float, offset: float = 0.0, pace: float = 1.0
) -> np.ndarray:
    """Return steps of equal distance of a window. Steps beyond the frames have confidence 0.

    Args:
        frames: `[N, 13, 3]`.
        num_steps: T.
        length: frames that the window lasts.
        offset: frames of the window before the first of `frames`, negative to leave some out.
        pace: frames of the figure that pass in the time of one.

    Returns:
        float64 `[T, 13, 3]`.
    """
    at = ((np.arange(num_steps) + 0.5) * length / num_steps - 0.5 - offset) * pace
    steps = interpolate(frames.astype(np.float64), np.arange(len(frames), dtype=float), at)
    # Half a step of tolerance: a window is as long as its frames and their durations.
    outside = (at < -0.5 - 1e-6) | (at > len(frames) - 0.5 + 1e-6)
    steps[outside, :, 2] = 0
    return steps


def normalise(steps: np.ndarray) -> np.ndarray:
    """Return steps in heights of the figure about the median place of its hips.

    Args:
        steps: `[T, 13, 3]`.

    Returns:
        float64 `[T, 13, 3]`.
    """
    places = steps[..., :2]
    seen = np.flatnonzero(steps[..., 2].any(axis=1))
    if len(seen) == 0:
        seen = np.arange(len(steps))
    hips = places[:, HIPS].mean(axis=1)
    sizes = np.ptp(places, axis=1)[seen]
    width, height = np.median(sizes, axis=0)
    unit = max(height, LEAST_ASPECT * width, 1e-6)
    centred = (places - np.median(hips[seen], axis=0)) / unit
    return np.concatenate([centred, steps[..., 2:]], axis=2)


def to_clip(steps: np.ndarray) -> Tensor:
    """Return steps `[T, 13, 3]` as a clip, float32 `[3, T, 13]`."""
    return torch.from_numpy(np.ascontiguousarray(steps.transpose(2, 0, 1), np.float32))


def eval_clips(frames: np.ndarray, num_crops: int, *, num_steps: int, length: int) -> Tensor:
    """Make the clip of a window for evaluation, in the middle of its time if it is shorter.

    A motion is filmed by a camera that depends on the motion alone.

    Args:
        frames: `[N, 13, 3]` in the picture, or `[N, 13, 4]` in the world.
        num_crops: 1, for there is nothing to crop.
        num_steps: T.
        length: frames that a clip lasts.

    Returns:
        float32 `[1, 3, T, 13]`.
    """
    camera = np.random.default_rng(zlib.crc32(frames.tobytes()))
    offset = max(length - len(frames), 0) / 2
    steps = resample(film_if_world(frames, camera), num_steps, length, offset)
    return to_clip(normalise(steps))[None]
