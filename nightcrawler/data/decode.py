"""Decoding: one pass over a video, only the wanted frames converted to RGB, nothing damaged used silently.

A video is first demuxed (no decoding) to count its frames; the caller then chooses frames, and one sequential decode to
the end of the stream delivers them. Frames equal `frame.to_ndarray(format="rgb24")` of a plain full decode bit for bit
unless scaling is asked for. Where the decoder yields another number of frames than the container promises (packed
B-frames, edit lists), the choice is made again for the true number.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from nightcrawler.utils.errors import VideoError

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,gif,h264,hevc,ivf,av1,obu"
# Frames that a sound file's container may promise and not deliver: packed B-frames, a dropped leading frame.
SLACK_FRAMES = 2


@dataclass(frozen=True)
class Limits:
    """What a video may be at most.

    Attributes:
        file_bytes: size of the file.
        side_px: width and height.
        pixels: width x height.
        frames: number of frames.
    """

    file_bytes: int = 8 << 30
    side_px: int = 8192
    pixels: int = 4096 * 4096
    frames: int = 1_000_000


@dataclass(frozen=True)
class Decoded:
    """Wanted frames of a video.

    Attributes:
        frames: uint8 `[n, H, W, 3]`, rotated upright.
        indices: their numbers, increasing.
        num_frames: frames in the whole video.
        fps: average frame rate, 0 where the file does not say.
    """

    frames: np.ndarray
    indices: list[int]
    num_frames: int
    fps: float


Choose = Callable[[int], Sequence[int]]


def decode(
    path: str | os.PathLike[str], choose: Choose, *, short_side: int = 0, limits: Limits | None = None
) -> Decoded:
    """Read the frames that `choose` wants.

    Args:
        path: a regular file.
        choose: number of frames in the video to increasing frame numbers.
        short_side: scale frames down to this short side while converting, in pixels; 0 keeps their size.
        limits: what the video may be at most.

    Raises:
        VideoError: if the file is missing, of an unknown format, without video, over a limit, damaged, or cut short.
    """
    path = os.fspath(path)
    limits = limits or Limits()
    _check_file(path, limits)
    num_frames = _count_frames(path, limits)
    decoded, found = _read(path, choose(num_frames), short_side, limits)
    if found == num_frames:
        return decoded
    if found < num_frames - SLACK_FRAMES or found == 0:
        raise VideoError(path, f"cut short: {found} of {num_frames} frames can be decoded", "decode")
    return _read(path, choose(found), short_side, limits)[0]


def _check_file(path: str, limits: Limits) -> None:
    if "\0" in path:
        raise VideoError(repr(path), "the path holds a NUL character", "open")
    try:
        status = os.stat(path)
    except OSError as error:
        raise VideoError(path, f"cannot be opened: {error.strerror}", "open") from None
    if not stat.S_ISREG(status.st_mode):
        raise VideoError(path, "not a regular file", "open")
    if status.st_size == 0:
        raise VideoError(path, "the file is empty", "open")
    if status.st_size > limits.file_bytes:
        raise VideoError(path, f"{status.st_size} bytes, over the limit of {limits.file_bytes}", "limits")


class _Open:
    """Opens a file for reading and turns every fault of the library into a `VideoError`."""

    def __init__(self, path: str, limits: Limits) -> None:
        self.path, self.limits = path, limits

    def __enter__(self) -> tuple[InputContainer, VideoStream]:
        options = {
            "format_whitelist": FORMATS,
            "protocol_whitelist": "file",
            "max_pixels": str(self.limits.pixels),
        }
        try:
            self.container = av.open(f"file:{self.path}", options=options, metadata_errors="ignore")
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise VideoError(self.path, f"not a video that can be read ({_reason(error)})", "open") from None
        try:
            return self.container, self._video_stream()
        except VideoError:
            self.container.close()
            raise

    def _video_stream(self) -> VideoStream:
        stream = self.container.streams.best("video")
        if stream is None:
            raise VideoError(self.path, "no video stream in it", "open")
        if stream.codec_context is None:
            raise VideoError(self.path, "its video codec is unknown", "open")
        width, height = stream.codec_context.width, stream.codec_context.height
        check_size(self.path, width, height, self.limits)
        stream.thread_type = "NONE"
        stream.codec_context.options = {"err_detect": "explode"}
        return stream

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> bool:
        self.container.close()
        if isinstance(error, (av.error.FFmpegError, OSError, ValueError)):
            raise VideoError(self.path, f"damaged ({_reason(error)})", "decode") from None
        return False


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).splitlines()[0][:120] if text else type(error).__name__


def check_size(path: str, width: int, height: int, limits: Limits) -> None:
    """Refuse a picture size over the limits before anything is allocated.

    Raises:
        VideoError: naming the size and the limit.
    """
    if width <= 0 or height <= 0:
        raise VideoError(path, "the video has no picture size", "limits")
    if max(width, height) > limits.side_px or width * height > limits.pixels:
        raise VideoError(path, f"{width}x{height} pixels, over the limit of {limits.side_px} a side", "limits")


def _count_frames(path: str, limits: Limits) -> int:
    """Frames in the stream by its packets, without decoding them."""
    count, num_packets, end_sec = 0, 0, 0.0
    with _Open(path, limits) as (container, stream):
        for packet in container.demux(stream):
            num_packets += packet.dts is not None or packet.size > 0
            if packet.pts is not None:
                end_sec = max(end_sec, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.size and packet.is_corrupt:
                raise VideoError(path, f"damaged packet {count}", "demux")
            count += bool(packet.size) and not packet.is_discard
            if count > limits.frames:
                raise VideoError(path, f"more than {limits.frames} frames", "limits")
        promised, promised_sec = stream.frames, _seconds(stream.metadata.get("DURATION", ""))
    if count == 0:
        raise VideoError(path, "no frame in it", "demux")
    if num_packets < promised - SLACK_FRAMES:
        raise VideoError(path, f"cut short: holds {num_packets} of {promised} frames", "demux")
    if end_sec < 0.95 * promised_sec:
        raise VideoError(path, f"cut short: ends at {end_sec:.1f} of {promised_sec:.1f} seconds", "demux")
    return count


def _seconds(text: str) -> float:
    """Seconds of a Matroska duration tag such as `00:00:02.400000000`, 0 where there is none."""
    match = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", text)
    return float(match[1]) * 3600 + float(match[2]) * 60 + float(match[3]) if match else 0.0


def _decoded_frames(path: str, container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    for number, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:
            raise VideoError(path, f"frame {number} is damaged", "decode")
        yield frame


def _read(path: str, wanted: Sequence[int], short_side: int, limits: Limits) -> tuple[Decoded, int]:
    """The wanted frames that exist, and the number of frames that were decoded."""
    wanted_set, frames, kept, found = set(wanted), [], [], 0
    size: tuple[int, int] | None = None
    with _Open(path, limits) as (container, stream):
        fps = float(stream.average_rate or 0)
        for frame in _decoded_frames(path, container, stream):
            if size is None:
                size = (frame.width, frame.height)
                check_size(path, *size, limits)
            elif size != (frame.width, frame.height):
                raise VideoError(path, f"picture size changes at frame {found}", "decode")
            if found in wanted_set:
                frames.append(_to_rgb(frame, short_side))
                kept.append(found)
            found += 1
    stacked = np.stack(frames) if frames else np.empty((0, 0, 0, 3), np.uint8)
    return Decoded(stacked, kept, found, fps), found


def _to_rgb(frame: VideoFrame, short_side: int) -> np.ndarray:
    """uint8 `[H, W, 3]`, upright, scaled down where asked."""
    rotation = frame.rotation
    if short_side and min(frame.width, frame.height) > short_side:
        scale = short_side / min(frame.width, frame.height)
        width, height = round(frame.width * scale), round(frame.height * scale)
        rgb = frame.to_ndarray(format="rgb24", width=width, height=height)
    else:
        rgb = frame.to_ndarray(format="rgb24")
    turns = round(rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb
