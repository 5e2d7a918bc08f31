"""Video files and live sources, opened with care: what is read one after the other, and how a frame becomes RGB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from nightcrawler.data.video.integrity.limits import Limits, check_size
from nightcrawler.data.video.source_names import is_camera, is_live
from nightcrawler.utils.errors import VideoError

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,gif,h264,hevc,ivf,av1,obu"
LIVE_PROTOCOLS = "rtsp,rtsps,rtp,srtp,tcp,udp,tls,crypto"
# A live source that is silent for so long is gone.
LIVE_TIMEOUT_SEC = 10.0


class OpenVideo:
    """Opens a video for reading and turns every fault of the library into a `VideoError`.

    A context of `(container, stream)`. Concealed damage of a file is an error; a live source goes on after damage.

    Args:
        path: a file, or a source that `is_live`.
        limits: what it may be at most.
    """

    def __init__(self, path: str, limits: Limits) -> None:
        self.path, self.limits, self.live = path, limits, is_live(path)

    def __enter__(self) -> tuple[InputContainer, VideoStream]:
        try:
            self.container = self._open()
        except (av.error.FFmpegError, OSError, ValueError) as error:
            what = "no live source there" if self.live else "not a video that can be read"
            raise VideoError(self.path, f"{what} ({_reason(error)})", "open") from None
        try:
            return self.container, self._video_stream()
        except VideoError:
            self.container.close()
            raise

    def _open(self) -> InputContainer:
        options: dict[str, Any] = {"max_pixels": str(self.limits.pixels)}
        if not self.live:
            options |= {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
            return av.open(f"file:{self.path}", options=options, metadata_errors="ignore")
        if is_camera(self.path):
            return av.open(self.path, format="v4l2", options=options, timeout=LIVE_TIMEOUT_SEC)
        options |= {"protocol_whitelist": LIVE_PROTOCOLS, "rtsp_transport": "tcp"}
        return av.open(
            self.path, options=options, metadata_errors="ignore", timeout=LIVE_TIMEOUT_SEC
        )

    def _video_stream(self) -> VideoStream:
        stream = self.container.streams.best("video")
        if stream is None:
            raise VideoError(self.path, "no video stream in it", "open")
        if stream.codec_context is None:
            raise VideoError(self.path, "its video codec is unknown", "open")
        width, height = stream.codec_context.width, stream.codec_context.height
        check_size(self.path, width, height, self.limits)
        stream.thread_type = "NONE"
        if not self.live:
            # Concealed damage is an error, and so is a wrong checksum where the codec has one.
            stream.codec_context.options = {"err_detect": "explode+crccheck"}
        return stream

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> bool:
        self.container.close()
        if isinstance(error, (av.error.FFmpegError, OSError, ValueError)):
            what = "lost" if self.live else "damaged"
            raise VideoError(self.path, f"{what} ({_reason(error)})", "decode") from None
        return False


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).splitlines()[0][:120] if text else type(error).__name__


def decoded_frames(
    path: str, container: InputContainer, stream: VideoStream
) -> Iterator[VideoFrame]:
    """The frames of a file, as they come.

    Raises:
        VideoError: at the first that is damaged.
    """
    for number, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:
            raise VideoError(path, f"frame {number} is damaged", "decode")
        yield frame


def scaled(width: int, height: int, short_side: int) -> tuple[int, int]:
    """Width and height after scaling down to a short side; 0 keeps them."""
    if not 0 < short_side < min(width, height):
        return width, height
    scale = short_side / min(width, height)
    return round(width * scale), round(height * scale)


def to_rgb(frame: VideoFrame, short_side: int, reformatter: VideoReformatter) -> np.ndarray:
    """uint8 `[H, W, 3]`, upright, scaled down where asked."""
    width, height = scaled(frame.width, frame.height, short_side)
    rgb = reformatter.reformat(
        frame, width=width, height=height, format="rgb24", threads=1
    ).to_ndarray()
    turns = round(frame.rotation / 90) % 4
    return np.ascontiguousarray(np.rot90(rgb, turns)) if turns else rgb
