"""Work on one clip for the page: predictions, timeline, previews, an annotated copy."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import StreamInfo, probe
from nightcrawler.data.video.salvage import Damage, probe_damaged
from nightcrawler.data.video.stream import ASSUMED_FPS
from nightcrawler.predict.annotate import annotate, whole_video_span
from nightcrawler.predict.checkpoints import DEMO_PREFIX, PredictOptions
from nightcrawler.predict.defaults import build_default_ensemble, right_of_real_clips
from nightcrawler.predict.ensemble import Ensemble, build_ensemble, read_recipe
from nightcrawler.predict.items import LONG_SEC
from nightcrawler.predict.long_video import predict_long_video
from nightcrawler.predict.open_vocabulary import build_open_vocabulary, reworded
from nightcrawler.predict.predictor import Predictor
from nightcrawler.predict.sliding_windows import ScoredSpan, Window
from nightcrawler.predict.video_result import NO_VOTE, VideoResult, from_plain, to_plain
from nightcrawler.utils.clip_worker import Answer, Question, report_alive
from nightcrawler.utils.errors import NO_PERSON, UserError, VideoError
from nightcrawler.web.damage import explain
from nightcrawler.web.previews import PreviewSource, write_previews

ANNOTATED = "annotated.mp4"
# Said of the models inside the package.
DRAWN_ONLY = "These models have seen drawn figures only, never a real person."
# Said of models that compare videos with words.
WORDS_ONLY = (
    "Classes in your own words: how often they are right on night videos has not been measured."
)


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
        labels: classes of models that compare videos with words. Empty for other models.
        prompt: sentence of the labels, see `predict.open_vocabulary.sentences_of`.
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
    labels: tuple[str, ...] = ()
    prompt: str = ""


def build_inference(
    options: InferenceOptions,
) -> tuple[functools.partial[Answer], dict[str, Any]]:
    """Build the models.

    Args:
        options: settings of inference.

    Returns:
        `answer` with models and settings, and plain values that describe the models for the page.

    Raises:
        UserError: if a model cannot be built.
    """
    if options.threads:
        torch.set_num_threads(options.threads)
    ensemble, worth = _build_models(options)
    # Models often share an enhancement, which the page then names once.
    pictures = [one for one in ensemble.predictors if "enhancement" in one.about]
    enhancements = dict.fromkeys(map(_enhancement_text, pictures))
    about = {
        "models": ensemble.model_names,
        "class_names": list(ensemble.class_names),
        "enhancement": ", ".join(enhancements) or "none",
        "labels": ensemble.about()["labels"],
        "worth": worth,
        "predictor": ensemble.about(),
        "takes_labels": bool(options.labels),
    }
    return functools.partial(answer, ensemble, options), about


def _build_models(options: InferenceOptions) -> tuple[Ensemble, str]:
    """Build the models, and return with them what their answer is worth, empty if not known."""
    recipe = None
    if options.recipe:
        recipe = read_recipe(options.recipe, options.mode)
    predict_options = PredictOptions(
        dark=options.dark,
        root=options.root,
        imports=options.imports,
        max_pixels=options.max_pixels,
    )
    names = list(map(str, options.experiments))
    if options.labels:
        ensemble = build_open_vocabulary(names, options.labels, options.prompt, predict_options)
        return ensemble, WORDS_ONLY
    if options.experiments or recipe:
        ensemble = build_ensemble(options.experiments, recipe, options.prefix, predict_options)
        is_drawn = names and all(name.startswith(DEMO_PREFIX) for name in names)
        return ensemble, DRAWN_ONLY if is_drawn else ""
    ensemble, _ = build_default_ensemble(predict_options)
    right = right_of_real_clips(ensemble)
    return ensemble, f"{DRAWN_ONLY} Their answer is right for {right}."


def _enhancement_text(predictor: Predictor) -> str:
    """Return the enhancement of a model for people."""
    name = predictor.about["enhancement"]
    if name == "none":
        return "none"
    return " ".join([name, *(f"{gamma:g}" for gamma in predictor.about["gammas"])])


def answer(ensemble: Ensemble, options: InferenceOptions, question: Question) -> Answer:
    """Answer a question of the page about a clip.

    Args:
        ensemble: models to run.
        options: settings of inference.
        question: the task to `do` (`predict`, `whole` or `annotated`), the `path` of the clip, its
            `name`, the `folder` for its videos, and whether it `is_damaged`, so that its readable
            part is used. `labels` are classes of its own. For annotated ones, the `result` of the
            prediction.

    Returns:
        plain values: those of a prediction or of videos, or `refused` with the reason.
    """
    actions = {"predict": infer, "whole": show_whole, "annotated": write_annotated}
    if question.get("labels"):
        try:
            ensemble = reworded(ensemble, question["labels"], options.prompt)
        except UserError as error:
            return {"refused": {"error": str(error)}}
    try:
        return actions[question["do"]](ensemble, options, question)
    except VideoError as error:
        return {"refused": asdict(explain(error, question["path"], options.limits))}


def infer(ensemble: Ensemble, options: InferenceOptions, question: Question) -> Answer:
    """Predict a clip and write the previews of its start.

    Args:
        ensemble: models to run.
        options: settings of inference.
        question: see `answer`.

    Returns:
        plain values for the page.

    Raises:
        VideoError: if the clip cannot be read, or exceeds a limit.
    """
    path = question["path"]
    # Before decoding: a clip that is too long must not keep the others waiting.
    source = _open(ensemble, options, question)
    item = VideoItem(question["name"], -1, Path(path), 1)
    seconds = length_sec(source.info)
    windows = (options.window_sec, options.stride_sec)
    # As the command does for long clips: the class that lasts longest. Whole clips are predicted
    # from sound files only.
    by_time = source.is_damaged or seconds > LONG_SEC
    if by_time:
        result = _checked(path, predict_long_video(ensemble, item, *windows, _telling)[0])
    else:
        result = _checked(path, next(iter(ensemble.videos([item]))))
        # A single window would repeat the prediction of the whole clip.
        if seconds >= 2 * options.window_sec:
            timeline, _ = predict_long_video(ensemble, item, *windows, _telling)
            # A timeline that fails, such as by windows of too many frames, costs no answer.
            if timeline.ok:
                result = replace(result, segments=timeline.segments)
    return {
        "result": to_plain(result),
        "models": [] if by_time else _votes(ensemble, result),
        "by_time": by_time,
        "seconds": seconds,
        "num_frames": source.info.num_frames,
        "fps": source.info.fps,
        **write_previews(source, Path(question["folder"]), ensemble.enhance),
    }


def _telling(windows: Iterable[Window], count: int) -> Iterator[Window]:
    """Yield windows, and tell the page's server of each that the work goes on."""
    for window in windows:
        report_alive()
        yield window


def _open(ensemble: Ensemble, options: InferenceOptions, question: Question) -> PreviewSource:
    """Return the checked clip of a question.

    Raises:
        VideoError: if the clip cannot be read, or exceeds a limit.
    """
    path = question["path"]
    if question["is_damaged"]:
        info = probe_damaged(path, options.limits, Damage())
    else:
        info = probe(path, options.limits)
    seconds = length_sec(info)
    if seconds > options.max_sec:
        cause = f"{seconds:.0f} s long, over the limit of {options.max_sec:g} s"
        raise VideoError(path, cause, "limits")
    is_damaged = question["is_damaged"]
    return PreviewSource(path, info, is_damaged, options.limits, ensemble.color)


def length_sec(info: StreamInfo) -> float:
    """Return the length of a clip by its number of frames, in seconds."""
    return info.num_frames / (info.fps or ASSUMED_FPS)


def show_whole(ensemble: Ensemble, options: InferenceOptions, question: Question) -> Answer:
    """Write previews of a whole clip.

    Args:
        ensemble: models, the first of which has the enhancement.
        options: settings of inference.
        question: see `answer`.

    Raises:
        VideoError: if the clip cannot be read.
    """
    source = _open(ensemble, options, question)
    # Frames have times of their own, and the last may lie behind the length by the frame rate.
    return write_previews(source, Path(question["folder"]), ensemble.enhance, options.max_sec)


def write_annotated(ensemble: Ensemble, options: InferenceOptions, question: Question) -> Answer:
    """Write an enhanced copy of a clip with its classes drawn into it.

    Args:
        ensemble: models that predicted it.
        options: settings of inference.
        question: see `answer`.

    Raises:
        VideoError: if nothing of the clip can be read.
    """
    names = ensemble.class_names
    result = from_plain(question["result"], names)
    spans = [whole_video_span(result)]
    if result.segments:
        spans = [
            ScoredSpan(one.start_sec, one.end_sec, ((one.label, one.prob),), one.status)
            for one in result.segments
        ]

    def enhance(frames: np.ndarray) -> np.ndarray:
        """Enhance a part of the clip, and tell the page's server that the work goes on."""
        report_alive()
        return ensemble.enhance(frames)

    path = Path(question["path"])
    target = Path(question["folder"]) / ANNOTATED
    annotate(path, target, spans, names, enhance, ensemble.color, options.limits)
    return {}


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
