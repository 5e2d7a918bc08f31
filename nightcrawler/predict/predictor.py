"""One trained model that predicts videos as it was tested."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode
from torch import Tensor, nn
from torch.utils.data import DataLoader

from nightcrawler.adapt.base import Adapter, NoAdapter
from nightcrawler.adapt.build import build_adapter
from nightcrawler.data.batch_sampler import ChunkSampler, SampleKey
from nightcrawler.data.build import build_loader, view_crop_pairs_of
from nightcrawler.data.build_video import limits_of
from nightcrawler.data.dataset import ClipDataset, keep_samples
from nightcrawler.data.footage import Footage
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.decode import VideoReader
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.engine.build import build_evaluator, build_placed_model
from nightcrawler.engine.evaluator import Evaluator, as_predictions
from nightcrawler.engine.resume import weights_to_test_from_cfg
from nightcrawler.models.formats import WeightsFile
from nightcrawler.predict.calibrate import judge_alone, known_results, read_judge
from nightcrawler.predict.checkpoints import (
    DEMO_PREFIX,
    PredictOptions,
    build_trained_config,
    read_checkpoint,
)
from nightcrawler.predict.model_input import (
    FrameSpan,
    ModelInput,
    Sighting,
    build_picture_input,
)
from nightcrawler.predict.pose_input import build_pose_input
from nightcrawler.predict.published import noted
from nightcrawler.predict.sources import Source, predict_source
from nightcrawler.predict.stream_adapter import (
    NO_LIGHT,
    ONLINE,
    StreamAdapter,
    about_stream,
    build_stream_adapter,
)
from nightcrawler.predict.trust import LEAST_SEC, NEVER, Judge
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.pseudo.ensemble import probabilities
from nightcrawler.pseudo.predictions import STATUS_OK, Predictions
from nightcrawler.pseudo.results_metadata import ORACLE
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import NO_PERSON

# Metadata of a prediction: length and light of its video, or how its person was seen.
FOOTAGE = "footage"
SIGHTING = "sighting"
# Ends the errors of adapters: whoever predicts chooses by this option, not by keys.
ADAPT_HINT = "--adapt takes batchnorm, tent, infomax, online, none"


@dataclass(frozen=True)
class Predictor:
    """A trained model with its decoding, enhancement and clips.

    Attributes:
        name: name of the model in tables.
        model: network from clips to logits, on its device, in evaluation mode.
        evaluator: runs the network on batches and averages clips.
        input: decoding, enhancement and clips.
        make_batches: makes batches of a dataset, one video each.
        pair: temporal views and spatial crops.
        short_side: short side of decoded frames in pixels, 0 for the size of the video.
        color: conversion of colours, see `data.video.convert.FLAGS`.
        limits: largest video that is accepted.
        class_names: names of the K classes.
        about: plain values that identify the model: hashes, views, enhancement, label use, ...
        adapter: method that `predict.adapt` changes the model by.
        judge: rules that say whether an answer is sure.
        known: results of clips that look dark and whose classes are known, None where there are
            none of this checkpoint.
        stream: adapter that follows the windows of a stream, None for none.

    Example:
        >>> predictor = nightcrawler.load("exp_adapt_bn/uniformer_b32_k600")  # doctest: +SKIP
        >>> for result in predictor.predict("clips/"):  # doctest: +SKIP
        ...     print(result.name, result.status, result.classes[:1])
    """

    name: str
    model: nn.Module
    evaluator: Evaluator
    input: ModelInput
    make_batches: Callable[[ClipDataset, ChunkSampler], Iterable[Any]]
    pair: tuple[int, int]
    short_side: int
    color: str
    limits: Limits
    class_names: tuple[str, ...]
    about: dict[str, Any]
    adapter: Adapter = field(default_factory=NoAdapter)
    judge: Judge = field(default_factory=Judge)
    known: Predictions | None = None
    stream: StreamAdapter | None = None

    def predict(
        self, source: Source, *, window_sec: float | None = None, stride_sec: float | None = None
    ) -> list[VideoResult]:
        """Predict videos of a path, a folder, a list, or arrays in memory.

        Args:
            source: a video, a folder (every file below it), a list file (`.csv` with rows
                `path,label`, or `.txt` with one path per line), frames uint8 `[T, H, W, 3]` in RGB,
                or a Python list of video paths and arrays.
            window_sec: slide windows of so many seconds over each file and fill `timeline`. None
                predicts each video as a whole.
            stride_sec: seconds between starts of windows. None takes half a window.

        Returns:
            one result per video, in order, with `name`, `classes`, `probabilities`, `timeline` and
            `status`. A video that cannot be read has the reason in `status`.

        Raises:
            TypeError: if the source is of another type, or an array is not uint8.
            ValueError: if an array has another shape, or the window and stride do not fit.
            UserError: if a single path does not exist, or a list file is invalid.

        Example:
            >>> results = predictor.predict(["a.mp4", "b.mp4"])  # doctest: +SKIP
            >>> results[0].classes[0], results[0].probabilities.shape  # doctest: +SKIP
            ('Run', (11,))
        """
        return predict_source(self, source, window_sec, stride_sec)

    def videos(self, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
        """Yield the result of each video, in order."""
        for item, prediction in zip(items, self.video_predictions(items), strict=True):
            yield self._result(item, prediction)

    def frames(self, item: VideoItem, span: FrameSpan) -> VideoResult:
        """Return the result of frames, as of a whole video."""
        return self._result(item, self.frame_predictions(item, span))

    def video_predictions(self, items: Sequence[VideoItem]) -> Iterator[Predictions]:
        """Yield the content of a one-row results file for each video, in order.

        Its metadata hold the `Footage` of the video and the `Sighting` of its person, or None.

        A batch never holds two videos, so a prediction does not depend on neighbours in a list.
        """
        for item, row in zip(items, self._rows(self._batches(items)), strict=True):
            yield self._predictions(item, row)

    def clips(self, items: Sequence[VideoItem]) -> Iterator[Tensor]:
        """Yield the M clips of each video on the host, float32 `[M, 3, T, H, W]`.

        Those of a video that cannot be read are an empty tensor.
        """
        for batch in self._batches(items):
            for sample in batch:
                yield sample["clip"]

    def _batches(self, items: Sequence[VideoItem]) -> Iterable[Any]:
        dataset = self._dataset(items, self.input.reader)
        return self.make_batches(dataset, ChunkSampler(len(items), chunk=1))

    def frame_predictions(self, item: VideoItem, span: FrameSpan) -> Predictions:
        """Return the content of a one-row results file for frames.

        With `stream`, they are the next window of the stream that the frames before were of.
        """
        if self.stream is None:
            return self._span_predictions(item, span)
        predict = functools.partial(self._span_predictions, item, span)
        return self.stream.follow(span, predict)

    def _span_predictions(self, item: VideoItem, span: FrameSpan) -> Predictions:
        dataset = self._dataset([item], self.input.read_span(span))
        row = next(self._rows([[dataset[SampleKey(0, 0)]]]))
        if isinstance(row.get("measured"), Footage):
            # Frames in memory have no rate.
            row["measured"] = replace(row["measured"], fps=span.fps)
        return self._predictions(item, row)

    def _dataset(self, items: Sequence[VideoItem], reader: VideoReader) -> ClipDataset:
        # `replace_bad=False`: a damaged video gives a sample with its reason, not another video.
        return ClipDataset(
            items,
            reader,
            self.input.clip_builder,
            seed=0,
            replace_bad=False,
            measure=self.input.measure,
        )

    def _rows(self, batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
        rows = self.evaluator.rows(self.model, batches, [self.pair], len(self.class_names))
        return (row for _, row in rows)

    def _predictions(self, item: VideoItem, row: dict[str, Any]) -> Predictions:
        predictions = as_predictions({0: row}, [item], self.pair, len(self.class_names))
        measured = row.get("measured")
        predictions.meta[FOOTAGE] = measured if isinstance(measured, Footage) else None
        predictions.meta[SIGHTING] = measured if isinstance(measured, Sighting) else None
        return predictions

    def _result(self, item: VideoItem, prediction: Predictions) -> VideoResult:
        """Return a one-row results file as a result, like an ensemble of this model alone."""
        status = prediction.status[0]
        if status != STATUS_OK:
            return VideoResult(item.name, item.label, status, self.class_names)
        # In float64, and refused if not finite, as everywhere predictions are mixed.
        probs = probabilities(prediction)[0]
        class_id = int(probs.argmax())
        return VideoResult(
            name=item.name,
            label=item.label,
            status=self.judge.status(
                probs,
                class_id,
                nobody=sees_nobody(prediction),
                short=is_of_short_video(prediction),
                footage=prediction.meta[FOOTAGE],
            ),
            class_names=self.class_names,
            class_id=class_id,
            probs=tuple(probs.tolist()),
            logits=tuple(np.asarray(prediction.logits[0], np.float64).tolist()),
            num_clips=int(prediction.num_clips[0]),
            votes=(class_id,),
        )


def sees_nobody(prediction: Predictions) -> bool:
    """Return whether a model of people saw nobody, or somebody whom no second look confirms.

    Args:
        prediction: of one video, see `Predictor.video_predictions`.
    """
    sighting: Sighting | None = prediction.meta[SIGHTING]
    is_doubted = sighting is not None and not sighting.is_confirmed
    return prediction.status[0] == NO_PERSON or is_doubted


def is_of_short_video(prediction: Predictions) -> bool:
    """Return whether a model of people saw a video that is too short to show an action.

    Args:
        prediction: of one video, see `Predictor.video_predictions`.
    """
    sighting: Sighting | None = prediction.meta[SIGHTING]
    return sighting is not None and sighting.video_sec < LEAST_SEC


def build_predictor(
    checkpoint: str | os.PathLike[str],
    name: str,
    pair: tuple[int, int] | None,
    options: PredictOptions,
) -> Predictor:
    """Build a model from an experiment folder or a checkpoint.

    The checkpoint holds the configuration, the classes and the enhancement. It may come from
    training or from `tools/convert_checkpoint.py`.

    Args:
        checkpoint: see `predict.checkpoints.find_checkpoint`.
        name: name of the model in tables.
        pair: views and crops of a recipe. None leaves them to the checkpoint.
        options: settings that differ from testing. Their `pair` has precedence.

    Raises:
        UserError: if there is no checkpoint, or it is incomplete.
    """
    file = read_checkpoint(checkpoint)
    cfg = build_trained_config(file, options)
    device = distributed.choose_device(cfg.DEVICE)
    model = build_placed_model(cfg, device)
    with noted(os.fspath(checkpoint)):
        weights_to_test_from_cfg(cfg, model)
    pair = options.pair or pair or view_crop_pairs_of(cfg)[0]
    if cfg.DATA.INPUT == "pose":
        # There is nothing of a skeleton to crop.
        pair = (pair[0], 1)
    taken = _build_input(cfg, pair, options.dark)
    class_names = tuple(cfg.MODEL.CLASS_NAMES)
    stream = None
    if options.adapter == ONLINE:
        stream = build_stream_adapter(cfg, name, model.eval())
    known = known_results(file.path, file.sha256, pair, class_names)
    if known is None:
        judge = read_judge(file.path, file.judges, pair, options.dark)
    else:
        judge = judge_alone(known, name, pair, options.dark)
    if os.fspath(checkpoint).startswith(DEMO_PREFIX) and cfg.DATA.INPUT != "pose":
        judge = replace(NEVER, dark=options.dark)
    return Predictor(
        name=name,
        model=model.eval(),
        evaluator=build_evaluator(cfg, device),
        input=taken,
        make_batches=functools.partial(build_batches, cfg, options.workers),
        pair=pair,
        short_side=cfg.DATA.DECODE_SHORT_SIDE,
        color=cfg.DATA.COLOR,
        limits=limits_of(cfg),
        class_names=class_names,
        about={**build_about(cfg, file, pair), **taken.about, **about_stream(stream)},
        adapter=_build_adapter(cfg, options.adapter),
        judge=judge,
        known=known,
        stream=stream,
    )


def _build_input(cfg: CfgNode, pair: tuple[int, int], dark: bool) -> ModelInput:
    if cfg.DATA.INPUT == "pose":
        return build_pose_input(cfg, pair, dark)
    return build_picture_input(cfg, pair, dark)


def _build_adapter(cfg: CfgNode, name: str) -> Adapter:
    if name == ONLINE:
        # It works during the prediction, not before.
        return NoAdapter()
    if cfg.DATA.INPUT == "pose" and name != NoAdapter.name:
        return NoAdapter(NO_LIGHT)
    cfg = cfg.clone()
    cfg.defrost()
    # Training adapted to clips of its own. Here the caller says whether and how.
    cfg.ADAPT.NAME = name
    return build_adapter(cfg, ADAPT_HINT)


def build_batches(
    cfg: CfgNode, workers: int, dataset: ClipDataset, sampler: ChunkSampler
) -> DataLoader[Any]:
    """Build the batches of a dataset, one video each.

    Args:
        cfg: the configuration.
        workers: decoding processes.
        dataset: the videos.
        sampler: their order.
    """
    cfg = cfg.clone()
    cfg.defrost()
    # Training uses as many processes as its machine had. Here the caller knows better.
    # The process that finds poses belongs to this one.
    cfg.DATA_LOADER.NUM_WORKERS = 0 if cfg.DATA.INPUT == "pose" else workers
    return build_loader(cfg, dataset, sampler, keep_samples, persistent=False)


def build_about(cfg: CfgNode, file: WeightsFile, pair: tuple[int, int]) -> dict[str, Any]:
    """Return plain values that identify a model.

    Args:
        cfg: configuration of the trained model.
        file: its weights.
        pair: temporal views and spatial crops.
    """
    return {
        "model": cfg.MODEL.NAME,
        "checkpoint_sha256": file.sha256,
        "config_hash": file.config_hash,
        "labels": file.labels or ORACLE,
        "views": pair[0],
        "crops": pair[1],
        "view_rule": cfg.TEST.VIEWS,
        "num_frames": cfg.DATA.NUM_FRAMES,
        "ensemble_method": cfg.TEST.ENSEMBLE_METHOD,
        "precision": cfg.MODEL.PRECISION,
    }
