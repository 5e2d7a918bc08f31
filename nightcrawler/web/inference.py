"""Inference on one clip for the page: predictions, timeline, and two preview videos."""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import StreamInfo, probe
from nightcrawler.data.video.stream import ASSUMED_FPS, video_frames
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.defaults import build_default_ensemble
from nightcrawler.predict.ensemble import Ensemble, build_ensemble, read_recipe
from nightcrawler.predict.items import LONG_SEC
from nightcrawler.predict.long_video import predict_long_video
from nightcrawler.predict.predictor import Predictor
from nightcrawler.predict.video_result import NO_VOTE, VideoResult, segment_records, to_record
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils.clip_worker import Answer, Question
from nightcrawler.utils.errors import NO_PERSON, VideoError

SHOWN_CLASSES = 5
# Length, frame rate and short side of the previews: enough to see, and quick to load.
PREVIEW_SEC = 12.0
PREVIEW_FPS = 12.5
SLOWEST_FPS = Fraction(1, 1001)
PREVIEW_SIDE_PX = 360
BEFORE = "before.mp4"
AFTER = "after.mp4"


@dataclass(frozen=True)
class InferenceOptions:
    """Settings of inference for the page.

    Attributes:
        experiments: experiment folders, checkpoints or names of weights. Empty takes those of the
            recipe.
        recipe: recipe that mixes the models. None weighs them equally.
        mode: mode of a vote recipe. None takes its first.
        prefix: folder that holds the recipe's experiments.
        dark: enhance clips as dark ones.
        root: folder for relative paths in configurations.
        window_sec: window of the timeline in seconds. Clips of at least two windows get one.
        stride_sec: time between windows, in seconds.
        max_sec: longest clip, in seconds.
        limits: other limits of a clip.
        threads: threads of PyTorch, 0 for its default.
        imports: modules that configurations inside checkpoints may import.
        max_pixels: largest picture that the models read. None leaves it to each checkpoint.
    """

    experiments: tuple[Path | str, ...]
    recipe: Path | None
    mode: int | None
    prefix: Path
    dark: bool
    root: Path
    window_sec: float
    stride_sec: float
    max_sec: float
    limits: Limits
    threads: int = 0
    imports: tuple[str, ...] = ()
    max_pixels: int | None = None


def build_inference(
    options: InferenceOptions,
) -> tuple[functools.partial[Answer], dict[str, Any]]:
    """Build the models.

    Args:
        options: settings of inference.

    Returns:
        a function that answers questions (`path` of a clip, its `name`, the `folder` for its
        previews), and plain values that describe the models for the page.

    Raises:
        UserError: if a model cannot be built.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = None
    if options.recipe:
        recipe = read_recipe(options.recipe, options.mode)
    predict_options = PredictOptions(
        dark=options.dark,
        root=options.root,
        imports=options.imports,
        max_pixels=options.max_pixels,
    )
    if options.experiments or recipe:
        ensemble = build_ensemble(options.experiments, recipe, options.prefix, predict_options)
    else:
        ensemble, _ = build_default_ensemble(predict_options)
    # Models often share an enhancement, which the page then names once.
    pictures = [one for one in ensemble.predictors if "enhancement" in one.about]
    enhancements = dict.fromkeys(map(_enhancement_text, pictures))
    about = {
        "models": ensemble.model_names,
        "class_names": list(ensemble.class_names),
        "enhancement": ", ".join(enhancements) or "none",
        "labels": ensemble.about()["labels"],
    }
    return functools.partial(infer, ensemble, options), about


def _enhancement_text(predictor: Predictor) -> str:
    """Return the enhancement of a model for people."""
    name = predictor.about["enhancement"]
    if name == "none":
        return "none"
    return " ".join([name, *(f"{gamma:g}" for gamma in predictor.about["gammas"])])


def infer(ensemble: Ensemble, options: InferenceOptions, question: Question) -> Answer:
    """Predict a clip and write its previews.

    Args:
        ensemble: models to run.
        options: settings of inference.
        question: `path` of the clip, its `name`, and the `folder` for its previews.

    Returns:
        plain values for the page.

    Raises:
        VideoError: if the clip cannot be read, or exceeds a limit.
    """
    path = question["path"]
    # Before decoding: a clip that is too long must not keep the others waiting.
    info = probe(path, options.limits)
    seconds = info.num_frames / (info.fps or ASSUMED_FPS)
    if seconds > options.max_sec:
        cause = f"{seconds:.0f} s long, over the limit of {options.max_sec:g} s"
        raise VideoError(path, cause, "limits")
    item = VideoItem(question["name"], -1, Path(path), 1)
    result = _checked(path, next(iter(ensemble.videos([item]))))
    timeline = result
    # A single window would repeat the prediction of the whole clip.
    if seconds >= 2 * options.window_sec:
        timeline, _ = predict_long_video(ensemble, item, options.window_sec, options.stride_sec)
        _checked(path, timeline)
    if seconds > LONG_SEC:
        # As the command does: the class that lasts longest.
        result = replace(timeline, votes=result.votes)
    return {
        "name": item.name,
        "status": result.status,
        "top": to_record(result, SHOWN_CLASSES)["top"],
        "models": _votes(ensemble, result),
        "timeline": segment_records(timeline),
        "seconds": seconds,
        "num_frames": info.num_frames,
        "fps": info.fps,
        **write_previews(path, info, Path(question["folder"]), ensemble, options.limits),
    }


def _checked(path: str, result: VideoResult) -> VideoResult:
    """Return a result with a prediction, or raise its reason.

    Raises:
        VideoError: if there is no prediction.
    """
    if not result.ok:
        raise VideoError(path, result.status.removeprefix("error: "), "predict")
    return result


def _votes(ensemble: Ensemble, result: VideoResult) -> list[dict[str, Any]]:
    """Return the class of each model, and its agreement with the ensemble."""
    votes = []
    for name, vote in zip(ensemble.model_names, result.votes, strict=True):
        class_name = NO_PERSON if vote == NO_VOTE else ensemble.class_names[vote]
        votes.append({"name": name, "class": class_name, "agrees": vote == result.class_id})
    return votes


def write_previews(
    path: str, info: StreamInfo, folder: Path, ensemble: Ensemble, limits: Limits
) -> dict[str, Any]:
    """Write the start of a clip as two small videos: unchanged, and enhanced for the first model.

    Args:
        path: the clip.
        info: stream information from `probe`.
        folder: folder of `before.mp4` and `after.mp4`.
        ensemble: models, the first of which has the enhancement.
        limits: limits of the clip.

    Returns:
        `size` in pixels, `preview_sec`, and `brightness`: mean levels (0 to 255) of both.

    Raises:
        VideoError: if the clip cannot be read.
    """
    clip_fps = info.fps or ASSUMED_FPS
    # Every `step`-th frame, so that previews keep the speed of the clip.
    step = max(round(clip_fps / PREVIEW_FPS), 1)
    fps = max(Fraction(clip_fps / step).limit_denominator(1001), SLOWEST_FPS)
    frames = video_frames(path, info, PREVIEW_SIDE_PX, limits, ensemble.color)
    # A time-lapse may take longer than a preview from one frame to the next.
    num_read = max(round(PREVIEW_SEC * fps * step), 1)
    shown = itertools.islice(frames, 0, num_read, step)
    before = np.stack([even_sided(frame.rgb) for frame in shown])
    height, width = before.shape[1:3]
    # Other models of an ensemble may enhance otherwise, but two pictures can be compared.
    after = ensemble.enhance(before)
    brightness = []
    for name, pictures in ((BEFORE, before), (AFTER, after)):
        write_video(folder / name, pictures, fps)
        brightness.append(round(float(pictures.mean()), 1))
    return {
        "size": [width, height],
        "preview_sec": len(before) / float(fps),
        "brightness": brightness,
    }


def even_sided(rgb: np.ndarray) -> np.ndarray:
    """Return a picture uint8 `[H, W, 3]` without an odd last row or column, as H.264 requires.

    A single row or column is doubled.
    """
    padding = [(0, int(side == 1)) for side in rgb.shape[:2]]
    padded = np.pad(rgb, (*padding, (0, 0)), "edge")
    height, width = padded.shape[:2]
    return padded[: height // 2 * 2, : width // 2 * 2]
