"""Frames to video files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# Container: encoder and its options, quality as of a small camera.
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("libx264", {"crf": "24", "preset": "veryfast", "threads": "1"}),
    ".avi": ("mpeg4", {"qscale": "4", "threads": "1"}),
}


def write_video(path: Path, frames: Iterable[np.ndarray], fps: int | Fraction) -> None:
    """Encode a clip: .mp4 as H.264, .avi as MPEG-4; the file is whole or absent.

    Args:
        path: where; its suffix tells the encoder. The folder exists.
        frames: uint8 `[H, W, 3]` each, H and W even; at least one.
        fps: frames a second.
    """
    encoder, options = ENCODERS[path.suffix]
    frames = iter(frames)
    first = next(frames)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        with av.open(str(temporary), "w") as container:
            stream = container.add_stream(encoder, rate=fps, options=options)
            stream.height, stream.width, stream.pix_fmt = *first.shape[:2], "yuv420p"
            if encoder == "mpeg4":
                stream.codec_context.qmin = stream.codec_context.qmax = int(options["qscale"])
            for frame in itertools.chain([first], frames):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
