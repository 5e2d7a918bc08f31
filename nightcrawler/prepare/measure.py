"""What one video is like: whether it decodes, its size and length, how bright and how noisy it is."""

from __future__ import annotations

import functools
import os
import stat
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nightcrawler.data.lowlight.enhance.gamma import gamma_for_mean
from nightcrawler.data.lowlight.noise import choose_pairs, noise_sigma
from nightcrawler.data.video.decode import Decoded, FileReader, read_frames
from nightcrawler.prepare.folders import printable
from nightcrawler.utils.errors import VideoError
from nightcrawler.utils.io import sha256_file

# Mean brightness that the suggested gamma aims at: the default of ENHANCE.TARGET_MEAN.
TARGET_MEAN = 110.0
# Begins the cause of a row whose file is not to blame, as far as is known.
UNEXPECTED = "unexpected"
NUM_PAIRS = 8
# Larger pictures are scaled down before they are measured, to bound memory; that lowers their noise.
MEASURED_SIDE_PX = 720


@dataclass(frozen=True)
class Measurement:
    """One video; a file that cannot be used has a cause and zeros.

    Attributes:
        path: the file, printable.
        status: `ok` or `bad`.
        cause: why it is bad.
        size_bytes, mtime_ns: of the file, -1 where there is none.
        sha256: of its bytes, empty where they cannot be read.
        num_frames, width, height, fps: of the video; fps 0 where the file does not say.
        mean, p5, p50, p95: mean and percentiles of the RGB values, 0..255.
        noise: standard deviation of the luminance's noise, 0..255.
        gamma: exponent that brings the mean closest to 110.
    """

    path: str
    status: str = "ok"
    cause: str = ""
    size_bytes: int = -1
    mtime_ns: int = -1
    sha256: str = ""
    num_frames: int = 0
    width: int = 0
    height: int = 0
    fps: float = 0.0
    mean: float = 0.0
    p5: int = 0
    p50: int = 0
    p95: int = 0
    noise: float = 0.0
    gamma: float = 0.0


def measure(path: str) -> Measurement:
    """Decode a video to its end and measure it; whatever is wrong with it is in the answer, nothing is raised."""
    row = Measurement(printable(path))
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return replace(row, status="bad", cause="not a regular file")
        row = replace(
            row, size_bytes=found.st_size, mtime_ns=found.st_mtime_ns, sha256=sha256_file(path)
        )
        choose = functools.partial(choose_pairs, num_pairs=NUM_PAIRS)
        decoded = read_frames(FileReader(MEASURED_SIDE_PX), path, choose)
        height, width = _picture_size(path, decoded)
        return replace(row, height=height, width=width, **_measure(decoded))
    except VideoError as error:
        return replace(row, status="bad", cause=error.cause)
    except OSError as error:
        return replace(row, status="bad", cause=f"cannot be read: {error.strerror}")
    except Exception as error:
        # One strange file among thousands must not end the audit: it gets its row, with what happened.
        return replace(
            row, status="bad", cause=f"{UNEXPECTED} {type(error).__name__}: {error}"[:200]
        )


def _picture_size(path: str, decoded: Decoded) -> tuple[int, int]:
    """Height and width before scaling; only a large video is read again for it."""
    size = decoded.frames.shape[1:3]
    if min(size) == MEASURED_SIDE_PX:
        size = read_frames(FileReader(), path, lambda _: [0]).frames.shape[1:3]
    return size[0], size[1]


def _measure(decoded: Decoded) -> dict[str, Any]:
    frames = decoded.frames
    counts = np.bincount(frames.reshape(-1), minlength=256)
    total = int(counts.sum())
    p5, p50, p95 = (
        int(np.searchsorted(counts.cumsum(), share * total)) for share in (0.05, 0.5, 0.95)
    )
    return {
        "num_frames": decoded.num_frames,
        "fps": round(decoded.fps, 3),
        "mean": round(float(counts @ np.arange(256)) / total, 2),
        "p5": p5,
        "p50": p50,
        "p95": p95,
        "noise": round(noise_sigma(frames, decoded.indices), 3),
        "gamma": gamma_for_mean(frames, TARGET_MEAN),
    }
