"""Decoding with torchcodec, where it is installed: the same checks before, the same frames, no notice of damage."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from nightcrawler.data.video.decode import Choose, Decoded, decode
from nightcrawler.data.video.integrity.limits import Limits, check_memory, check_size
from nightcrawler.data.video.probe import probe
from nightcrawler.utils.errors import ConfigError, VideoError

# What torchcodec gives bit for bit as PyAV does; the rest (packed B-frames, more bits) is left to PyAV.
CODECS, BITS = ("h264", "hevc", "vp8", "vp9", "av1"), 8


def import_decoder() -> Any:
    """The decoder class of torchcodec.

    Raises:
        ConfigError: if it is not installed, or finds no FFmpeg.
    """
    reason = "it is not installed"
    try:
        import torchcodec
        from torchcodec.decoders import VideoDecoder

        if torchcodec.ffmpeg_major_version:
            return VideoDecoder
        reason = "it finds no FFmpeg libraries"
    except ModuleNotFoundError:
        pass
    except (ImportError, OSError, RuntimeError):
        reason = "it cannot be loaded"
    raise ConfigError(
        f"DATA.DECODER torchcodec: {reason}: pip install nightcrawler[torchcodec] and the FFmpeg libraries of the "
        "system, or set DATA.DECODER pyav"
    )


def decode_torchcodec(
    path: str | os.PathLike[str],
    choose: Choose,
    *,
    short_side: int = 0,
    limits: Limits | None = None,
) -> Decoded:
    """Read the frames that `choose` wants; arguments, result and errors as of `decode.decode`.

    A frame that cannot be decoded is an error, a damaged one that FFmpeg conceals is not noticed.
    """
    path, limits, decoder_class = os.fspath(path), limits or Limits(), import_decoder()
    found = probe(path, limits)
    if short_side or found.codec not in CODECS or found.bits != BITS:
        return decode(path, choose, short_side=short_side, limits=limits)
    wanted = list(choose(found.num_frames))
    try:
        reader = decoder_class(f"file:{path}", dimension_order="NHWC", num_ffmpeg_threads=1)
        about = reader.metadata
        check_size(path, about.width, about.height, limits)
        check_memory(path, len(wanted), about.width, about.height, limits)
        frames = (
            reader.get_frames_at(wanted).data.numpy()
            if about.num_frames == found.num_frames
            else None
        )
    except (RuntimeError, ValueError, IndexError):
        raise VideoError(path, "damaged (torchcodec cannot decode it)", "decode") from None
    if frames is None:
        raise VideoError(
            path,
            f"cut short: {about.num_frames} of {found.num_frames} frames can be decoded",
            "decode",
        )
    return Decoded(np.ascontiguousarray(frames), wanted, found.num_frames, found.fps)
