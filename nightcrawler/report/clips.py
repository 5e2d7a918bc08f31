"""What a report shows of the clips themselves: how bright they are, and frames before and after gamma."""

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
from nightcrawler.prepare.measure import TARGET_MEAN
from nightcrawler.report.run_folder import RunFolder
from nightcrawler.utils.errors import UserError, VideoError
from nightcrawler.utils.progress import progress

# Of a larger split, this many clips, evenly spread over it, are measured.
MOST_MEASURED = 1000
NUM_FRAMES, MEASURED_PX, THUMBNAIL_PX = 4, 64, 128
QUALITY = 85


def find_videos(run: RunFolder, split: str) -> dict[str, Path]:
    """Name to file of a split's videos; none, with a note, where they are not on disk as they were tested."""
    found = get_split(split, run.data)
    if run.kind(split) == "darkened":
        run.notes.append(
            f"no pictures and no brightness of clips: {split} is darkened while it is read"
        )
        return {}
    try:
        items = read_list(found.list_file, found.folders, len(run.class_names))
    except UserError as error:
        run.notes.append(f"no pictures and no brightness of clips: {error}")
        return {}
    return {item.name: item.path for item in items}


def measure_brightness(run: RunFolder, split: str, names: Sequence[str]) -> dict[str, float]:
    """Name to mean of the RGB values (0..255) of four frames, as filmed; clips that cannot be read are left out."""
    paths = find_videos(run, split)
    names = [name for name in names if name in paths]
    spread = (
        np.linspace(0, len(names) - 1, min(len(names), MOST_MEASURED)).round().astype(int).tolist()
    )
    means = {}
    for name in progress([names[at] for at in spread], desc="brightness", every=200):
        frames = _frames(paths[name], NUM_FRAMES, MEASURED_PX)
        if frames is not None:
            means[name] = float(frames.mean())
    return means


def _frames(path: Path, count: int, short_side: int) -> np.ndarray | None:
    """uint8 `[n, H, W, 3]`: frames from the middles of `count` equal parts; `None` for a clip that cannot be read."""

    def choose(num_frames: int) -> list[int]:
        return sorted({int((at + 0.5) * num_frames / count) for at in range(count)})

    try:
        return read_frames(FileReader(short_side), path, choose).frames
    except VideoError:
        return None


def thumbnails(
    run: RunFolder, split: str, rows: Sequence[Mapping[str, Any]], lighting: Mapping[str, Any]
) -> list[Any]:
    """For each mistake `None`, or its middle frame as filmed and lit, as data URIs, with the gamma.

    Args:
        run: whose data is looked at.
        split: of the clips.
        rows: mistakes.
        lighting: `enhancement` and `gamma` of the test; without a gamma, one is chosen for each dark clip.
    """
    paths = find_videos(run, split) if rows else {}
    return [_pair(paths.get(row["name"]), lighting, run.kind(split) == "dark") for row in rows]


def _pair(path: Path | None, lighting: Mapping[str, Any], dark: bool) -> dict[str, Any] | None:
    frames = _frames(path, 1, THUMBNAIL_PX) if path is not None else None
    if frames is None:
        return None
    gamma = lighting.get("gamma")
    if gamma is None and (dark or lighting.get("enhancement", "none") != "none"):
        gamma = gamma_for_mean(frames, TARGET_MEAN)
    lit = _picture(apply_gamma(frames, gamma)[0]) if gamma is not None else ""
    return {"plain": _picture(frames[0]), "lit": lit, "gamma": gamma, "mean": float(frames.mean())}


def _picture(frame: np.ndarray) -> str:
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
