"""Limits of the videos that are accepted, checked before anything of that size is allocated."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from nightcrawler.utils.errors import UserError, VideoError

# A table of equal samples needs no bytes: 20 of them can promise 10^9 frames, for which FFmpeg
# allocates an index.
EMPTY_TABLE = re.compile(rb"\0...stsz....(?!\0\0\0\0)....(....)|\0...trun....(....)", re.DOTALL)
# Part of every cause that another limit may remove.
OVER_LIMIT = "over the limit"
# Clips are float32. So many frames are resized at a time, see `data.transforms.eval_crops`.
FLOAT_BYTES = 4
RESIZED_FRAMES = 8
# What sets `Limits.pixels`.
PIXEL_OPTIONS = "DATA.MAX_PIXELS, --max-pixels"
MOST_HEADER_BYTES = 64 << 20


@dataclass(frozen=True)
class Limits:
    """Largest video that is accepted.

    Attributes:
        file_bytes: size of the file in bytes.
        side_px: width and height in pixels.
        pixels: width x height.
        ratio: longer side / shorter side. Models see the short side in full, so a thin picture
            becomes a huge one when it is scaled.
        frames: number of frames.
        memory_bytes: size of the decoded frames of one video, and of the frames of one clip, in
            bytes.
        clip_bytes: size of all clips that are made of one video, and of the frames that are
            resized for them at a time, in bytes.
    """

    file_bytes: int = 8 << 30
    side_px: int = 8192
    pixels: int = 4096 * 4096
    ratio: float = 16.0
    frames: int = 1_000_000
    memory_bytes: int = 4 << 30
    clip_bytes: int = 4 << 30


def limits_of_pixels(max_pixels: int | None) -> Limits:
    """Return limits with the given `pixels`, or the default where none are given."""
    return Limits() if max_pixels is None else Limits(pixels=max_pixels)


def check_regular_file(path: str, limits: Limits) -> int:
    """Refuse everything but a regular file of an accepted size, without opening it.

    Returns:
        The size in bytes.

    Raises:
        VideoError: with the reason.
    """
    if "\0" in path:
        raise VideoError(repr(path), "the path holds a NUL character", "open")
    try:
        status = os.stat(path)
    except OSError as error:
        raise VideoError(path, f"cannot be opened: {error.strerror}", "open") from None
    if stat.S_ISDIR(status.st_mode):
        raise VideoError(path, "is a folder, expected a video file", "open")
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe or a device could wait for ever.
        raise VideoError(path, "not a regular file", "open")
    if status.st_size == 0:
        raise VideoError(path, "the file is empty", "open")
    if status.st_size > limits.file_bytes:
        raise VideoError(
            path, f"{status.st_size} bytes, over the limit of {limits.file_bytes}", "limits"
        )
    return status.st_size


def check_file(path: str, limits: Limits) -> None:
    """Refuse what is no regular file, or promises more than the limits, before FFmpeg opens it.

    Raises:
        VideoError: with the reason.
    """
    size = check_regular_file(path, limits)
    try:
        promised = max(_promised_frames(path, size), default=0)
    except OSError as error:
        raise VideoError(path, f"cannot be opened: {error.strerror}", "open") from None
    most = min(limits.frames, size)
    if promised > most:
        raise VideoError(path, f"its header promises {promised} frames, more than {most}", "limits")


def _promised_frames(path: str, size: int) -> Iterator[int]:
    """Yield the number of entries of each table of an MP4 file that takes no space for them."""
    with open(path, "rb") as file:
        position = 0
        while position + 8 <= size:
            file.seek(position)
            head = file.read(16)
            length = int.from_bytes(head[:4], "big")
            kind = head[4:8]
            if length == 1:
                length = int.from_bytes(head[8:16], "big")
            # A length of 0 stands for the rest of the file.
            length = length or size - position
            if length < 8 or not kind.isalnum():
                return
            if kind in (b"moov", b"moof"):
                file.seek(position)
                if min(length, size - position) > MOST_HEADER_BYTES:
                    raise VideoError(path, f"a header of {length} bytes, over the limit", "limits")
                for match in EMPTY_TABLE.finditer(file.read(length)):
                    yield int.from_bytes(match[1] or match[2], "big")
            position += length


def check_size(path: str, width: int, height: int, limits: Limits) -> None:
    """Refuse a picture size over the limits.

    Raises:
        VideoError: with the size and the limit.
    """
    if width <= 0 or height <= 0:
        # FFmpeg leaves the size out where only a decoder finds it, which `max_pixels` stops.
        cause = f"the video has no picture size, or one {OVER_LIMIT} of {limits.pixels} pixels"
        raise VideoError(path, f"{cause} ({PIXEL_OPTIONS})", "limits")
    if max(width, height) > limits.side_px:
        cause = f"{width}x{height} pixels, {OVER_LIMIT} of {limits.side_px} a side"
        raise VideoError(path, cause, "limits")
    if width * height > limits.pixels:
        cause = f"{width}x{height} pixels, {OVER_LIMIT} of {limits.pixels} in all"
        raise VideoError(path, f"{cause} ({PIXEL_OPTIONS})", "limits")
    if max(width, height) > limits.ratio * min(width, height):
        cause = f"{width}x{height} pixels, a side over {limits.ratio:g} times the other"
        raise VideoError(path, cause, "limits")


def check_memory(
    path: str, num_frames: int, width: int, height: int, limits: Limits, advice: str = ""
) -> None:
    """Refuse frames that take more memory than is allowed.

    Args:
        path: the video.
        num_frames: frames that are in memory together.
        width: of a frame, in pixels.
        height: of a frame, in pixels.
        limits: most memory.
        advice: how fewer frames are taken, empty where nobody can choose that.

    Raises:
        VideoError: with the need and the limit.
    """
    need = num_frames * width * height * 3
    if need > limits.memory_bytes:
        frames = f"{num_frames} frames of {width}x{height} pixels take {need >> 20} MiB"
        cause = f"{frames}, {OVER_LIMIT} of {limits.memory_bytes >> 20}"
        raise VideoError(path, f"{cause}: {advice}" if advice else cause, "limits")


def check_view(path: str, num_frames: int, frame_bytes: int, limits: Limits) -> None:
    """Refuse a clip whose frames, some of them repeated, take more memory than is allowed.

    Raises:
        VideoError: with the need and the limit.
    """
    need = num_frames * frame_bytes
    if need > limits.memory_bytes:
        cause = f"a clip of {num_frames} frames takes {need >> 20} MiB"
        raise VideoError(path, f"{cause}, {OVER_LIMIT} of {limits.memory_bytes >> 20}", "limits")


def check_clips(num_clips: int, num_frames: int, size: int, limits: Limits) -> None:
    """Refuse more clips of each video than fit into the memory that is allowed.

    Args:
        num_clips: clips of one video: views x crops x enhancements, or copies.
        num_frames: frames of a clip.
        size: height and width of a clip in pixels.
        limits: most memory, and the widest picture that may come.

    Raises:
        UserError: with the need and the limit, before any video is read.
    """
    channels = 3 * FLOAT_BYTES
    clips = num_clips * num_frames * size * size * channels
    resized = min(num_frames, RESIZED_FRAMES) * size * round(size * limits.ratio) * channels
    if max(clips, resized) > limits.clip_bytes:
        raise UserError(
            f"{num_clips} clips of {num_frames} frames of {size}x{size} pixels of each video take "
            f"{max(clips, resized) >> 20} MiB, {OVER_LIMIT} of {limits.clip_bytes >> 20}: take "
            "fewer views, crops, enhancements, copies or frames, or smaller crops"
        )
