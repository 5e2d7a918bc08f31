"""Clips in a report: their brightness, and frames before and after gamma."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from nightcrawler.data.lists import read_list
from nightcrawler.data.lowlight.enhance.gamma import apply_gamma, gamma_for_mean
from nightcrawler.data.splits import get_split
from nightcrawler.data.video.decode import FileReader, read_frames
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.prepare.measure import TARGET_MEAN
from nightcrawler.report.run_folder import RunFolder
from nightcrawler.utils.errors import UserError, VideoError, unexpected_as_video_error
from nightcrawler.utils.progress import progress

# Clips of a larger split that are measured, evenly spread over it: more would not change the bins.
MAX_MEASURED = 1000
NUM_FRAMES = 4
# Short side of frames. A mean needs few pixels.
MEASURED_PX = 64
THUMBNAIL_PX = 128
JPEG_QUALITY = 85


def find_videos(run: RunFolder, split: str) -> dict[str, Path]:
    """Return name to file of a split's videos.

    Args:
        run: of the chain. It gets a note if clips do not exist on disk as they were tested.
        split: name.

    Returns:
        Nothing for such clips.
    """
    found = get_split(split, run.data)
    if run.split_kind(split) == "darkened":
        run.notes.append(
            f"no pictures and no brightness of clips: {split} is darkened while it is read"
        )
        return {}
    try:
        items = read_list(found.list_file, found.folders, len(run.class_names))
    except UserError as error:
        run.notes.append(f"no pictures and no brightness of clips: {error}")
        return {}
    paths = {}
    for item in items:
        paths[item.name] = item.path
    return paths


def measure_brightness(run: RunFolder, split: str, names: Sequence[str]) -> dict[str, float]:
    """Measure the brightness of clips: the mean RGB value (0..255) of four frames.

    Args:
        run: of the chain.
        split: of the clips.
        names: clips, of which at most 1,000 are measured.

    Returns:
        Name to mean, without clips that cannot be read.
    """
    paths = find_videos(run, split)
    names = [name for name in names if name in paths]
    # Evenly spread rather than the first ones, because lists are often sorted by class.
    places = np.linspace(0, len(names) - 1, min(len(names), MAX_MEASURED)).round().astype(int)
    chosen = [names[place] for place in places]
    means = {}
    for name in progress(chosen, desc="brightness", every=200):
        frames = _frames(paths[name], NUM_FRAMES, MEASURED_PX, run.limits)
        if frames is not None:
            means[name] = float(frames.mean())
    return means


def _frames(path: Path, count: int, short_side: int, limits: Limits) -> np.ndarray | None:
    """Decode the middle frames of `count` equal parts of a clip.

    Returns:
        uint8 `[n, H, W, 3]`, or `None` for a clip that cannot be read.
    """

    def choose(num_frames: int) -> list[int]:
        """Return the middles of equal parts, each once in a short clip."""
        return sorted({int((part + 0.5) * num_frames / count) for part in range(count)})

    try:
        with unexpected_as_video_error(path, "load"):
            return read_frames(FileReader(short_side, limits), path, choose).frames
    except VideoError:
        return None


def thumbnails(
    run: RunFolder, split: str, rows: Sequence[Mapping[str, Any]], lighting: Mapping[str, Any]
) -> list[Any]:
    """Return the middle frames of mistaken clips, before and after gamma.

    Args:
        run: of the chain.
        split: of the clips.
        rows: mistakes, each with a `name`.
        lighting: `enhancement` and `gamma` of the test. Without a gamma, one is chosen for each
            dark clip.

    Returns:
        For each clip data URIs `plain` and `lit`, `gamma` and `mean` brightness, or `None` for a
        clip that cannot be read.
    """
    paths: dict[str, Path] = {}
    if rows:
        paths = find_videos(run, split)
    is_dark = run.split_kind(split) == "dark"
    shown = []
    for row in rows:
        shown.append(_thumbnail(paths.get(row["name"]), lighting, is_dark, run.limits))
    return shown


def _thumbnail(
    path: Path | None, lighting: Mapping[str, Any], is_dark: bool, limits: Limits
) -> dict[str, Any] | None:
    if path is None:
        return None
    frames = _frames(path, 1, THUMBNAIL_PX, limits)
    if frames is None:
        return None
    gamma = lighting.get("gamma")
    # Enhancements other than gamma are shown by a gamma of about the same brightness.
    if gamma is None and (is_dark or lighting.get("enhancement", "none") != "none"):
        gamma = gamma_for_mean(frames, TARGET_MEAN)
    lit = ""
    if gamma is not None:
        lit = _jpeg_uri(apply_gamma(frames, gamma)[0])
    return {
        "plain": _jpeg_uri(frames[0]),
        "lit": lit,
        "gamma": gamma,
        "mean": float(frames.mean()),
    }


def _jpeg_uri(frame: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
