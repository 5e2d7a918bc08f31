"""Open video files and live sources with restricted formats, codecs and protocols."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

import av
from av.codec import Codec
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from nightcrawler.data.video.integrity.gaps import NO_GAPS, Gaps
from nightcrawler.data.video.integrity.joined import Section
from nightcrawler.data.video.integrity.limits import Limits, check_size
from nightcrawler.data.video.parts import part_frames
from nightcrawler.utils.errors import VideoError

# No playlist and no list of files, which could lead FFmpeg to other files and to the network.
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,asf,flv,ogg,gif,h264,hevc,"
    "ivf,av1,obu,dhav"
)
# Decoders of what cameras, recorders and the web write. FFmpeg has 300, most of them for files of
# old programs and games, and each is code that a file from a stranger would reach.
CODECS = (
    "h264", "hevc", "libdav1d", "vp8", "vp9", "mpeg4", "mjpeg", "mpeg1video", "mpeg2video", "h263",
    "msmpeg4v1", "msmpeg4v2", "msmpeg4", "wmv1", "wmv2", "wmv3", "vc1", "flv", "vp6", "vp6f",
    "theora", "gif", "dvvideo", "dnxhd", "prores", "ffv1", "rawvideo",
)  # fmt: skip
LIVE_PROTOCOLS = "rtsp,rtsps,rtp,srtp,tcp,udp,tls,crypto"
# A live source that sends nothing for so long is lost.
LIVE_TIMEOUT_SEC = 10.0

NETWORK = re.compile(r"rtsps?://.+", re.IGNORECASE)
SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
CAMERA = re.compile(r"/dev/video\d+")
# Exceptions that PyAV raises for faults of an input.
FAULTS = (av.error.FFmpegError, OSError, ValueError)


def is_live(source: str) -> bool:
    """Return whether a source is a network stream (rtsp) or a camera device, by its name."""
    return is_camera(source) or bool(NETWORK.fullmatch(source))


def fault_of_url(source: str) -> str:
    """Return why an address is no source, empty for everything else.

    A file with such a name is one.
    """
    match = SCHEME.match(source)
    if match is None or is_live(source) or os.path.exists(source):
        return ""
    return (
        f"{match[0]} addresses are not read: give a file, a folder, a list (its rows may name "
        "https://, s3:// and hf:// videos), rtsp://, rtsps:// or /dev/videoN"
    )


def is_camera(source: str) -> bool:
    """Return whether a source is a camera device, by its name."""
    return bool(CAMERA.fullmatch(source))


@contextlib.contextmanager
def open_video(
    path: str, limits: Limits, section: Section | None = None
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video for reading.

    Every fault of the library becomes a `VideoError`.

    Concealed damage of a file is an error. A live source goes on after damage.

    Args:
        path: a file, or a source that `is_live`.
        limits: largest picture that is accepted.
        section: the file within the file to read, see `joined_files`. None reads all of it.

    Yields:
        The container and its video stream.

    Raises:
        VideoError: if the source cannot be opened, has no video, is over a limit, or fails while it
            is read.
    """
    live = is_live(path)
    try:
        container = _open_container(path, limits, section)
    except FAULTS as error:
        cause = "no live source there" if live else "not a video that can be read"
        raise VideoError(path, f"{cause} ({reason(error)})", "open") from None
    with container:
        stream = _video_stream(path, container, limits)
        with faults_as_video_errors(path):
            yield container, stream


@contextlib.contextmanager
def faults_as_video_errors(path: str) -> Iterator[None]:
    """Raise a `VideoError` for every fault of the library in the block.

    Args:
        path: the source that is read.

    Raises:
        VideoError: with the fault.
    """
    try:
        yield
    except FAULTS as error:
        cause = "lost" if is_live(path) else "damaged"
        raise VideoError(path, f"{cause} ({reason(error)})", "decode") from None


def _open_container(path: str, limits: Limits, section: Section | None) -> InputContainer:
    # FFmpeg tries decoders while it opens a file, before `_check_codec` can look at it.
    options = {"max_pixels": str(limits.pixels), "codec_whitelist": ",".join(CODECS)}
    if not is_live(path):
        options |= {"format_whitelist": FORMATS, "protocol_whitelist": "file,subfile"}
        # The prefix makes `http:a.mp4` the name of a file.
        source = f"file:{path}"
        if section is not None:
            source = f"subfile,,start,{section.start},end,{section.end},,:{source}"
        return av.open(source, options=options, metadata_errors="ignore")
    if is_camera(path):
        return av.open(path, format="v4l2", options=options, timeout=LIVE_TIMEOUT_SEC)
    options |= {"protocol_whitelist": LIVE_PROTOCOLS, "rtsp_transport": "tcp"}
    return av.open(path, options=options, metadata_errors="ignore", timeout=LIVE_TIMEOUT_SEC)


def _video_stream(path: str, container: InputContainer, limits: Limits) -> VideoStream:
    stream = container.streams.best("video")
    if not isinstance(stream, VideoStream):
        raise VideoError(path, "no video stream in it", "open")
    if stream.codec_context is None:
        raise VideoError(path, "its video codec is unknown", "open")
    _check_codec(path, stream.codec_context.codec)
    check_size(path, stream.codec_context.width, stream.codec_context.height, limits)
    # Loaders run one worker a core: threads of a decoder would only wait for each other.
    stream.thread_type = "NONE"
    if not is_live(path):
        # Concealed damage is an error, and so is a wrong checksum where the codec has one.
        stream.codec_context.options = {"err_detect": "explode+crccheck"}
    return stream


def _check_codec(path: str, codec: Codec) -> None:
    """Refuse a codec whose decoder is not in `CODECS`."""
    if codec.name not in CODECS:
        raise VideoError(
            path,
            f"its codec {codec.canonical_name} is none of cameras, recorders and the web: convert "
            "it to H.264 first (ffmpeg -i FILE -c:v libx264 -crf 12 OUT.mp4)",
            "open",
        )


def reason(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    text = str(getattr(error, "strerror", None) or error)
    if not text:
        return type(error).__name__
    return text.splitlines()[0][:120]


def decoded_frames(
    path: str, container: InputContainer, stream: VideoStream, gaps: Gaps = NO_GAPS
) -> Iterator[VideoFrame]:
    """Decode the frames of a file in order of presentation.

    Args:
        path: the file.
        container: the same, opened.
        stream: its video stream.
        gaps: those of a transport stream.

    Raises:
        VideoError: at the first that is damaged.
    """
    for number, frame in enumerate(part_frames(container, stream, gaps)):
        if frame.is_corrupt:
            raise VideoError(path, f"frame {number} is damaged", "decode")
        yield frame
