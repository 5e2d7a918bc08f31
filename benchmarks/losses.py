"""Undetected losses: parts of files are cut off, left out or zeroed, and the frames compared."""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from benchmarks.damage import EQUAL, REFUSED, WRONG, outcome, read_all

LOST_BYTES = 2048
NUM_FRAMES, HEIGHT, WIDTH = 40, 120, 160
# By file name: encoder, and options of the container.
FORMATS: dict[str, tuple[str, dict[str, str]]] = {
    "h264.mp4": ("libx264", {}),
    "fragments.mp4": ("libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "h264.mkv": ("libx264", {}),
    "hevc.mp4": ("libx265", {}),
    "h264.ts": ("libx264", {}),
    "mpeg4.avi": ("mpeg4", {}),
    "flv1.flv": ("flv", {}),
    "wmv2.wmv": ("wmv2", {}),
    "mpeg2.mpg": ("mpeg2video", {}),
    "vp8.webm": ("libvpx", {}),
    "vp9.webm": ("libvpx-vp9", {}),
    "mjpeg.mov": ("mjpeg", {}),
}
QUIET = {"libx265": {"x265-params": "log-level=none:pools=1"}}
FAULTS = ("cut short", "2 kB left out", "2 kB of zeros")


def write_clip(path: Path, encoder: str, options: dict[str, str], seed: int = 0) -> None:
    """Write a square that moves over a noisy wall.

    Args:
        path: the new file; its suffix picks the container.
        encoder: name of FFmpeg.
        options: of the container.
        seed: of the wall.
    """
    rng = np.random.default_rng(seed)
    wall = rng.integers(40, 120, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(encoder, rate=20, options=QUIET.get(encoder, {}))
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = "yuvj420p" if encoder == "mjpeg" else "yuv420p"
        stream.bit_rate = 800_000
        for number in range(NUM_FRAMES):
            picture = wall + rng.integers(0, 12, wall.shape, dtype=np.uint8)
            picture[40:70, 3 * number : 3 * number + 25] = (230, 200, 90)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def damaged(content: bytes, fault: str, seed: int) -> bytes:
    """Return the content of a file with one loss.

    Args:
        content: of the file.
        fault: one of `FAULTS`.
        seed: of its place.
    """
    place = random.Random(seed).randrange(len(content) - LOST_BYTES)
    behind = content[place + LOST_BYTES :]
    if fault == "cut short":
        return content[: place + LOST_BYTES // 2]
    if fault == "2 kB left out":
        return content[:place] + behind
    return content[:place] + bytes(LOST_BYTES) + behind


def losses(name: str, folder: Path, num_seeds: int) -> Counter[tuple[str, str]]:
    """Count outcomes by (fault, outcome) of one format.

    Args:
        name: one of `FORMATS`.
        folder: place of the clip and its damaged copy.
        num_seeds: number of copies for each fault.
    """
    encoder, options = FORMATS[name]
    path = folder / name
    write_clip(path, encoder, options)
    clean, content = read_all(str(path)), path.read_bytes()
    copy = folder / f"damaged-{name}"
    found: Counter[tuple[str, str]] = Counter()
    for fault in FAULTS:
        for seed in range(num_seeds):
            copy.write_bytes(damaged(content, fault, seed))
            found[fault, outcome(copy, clean)] += 1
    return found


def study_losses(num_seeds: int) -> Iterator[str]:
    """Damage a clip of every format, and count what nobody notices.

    Args:
        num_seeds: number of damaged copies for each format and fault.

    Yields:
        One line for each format, and their sums by fault.
    """
    total: Counter[tuple[str, str]] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for name in FORMATS:
            found = losses(name, Path(folder), num_seeds)
            total.update(found)
            parts = [f"{fault} {found[fault, WRONG]}" for fault in FAULTS]
            yield f"{name}: silent of {num_seeds} each: {', '.join(parts)}"
    for fault in FAULTS:
        parts = [f"{total[fault, result]} {result}" for result in (REFUSED, EQUAL, WRONG)]
        yield f"{fault}: {', '.join(parts)} of {num_seeds * len(FORMATS)}"
