"""Convert decoded frames to RGB. Every reader of videos goes through `RgbConverter`."""

from __future__ import annotations

from typing import Any

import numpy as np
from av.sidedata.sidedata import Type as SideData
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter
from av.video.stream import VideoStream

# Conversions of colours: the choices of `DATA.COLOR`, which says what they do.
EXACT = "exact"
PUBLISHED = "published"
# Without the second flag, FFmpeg halves the width of chroma and rounds down, whatever the first.
# Both change nothing for a picture that is scaled at the same time: FFmpeg is exact there.
FLAGS = {
    EXACT: Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
    PUBLISHED: Interpolation.BILINEAR,
}

# Pixels that are wider or higher than a square by less than this are left alone: scaling would
# only blur.
SLACK_ASPECT = 0.02


class RgbConverter:
    """Convert frames of one video to RGB: upright, with square pixels, scaled down.

    Args:
        short_side: scale frames down to this short side in pixels (0 keeps their size).
        color: conversion of colours, one of `FLAGS`.
        aspect: width / height of a pixel, see `pixel_aspect`.

    Raises:
        ValueError: if there is no such conversion.

    Example:
        >>> converter = RgbConverter(short_side=256)
        >>> pictures = [converter(frame) for frame in container.decode(video=0)]  # doctest: +SKIP
    """

    def __init__(self, short_side: int = 0, color: str = EXACT, aspect: float = 1.0) -> None:
        if color not in FLAGS:
            raise ValueError(f"color '{color}' is not one of {', '.join(FLAGS)}")
        self._short_side = short_side
        self._aspect = aspect
        self._flags = FLAGS[color]
        # One for all frames: setting up a conversion takes as long as decoding a small frame.
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """Return a frame as uint8 `[H, W, 3]`, see `scaled`."""
        width, height = self.size(frame)
        converted = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=self._flags,
            threads=1,
        )
        return upright(converted.to_ndarray(), display_matrix(frame))

    def square(self, frame: VideoFrame) -> tuple[int, int]:
        """Return width and height with square pixels, before turning and scaling."""
        return max(round(frame.width * self._aspect), 1), frame.height

    def size(self, frame: VideoFrame) -> tuple[int, int]:
        """Return width and height of the picture, before turning."""
        return scaled(*self.square(frame), self._short_side)


def pixel_aspect(stream: VideoStream) -> float:
    """Return width / height of a pixel, 1.0 where the file does not say or it is nearly square."""
    aspect = float(stream.sample_aspect_ratio or 1)
    if aspect <= 0 or abs(aspect - 1) < SLACK_ASPECT:
        return 1.0
    return aspect


def display_matrix(frame: VideoFrame) -> np.ndarray | None:
    """Return how a player turns and mirrors a frame.

    Returns:
        `[[a, b], [c, d]]` of int64: a pixel at (x, y) is shown at (a x + c y, b x + d y). None
        where the frame is shown as it is stored, or the matrix has no inverse.
    """
    side_data: Any = frame.side_data
    data = side_data.get(SideData.DISPLAYMATRIX)
    if data is None:
        return None
    # Nine numbers of 32 bits; the third column and row are of no use here.
    matrix = np.frombuffer(bytes(data), np.int32)[:9].reshape(3, 3)[:2, :2].astype(np.int64)
    if matrix[0, 0] * matrix[1, 1] == matrix[0, 1] * matrix[1, 0]:
        return None
    return matrix


def upright(rgb: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """Turn and mirror a picture by its display matrix, in steps of 90 degrees.

    Args:
        rgb: `[H, W, 3]`.
        matrix: see `display_matrix`.

    Returns:
        `[H, W, 3]` or `[W, H, 3]`.
    """
    if matrix is None:
        return rgb
    (a, b), (c, d) = matrix.tolist()
    # A matrix between two right angles is taken for the nearer one.
    if abs(b) + abs(c) > abs(a) + abs(d):
        rgb = rgb.swapaxes(0, 1)
        a, d = c, b
    return np.ascontiguousarray(rgb[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def scaled(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Return width and height after scaling down to a short side.

    A short side of 0 keeps them, and nothing is scaled up.
    """
    if not 0 < short_side < min(width, height):
        return width, height
    scale = short_side / min(width, height)
    return round(width * scale), round(height * scale)
