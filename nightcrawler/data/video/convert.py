"""Convert decoded frames to RGB. Every reader of videos goes through `RgbConverter`."""

from __future__ import annotations

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

# Conversions of colours: the choices of `DATA.COLOR`, which says what they do.
EXACT = "exact"
PUBLISHED = "published"
# Without the second flag, FFmpeg halves the width of chroma and rounds down, whatever the first.
# Both change nothing for a picture that is scaled at the same time: FFmpeg is exact there.
FLAGS = {
    EXACT: Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT,
    PUBLISHED: Interpolation.BILINEAR,
}


class RgbConverter:
    """Convert frames of one video to RGB, upright and scaled down.

    Args:
        short_side: scale frames down to this short side in pixels (0 keeps their size).
        color: conversion of colours, one of `FLAGS`.

    Raises:
        ValueError: if there is no such conversion.

    Example:
        >>> converter = RgbConverter(short_side=256)
        >>> pictures = [converter(frame) for frame in container.decode(video=0)]  # doctest: +SKIP
    """

    def __init__(self, short_side: int = 0, color: str = EXACT) -> None:
        if color not in FLAGS:
            raise ValueError(f"color '{color}' is not one of {', '.join(FLAGS)}")
        self._short_side = short_side
        self._flags = FLAGS[color]
        # One for all frames: setting up a conversion takes as long as decoding a small frame.
        self._reformatter = VideoReformatter()

    def __call__(self, frame: VideoFrame) -> np.ndarray:
        """Return a frame as uint8 `[H, W, 3]`, see `scaled`."""
        width, height = scaled(frame.width, frame.height, self._short_side)
        converted = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format="rgb24",
            interpolation=self._flags,
            threads=1,
        )
        rgb = converted.to_ndarray()
        # The metadata's rotation is counter-clockwise, as that of np.rot90.
        turns = round(frame.rotation / 90) % 4
        if turns:
            return np.ascontiguousarray(np.rot90(rgb, turns))
        return rgb


def scaled(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Return width and height after scaling down to a short side.

    A short side of 0 keeps them, and nothing is scaled up.
    """
    if not 0 < short_side < min(width, height):
        return width, height
    scale = short_side / min(width, height)
    return round(width * scale), round(height * scale)
