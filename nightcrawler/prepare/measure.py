"""Measurement of one video: decodability, size, length, brightness and noise."""

from __future__ import annotations

import functools
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nightcrawler.data.lowlight.enhance.gamma import count_levels, gamma_for_mean
from nightcrawler.data.lowlight.noise import choose_pairs, noise_sigma
from nightcrawler.data.video.decode import Decoded, FileReader, read_frames
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.remote import local_video, video_state
from nightcrawler.data.video.salvage import Damage, probe_damaged
from nightcrawler.data.video.stream import readable_video_frames
from nightcrawler.prepare.folders import printable
from nightcrawler.utils.errors import VideoError
from nightcrawler.utils.io import sha256_file

# Mean brightness (0..255) of the suggested gamma: the default of ENHANCE.TARGET_MEAN.
TARGET_MEAN = 110.0
# Begins the cause of a row whose file may not be to blame.
UNEXPECTED = "unexpected"
# Stages of errors behind which the rest of a video may be sound.
DAMAGE_STAGES = ("demux", "decode")
# Pairs of neighbouring frames that brightness and noise are measured on.
NUM_PAIRS = 8
# Larger pictures are scaled down before they are measured, to bound memory, which lowers their
# noise.
MEASURED_SIDE_PX = 720
# Of a file that is not there.
NO_STATE = (-1, -1)


@dataclass(frozen=True)
class Measurement:
    """Figures of one video, or the cause why a file cannot be used, with zeros.

    Attributes:
        path: the file, printable.
        status: `ok`, `damaged` where a part can be read, or `bad`.
        cause: of a bad file, or the loss of a damaged one.
        size_bytes: of the video, -1 if there is none.
        mtime_ns: of its file, or of the archive that it is in, -1 if there is none here.
        sha256: of its bytes, empty if they cannot be read.
        num_frames, width, height, fps: of the video, with fps 0 if the file does not tell.
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


def usable(rows: Iterable[Measurement]) -> list[Measurement]:
    """Return the rows of videos that can be used."""
    return [row for row in rows if row.status == "ok"]


def measure(path: str, limits: Limits | None = None) -> Measurement:
    """Decode a video to its end and measure it.

    No exception is raised: a file that cannot be used gets the status `bad` and a cause. The
    sound frames of a damaged one are measured, and the cause tells the loss.

    Args:
        path: the file, an address, or a member of an archive.
        limits: largest video that is decoded.

    Example:
        >>> measure("data/Test/0.mp4").status
        'ok'
    """
    row = Measurement(printable(path))
    try:
        with local_video(path) as local:
            row = replace(row, mtime_ns=(video_state(path) or NO_STATE)[1])
            return _measure_file(row, local, limits or Limits())
    except VideoError as error:
        # It did not come from where it is.
        return replace(row, status="bad", cause=error.cause)
    except Exception as error:
        return _failed(row, error)


def _failed(row: Measurement, error: Exception) -> Measurement:
    """Return the row of a strange file: one among thousands must not end the audit."""
    cause = f"{UNEXPECTED} {type(error).__name__}: {error}"[:200]
    if isinstance(error, OSError):
        cause = f"cannot be read: {error.strerror}"
    return replace(row, status="bad", cause=cause)


def _measure_file(row: Measurement, path: str, limits: Limits) -> Measurement:
    """Return the row of a video in a file.

    Raises:
        OSError: if the file cannot be read.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        return replace(row, mtime_ns=-1, status="bad", cause="not a regular file")
    row = replace(row, size_bytes=found.st_size, sha256=sha256_file(path))
    try:
        choose = functools.partial(choose_pairs, num_pairs=NUM_PAIRS)
        # To the end, also where few frames are measured: the audit is asked for damage.
        reader = FileReader(MEASURED_SIDE_PX, limits, seeks=False)
        decoded = read_frames(reader, path, choose)
        height, width = _picture_size(path, decoded, limits)
        return replace(row, height=height, width=width, **_measure(decoded))
    except VideoError as error:
        return _measure_damaged(row, path, limits, error)
    except Exception as error:
        return _failed(row, error)


def _measure_damaged(row: Measurement, path: str, limits: Limits, error: VideoError) -> Measurement:
    """Return the row of a video that is damaged: figures of the frames that can be read."""
    bad = replace(row, status="bad", cause=error.cause)
    if error.where not in DAMAGE_STAGES:
        return bad
    damage = Damage()
    try:
        info = probe_damaged(path, limits, damage)
    except VideoError:
        return bad
    size = (0, 0)
    num_frames = 0
    for frame in readable_video_frames(path, info, damage, limits=limits):
        size = frame.rgb.shape[:2]
        num_frames += 1
    if num_frames == 0:
        return bad
    indices = choose_pairs(num_frames, NUM_PAIRS)
    frames = []
    again = readable_video_frames(path, info, Damage(), MEASURED_SIDE_PX, limits)
    for number, frame in enumerate(again):
        if number in indices:
            frames.append(frame.rgb)
    decoded = Decoded(np.stack(frames), indices, num_frames, info.fps)
    row = replace(row, status="damaged", cause=damage.describe())
    return replace(row, height=size[0], width=size[1], **_measure(decoded))


def _picture_size(path: str, decoded: Decoded, limits: Limits) -> tuple[int, int]:
    """Return height and width before scaling, for which only a large video is read again."""
    size = decoded.frames.shape[1:3]
    # Frames of another short side were not scaled.
    if min(size) == MEASURED_SIDE_PX:
        size = read_frames(FileReader(limits=limits), path, lambda _: [0]).frames.shape[1:3]
    return size[0], size[1]


def _measure(decoded: Decoded) -> dict[str, Any]:
    """Return the fields of a `Measurement` that follow from frames, uint8 `[n, H, W, 3]`."""
    frames = decoded.frames
    # A histogram gives mean and percentiles without a float copy of the frames.
    counts = count_levels(frames)
    total = int(counts.sum())
    cumulative = counts.cumsum()
    return {
        "num_frames": decoded.num_frames,
        "fps": round(decoded.fps, 3),
        "mean": round(float(counts @ np.arange(256)) / total, 2),
        "p5": int(np.searchsorted(cumulative, 0.05 * total)),
        "p50": int(np.searchsorted(cumulative, 0.5 * total)),
        "p95": int(np.searchsorted(cumulative, 0.95 * total)),
        "noise": round(noise_sigma(frames, decoded.indices), 3),
        "gamma": gamma_for_mean(frames, TARGET_MEAN),
    }
