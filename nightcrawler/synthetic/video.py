"""Encoding of frames into video files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from nightcrawler.utils.io import refuse_link_in_run

# Suffix to encoder and its options, of the quality of a small camera. One thread: the bytes of a
# file then do not depend on the machine.
ENCODERS: dict[str, tuple[str, dict[str, str]]] = {
    ".mp4": ("libx264", {"crf": "24", "preset": "veryfast", "threads": "1"}),
    ".avi": ("mpeg4", {"qscale": "4", "threads": "1"}),
}


def write_video(
    path: Path, frames: Iterable[np.ndarray], fps: int | Fraction, crf: float | None = None
) -> None:
    """Encode a clip, as H.264 in .mp4 or MPEG-4 in .avi. The file is complete or absent.

    A symbolic link is written through, but not one that lies in a run's folder.

    Example:
        >>> import numpy as np, tempfile
        >>> frames = np.zeros((8, 32, 48, 3), np.uint8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_video(Path(folder) / "black.mp4", frames, fps=25)

    Args:
        path: file to write, ending in .mp4 or .avi, in an existing folder.
        frames: RGB frames, uint8 `[H, W, 3]` each, H and W even, at least one.
        fps: frames per second.
        crf: rate factor of H.264 (6 more about halve the bits), `None` for that of `ENCODERS`.

    Raises:
        UserError: if the path is a link in a run's folder.
    """
    refuse_link_in_run(path)
    suffix = path.suffix
    encoder, options = ENCODERS[suffix]
    if crf is not None:
        assert "crf" in options, f"{suffix}: {encoder} has no rate factor"
        options = {**options, "crf": f"{crf:g}"}
    remaining = iter(frames)
    first = next(remaining)
    # A rename would replace a link by a file, and leave what it points to as it was.
    path = Path(os.path.realpath(path))
    # The suffix stays last: it selects the container.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{suffix}")
    try:
        with av.open(str(temporary), "w") as container:
            stream = container.add_stream(encoder, rate=fps, options=options)
            # PyAV types streams by the name of the encoder, which is not a literal here.
            assert isinstance(stream, av.VideoStream)
            stream.height, stream.width = first.shape[:2]
            stream.pix_fmt = "yuv420p"
            if encoder == "mpeg4":
                # FFmpeg's `qscale` option is of its command line: the library takes both bounds.
                stream.codec_context.qmin = int(options["qscale"])
                stream.codec_context.qmax = int(options["qscale"])
            for frame in itertools.chain([first], remaining):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        _fsync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    """Write a file's content to disk, so that a rename never leads to an empty file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
