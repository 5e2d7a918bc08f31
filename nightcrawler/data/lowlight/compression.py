"""Video compression of clips in memory: what an H.264 recorder leaves of low light and noise.

Compression takes most of the noise of a dark clip, and its dark detail with it. A simulated clip is
a recording only after it was encoded and decoded. The same frames give the same bytes: the encoder
runs in one thread, and without the analyses ahead of a frame, which read memory that they never
wrote in narrow pictures (libx264 164).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame

from nightcrawler.data.video.convert import EXACT, FLAGS, RgbConverter
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.reader import open_video
from nightcrawler.data.video.remote import local_video

ENCODER = "libx264"
DECODER = "h264"
# `qcomp=1` gives every clip the same quality, as `mbtree` does in most files: neither the clip's
# complexity nor frames ahead change it. The last option keeps the bytes from depending on the
# processor.
X264_PARAMS = (
    "rc-lookahead=0:mbtree=0:b-adapt=0:weightp=0:scenecut=0:qcomp=1:cpu-independent=1:"
    "keyint={keyint}:min-keyint={keyint}:bframes={b_frames}"
)
# Quality does not depend on it, only on the order of frames.
FRAME_RATE = 25
# Packets of a long recording that tell its format.
MOST_PACKETS = 2000


@dataclass(frozen=True)
class Compression:
    """Settings of the encoder.

    Attributes:
        crf: constant rate factor of x264, 0 to 51: 6 more about halve the bits.
        keyint: frames from a keyframe to the next.
        b_frames: frames between two reference frames that refer to both.
    """

    crf: float
    keyint: int = 250
    b_frames: int = 3


class PacketInfo(NamedTuple):
    """Properties of one packet.

    Attributes:
        num_bytes: its size.
        is_keyframe: whether it is a keyframe.
        time: presentation time in ticks of the stream, `None` where it is not told.
    """

    num_bytes: int
    is_keyframe: bool
    time: int | None


@dataclass(frozen=True)
class RecordingFormat:
    """Format of a recorded video, as its packets tell it.

    Attributes:
        codec: FFmpeg's name of the codec.
        width: width of the picture in pixels.
        height: height of the picture in pixels.
        keyint: frames from a keyframe to the next on average, 0 where only the first is one.
        b_frames: whether frames are stored in another order than shown.
        bits_per_pixel: bits of the frames between keyframes, over their pixels. Of all frames where
            each is a keyframe.
    """

    codec: str
    width: int
    height: int
    keyint: int
    b_frames: bool
    bits_per_pixel: float


def compress(
    frames: np.ndarray, compression: Compression, short_side: int = 0, color: str = EXACT
) -> tuple[np.ndarray, float]:
    """Encode a clip and decode it again.

    Colour is halved in width and height before, as recorders do, so that an odd last row or column
    is left out (a single one is doubled).

    Example:
        >>> import numpy as np
        >>> frames = np.full((4, 48, 64, 3), 20, np.uint8)
        >>> decoded, bits_per_pixel = compress(frames, Compression(crf=24))
        >>> decoded.shape, int(decoded[0, 0, 0, 0])
        ((4, 48, 64, 3), 20)

    Args:
        frames: RGB, uint8 `[T, H, W, 3]`.
        compression: settings of the encoder.
        short_side: scale the decoded frames down to this short side in pixels (0 keeps their size).
        color: conversion of the decoded colours, see `data.video.convert.FLAGS`.

    Returns:
        The decoded frames, uint8 `[T, h, w, 3]`, and bits per pixel as `RecordingFormat` has them.
    """
    packets = encode(frames, compression)
    height, width = _even_size(frames)
    decoder = _video_context(CodecContext.create(DECODER, "r"))
    decoder.thread_type = "NONE"
    convert = RgbConverter(short_side, color)
    decoded = []
    for packet in [*packets, None]:
        for frame in decoder.decode(packet):
            decoded.append(convert(frame))
    infos = [_packet_info(packet) for packet in packets]
    return np.stack(decoded), _bits_per_pixel(infos, width * height)


def encode(frames: np.ndarray, compression: Compression) -> list[Packet]:
    """Encode a clip as H.264.

    Args:
        frames: RGB, uint8 `[T, H, W, 3]`.
        compression: settings of the encoder.

    Returns:
        One packet a frame, in order of decoding.
    """
    height, width = _even_size(frames)
    encoder = _video_context(CodecContext.create(ENCODER, "w"))
    encoder.width = width
    encoder.height = height
    encoder.pix_fmt = "yuv420p"
    encoder.framerate = Fraction(FRAME_RATE)
    encoder.time_base = Fraction(1, FRAME_RATE)
    params = X264_PARAMS.format(keyint=compression.keyint, b_frames=compression.b_frames)
    encoder.options = {
        "crf": f"{compression.crf:.3f}",
        "preset": "veryfast",
        "threads": "1",
        "x264-params": params,
    }
    packets: list[Packet] = []
    single = [(0, int(side == 1)) for side in frames.shape[1:3]]
    frames = np.pad(frames, [(0, 0), *single, (0, 0)], mode="edge")
    for number, picture in enumerate(frames[:, :height, :width]):
        rgb = VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame = rgb.reformat(format="yuv420p", interpolation=FLAGS[EXACT])
        frame.pts = number
        frame.time_base = encoder.time_base
        packets += encoder.encode(frame)
    return packets + encoder.encode(None)


def _even_size(frames: np.ndarray) -> tuple[int, int]:
    """Return height and width of the encoded picture."""
    height, width = frames.shape[1:3]
    return max(height - height % 2, 2), max(width - width % 2, 2)


def _video_context(context: CodecContext) -> VideoCodecContext:
    # PyAV types contexts by the name of the codec, which is no literal here.
    assert isinstance(context, VideoCodecContext)
    return context


def _bits_per_pixel(packets: Sequence[PacketInfo], num_pixels: int) -> float:
    """Return bits per pixel of the frames between keyframes, or of all where there are only those.

    Keyframes hold the headers, and the whole of a still scene: in short clips they would hide what
    noise takes.
    """
    sizes = [packet.num_bytes for packet in packets if not packet.is_keyframe]
    if not sizes:
        sizes = [packet.num_bytes for packet in packets]
    return 8 * sum(sizes) / (max(len(sizes), 1) * num_pixels)


def recording_format(
    path: str, num_frames: int | None = None, limits: Limits | None = None
) -> RecordingFormat:
    """Read the format of a video from its first packets, without decoding it.

    Args:
        path: a file, an address, or a member of an archive (see `data.video.remote`).
        num_frames: count the bits of so many packets (`None`: of `MOST_PACKETS`).
        limits: largest picture that is accepted.

    Raises:
        VideoError: if the file cannot be read.
    """
    with (
        local_video(path) as local,
        open_video(local, limits or Limits()) as (container, stream),
    ):
        # The last packet is empty, and tells the decoder that there are no more.
        found = (_packet_info(packet) for packet in container.demux(stream) if packet.size)
        packets = list(itertools.islice(found, MOST_PACKETS))
        context = stream.codec_context
        num_keys = sum(packet.is_keyframe for packet in packets)
        times = [packet.time for packet in packets if packet.time is not None]
        return RecordingFormat(
            codec=context.name,
            width=context.width,
            height=context.height,
            keyint=-(-len(packets) // num_keys) if num_keys > 1 else 0,
            b_frames=times != sorted(times),
            bits_per_pixel=_bits_per_pixel(packets[:num_frames], context.width * context.height),
        )


def _packet_info(packet: Packet) -> PacketInfo:
    """Return what the format of a recording is told by."""
    return PacketInfo(packet.size, packet.is_keyframe, packet.pts)
