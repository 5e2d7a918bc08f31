"""What the worker does with one clip: models' answers, and the clip before and after it is lit."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.decode import StreamInfo, probe
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.predict.ensemble import Ensemble, build_ensemble, read_recipe
from nightcrawler.predict.long_video import long_video
from nightcrawler.predict.predictor import PredictOptions, Predictor
from nightcrawler.predict.rows import VideoResult, record
from nightcrawler.predict.stream import ASSUMED_FPS, video_frames
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils.errors import VideoError
from nightcrawler.web.worker import Answer, Question

SHOWN_CLASSES = 5
# Of the two pictures: so much of the clip, so many frames of it, of this short side.
PREVIEW_SEC, PREVIEW_FPS, PREVIEW_PX = 12.0, 12.5, 360
MOST_RATIO = 4
BEFORE, AFTER = "before.mp4", "after.mp4"


@dataclass(frozen=True)
class InferenceOptions:
    """How clips are looked at.

    Attributes:
        experiments, recipe, mode, prefix: the models and how they are mixed, as `tools/predict.py` takes them.
        dark: light clips as dark ones.
        root: the project.
        window_sec, stride_sec: of the timeline; clips of at least two windows have one.
        most_sec: length of a clip, at most.
        limits: of a clip otherwise.
        threads: of PyTorch; 0 leaves its choice.
    """

    experiments: tuple[Path, ...]
    recipe: Path | None
    mode: int | None
    prefix: Path
    dark: bool
    root: Path
    window_sec: float
    stride_sec: float
    most_sec: float
    limits: Limits
    threads: int = 0


def build_inference(look: InferenceOptions) -> tuple[functools.partial[Answer], dict[str, Any]]:
    """What answers questions (`path` of a clip, its `name`, the `folder` for its pictures), and what it is.

    Raises:
        UserError: if a model cannot be built.
    """
    if look.threads:
        torch.set_num_threads(look.threads)
    recipe = read_recipe(look.recipe, look.mode) if look.recipe else None
    settings = PredictOptions(dark=look.dark, root=look.root)
    group = build_ensemble(look.experiments, recipe, look.prefix, settings)
    return functools.partial(infer, group, look), {
        "models": [member.name for member in group.members],
        "class_names": group.class_names,
        "enhancement": ", ".join(dict.fromkeys(map(_light, group.members))),
        "labels": group.about()["labels"],
    }


def _light(member: Predictor) -> str:
    """How a model's clips are lit, in words."""
    name = member.about["enhancement"]
    return (
        " ".join([name, *(f"{gamma:g}" for gamma in member.about["gammas"])])
        if name != "none"
        else "left as it is"
    )


def infer(group: Ensemble, look: InferenceOptions, question: Question) -> Answer:
    """What models see in a clip, as plain values; its pictures are written.

    Raises:
        VideoError: if it cannot be read, or is more than is allowed.
    """
    path, folder = question["path"], Path(question["folder"])
    found = probe(path, look.limits)
    seconds = found.num_frames / (found.fps or ASSUMED_FPS)
    if seconds > look.most_sec:
        raise VideoError(
            path, f"{seconds:.0f} s long, over the limit of {look.most_sec:g} s", "limits"
        )
    item = VideoItem(question["name"], -1, Path(path), 1)
    row = next(iter(group.videos([item])))
    timeline = _timeline(group, look, item) if row.ok and seconds >= 2 * look.window_sec else row
    for answer in (row, timeline):
        if not answer.ok:
            raise VideoError(path, answer.status.removeprefix("error: "), "predict")
    names = [member.name for member in group.members]
    said = record(row, group.class_names, SHOWN_CLASSES)
    votes = zip(names, row.votes, strict=False)
    return {
        "name": item.name,
        "top": said["top"],
        "models": [
            {"name": name, "class": group.class_names[vote], "agrees": vote == row.class_id}
            for name, vote in votes
        ],
        "timeline": [
            {**asdict(one), "class": group.class_names[one.label]} for one in timeline.segments
        ],
        "seconds": seconds,
        "num_frames": found.num_frames,
        "fps": found.fps,
        **write_pictures(path, found, folder, group, look.limits),
    }


def _timeline(group: Ensemble, look: InferenceOptions, item: VideoItem) -> VideoResult:
    def show(windows: Iterable[Any], total: int) -> Iterable[Any]:
        return windows

    return long_video(group, item, look.window_sec, look.stride_sec, show)[0]


def write_pictures(
    path: str, found: StreamInfo, folder: Path, group: Ensemble, limits: Limits
) -> dict[str, Any]:
    """Write the start of a clip as two small videos, as it is and as the first model sees it.

    Returns:
        their size, length, and mean brightness (of 255).
    """
    step = max(round((found.fps or ASSUMED_FPS) / PREVIEW_FPS), 1)
    fps = Fraction((found.fps or ASSUMED_FPS) / step).limit_denominator(1001)
    shown = itertools.islice(
        video_frames(path, found, PREVIEW_PX, limits), 0, round(PREVIEW_SEC * fps * step), step
    )
    before = np.stack([even(frame.rgb) for frame in shown])
    height, width = before.shape[1:3]
    if max(height, width) > MOST_RATIO * min(height, width):
        raise VideoError(
            path, f"{width}:{height} is no shape of a picture that can be shown", "limits"
        )
    after = group.members[0].enhance(before)
    for name, pictures in ((BEFORE, before), (AFTER, after)):
        write_video(folder / name, pictures, fps)
    return {
        "size": [width, height],
        "preview_sec": len(before) / float(fps),
        "brightness": [round(float(pictures.mean()), 1) for pictures in (before, after)],
    }


def even(rgb: np.ndarray) -> np.ndarray:
    """A picture uint8 `[H, W, 3]` without an odd last row or column, as H.264 wants it; a lone one is doubled."""
    lone = [(0, int(side == 1)) for side in rgb.shape[:2]]
    padded = np.pad(rgb, (*lone, (0, 0)), "edge")
    height, width = padded.shape[:2]
    return padded[: height // 2 * 2, : width // 2 * 2]
