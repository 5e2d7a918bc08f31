"""Predict with an exported `model.onnx`: frames, views and averages are those of its checkpoint."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from fvcore.common.config import CfgNode

from nightcrawler.data.build import view_crop_pairs_of
from nightcrawler.data.build_video import build_video_reader, limits_of
from nightcrawler.data.video.decode import MemoryReader, VideoReader
from nightcrawler.engine.evaluator import Evaluator
from nightcrawler.models.formats import WeightsFile
from nightcrawler.models.zoo import check_weights
from nightcrawler.predict.calibrate import read_judge
from nightcrawler.predict.checkpoints import (
    PredictOptions,
    build_trained_config,
    find_checkpoint,
)
from nightcrawler.predict.graph_input import (
    FrameSize,
    build_camera_reader,
    build_frames_maker,
)
from nightcrawler.predict.model_input import FrameSpan, ModelInput, build_picture_input
from nightcrawler.predict.onnx_file import LogProbs, open_onnx_file
from nightcrawler.predict.predictor import (
    Predictor,
    build_about,
    build_batches,
    build_predictor,
)
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import sha256_file
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

ONNX_SUFFIX = ".onnx"
NO_ENHANCEMENT = "none"


def build_any_predictor(
    model: str | os.PathLike[str],
    name: str,
    pair: tuple[int, int] | None,
    options: PredictOptions,
) -> Predictor:
    """Build a model from an experiment folder, a checkpoint, or an exported ONNX file.

    Args:
        model: see `predict.checkpoints.find_checkpoint`.
        name: name of the model in tables.
        pair: views and crops of a recipe. None leaves them to the checkpoint.
        options: settings that differ from testing. Their `pair` has precedence.

    Raises:
        UserError: if there is no such file, or it is incomplete.
    """
    # The name may be that of a download, whose suffix only its file tells.
    path = find_checkpoint(model)
    if path.suffix.lower() != ONNX_SUFFIX:
        return build_predictor(model, name, pair, options)
    sha256 = sha256_file(path)
    # A name promises a file, which may be damaged or exchanged.
    if path != Path(os.fspath(model)):
        check_weights(os.fspath(model), sha256)
    return _build_exported(path, sha256, name, options.pair or pair, options)


def _build_exported(
    path: Path, sha256: str, name: str, pair: tuple[int, int] | None, options: PredictOptions
) -> Predictor:
    file = open_onnx_file(path)
    dark = _check_options(path, file.about, pair, options)
    # The weights are in the graph. The rest is read as that of a checkpoint, which it came from.
    weights = WeightsFile(
        path,
        sha256,
        None,
        {},
        config_text=file.about["cfg"],
        config_hash=file.about.get("config_hash", ""),
        labels=file.about.get("labels", ""),
    )
    cfg = build_trained_config(weights, options)
    if pair is None:
        pair = view_crop_pairs_of(cfg)[0]
        if pair[1] != 1:
            logger.warning("%s: predicts the centre crop, and not %d crops", path, pair[1])
            pair = (pair[0], 1)
    size = _frame_size(path, file.about, cfg.DATA.NUM_FRAMES)
    taken = _build_input(cfg, pair, size, dark)
    # A graph for one size of frames scales them down itself.
    short_side = cfg.DATA.DECODE_SHORT_SIDE if size == (None, None) else 0
    return Predictor(
        name=name,
        model=LogProbs(file.run).eval(),
        # One clip at a time, as `nightcrawler export --check` compares them.
        evaluator=Evaluator(1, torch.device("cpu")),
        input=taken,
        make_batches=functools.partial(build_batches, cfg, options.workers),
        pair=pair,
        short_side=short_side,
        color=cfg.DATA.COLOR,
        limits=limits_of(cfg),
        class_names=tuple(cfg.MODEL.CLASS_NAMES),
        about={**build_about(cfg, weights, pair), **taken.about, "runtime": "onnx"},
        judge=read_judge(path, file.about.get("judges", ""), pair, dark),
    )


def _check_options(
    path: Path, about: Mapping[str, str], pair: tuple[int, int] | None, options: PredictOptions
) -> bool:
    """Refuse options that a graph cannot follow, and return whether it enhances frames.

    Raises:
        UserError: naming the option.
    """
    if "cfg" not in about:
        raise UserError(
            f"{path}: holds no configuration, as files of version 0.1 and of other programs: "
            "export the model again"
        )
    if options.adapter != "none":
        raise UserError(
            f"{path}: an exported model cannot be adapted: leave --adapt out, or name its "
            "checkpoint"
        )
    if pair is not None and pair[1] != 1:
        raise UserError(
            f"{path}: an exported model has the centre crop only: give --crops 1, or name its "
            "checkpoint"
        )
    is_enhancing = about.get("enhancement", NO_ENHANCEMENT) != NO_ENHANCEMENT
    if is_enhancing and not options.dark:
        raise UserError(
            f"{path}: the enhancement is part of the graph: leave --bright out, or export the "
            "model with --bright"
        )
    return is_enhancing


def _frame_size(path: Path, about: Mapping[str, str], num_frames: int) -> FrameSize:
    """Return height and width of the graph's frames, None for any.

    Raises:
        UserError: if the metadata do not fit to each other.
    """
    try:
        length, height, width, _ = json.loads(about["frame_shape"])
    except (KeyError, ValueError, TypeError, RecursionError):
        # Anyone may have written the metadata.
        length = height = width = None
    if length != num_frames:
        raise UserError(
            f"{path}: its frame_shape is {about.get('frame_shape')}, expected clips of "
            f"{num_frames} frames: export the model again"
        )
    return height, width


def _build_input(cfg: CfgNode, pair: tuple[int, int], size: FrameSize, dark: bool) -> ModelInput:
    """Build the input of a graph, which enhances, crops and normalises frames itself."""
    reader = build_video_reader(cfg) if size == (None, None) else build_camera_reader(cfg)
    return dataclasses.replace(
        build_picture_input(cfg, pair, dark),
        reader=reader,
        read_span=_read_span,
        clip_builder=build_frames_maker(cfg, size, pair[0]),
    )


def _read_span(span: FrameSpan) -> VideoReader:
    return MemoryReader(span.frames)
