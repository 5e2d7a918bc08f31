"""Answers in classes that the user names, by models that compare videos with sentences."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from fvcore.common.config import CfgNode
from torch import Tensor

from nightcrawler.config.load import load_experiment, recorded_defaults
from nightcrawler.data.build_clips import build_view_sampler
from nightcrawler.data.build_video import limits_of
from nightcrawler.data.dataset import MultiViewClips
from nightcrawler.data.lowlight.enhance.build import Enhance
from nightcrawler.download.hub_folder import HUB_FAMILY, weights_sha256
from nightcrawler.engine.build import build_evaluator
from nightcrawler.models.open_vocabulary import OpenVocabulary, TextModel, open_vocabulary
from nightcrawler.predict.checkpoints import PREDICT_OVERRIDES, PredictOptions
from nightcrawler.predict.ensemble import Ensemble, plain_recipe, short_names
from nightcrawler.predict.model_input import build_picture_input
from nightcrawler.predict.predictor import Predictor, build_batches
from nightcrawler.predict.trust import Judge
from nightcrawler.pseudo.results_metadata import LABEL_FREE
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.project import packaged_root

DEFAULT_MODEL = "microsoft/xclip-base-patch32"
DEFAULT_PROMPT = "a video of a person who {}"
PLACE = "{}"
# Each is a sentence that the model reads.
MOST_LABELS = 1000
SHOWN_CHARS = 200
# Models by name may be written as addresses of the hub.
_PREFIXES = (HUB_FAMILY, "hf://")
BASE = "configs/base.yaml"


def parse_labels(text: str, where: str = "--labels") -> tuple[str, ...]:
    """Return the classes of a list that commas separate.

    Args:
        text: such as `fall,walk,sit`.
        where: what the list is called in errors.

    Raises:
        UserError: if there are fewer than two or too many, or one is empty or given twice.
    """
    labels = tuple(label.strip() for label in text.split(","))
    shown = text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."
    check_labels(labels, f"{where} '{shown}'")
    return labels


def check_labels(labels: Sequence[str], where: str) -> None:
    """Refuse classes that no answer can be chosen from.

    Args:
        labels: names of the classes.
        where: what they are called in errors.

    Raises:
        UserError: if there are fewer than two or too many, or one is empty or given twice.
    """
    if len(labels) > MOST_LABELS:
        raise UserError(f"{where}: {len(labels)} classes, expected {MOST_LABELS} or fewer")
    if "" in labels or len(labels) < 2:
        raise UserError(f"{where}: expected two classes or more, such as 'fall,walk,sit'")
    seen = set()
    for label in labels:
        if label in seen:
            # They would share one probability.
            raise UserError(f"{where}: '{label}' is given twice")
        seen.add(label)


def sentences_of(labels: Sequence[str], prompt: str) -> list[str]:
    """Return a sentence for each class.

    Args:
        labels: names of the classes.
        prompt: sentence with `{}` in the place of a class.

    Raises:
        UserError: if the prompt has not one such place.

    Example:
        >>> sentences_of(["falls", "walks"], "a video of a person who {}")
        ['a video of a person who falls', 'a video of a person who walks']
    """
    if prompt.count(PLACE) != 1:
        raise UserError(f"prompt '{prompt}': expected one {PLACE} in the place of the class")
    return [prompt.replace(PLACE, label) for label in labels]


def build_open_vocabulary(
    models: Sequence[str], labels: Sequence[str], prompt: str, options: PredictOptions
) -> Ensemble:
    """Build models that answer in classes given by name.

    Args:
        models: folders or names of the hub, see `models.open_vocabulary.open_vocabulary`. Empty
            takes `DEFAULT_MODEL`.
        labels: names of the K classes.
        prompt: see `sentences_of`.
        options: settings that differ from testing.

    Raises:
        UserError: if a model cannot be had or read, or the prompt is no template.
    """
    names = [_plain_name(model) for model in models or (DEFAULT_MODEL,)]
    sentences = sentences_of(labels, prompt)
    predictors = []
    for name, short in zip(names, short_names(names), strict=True):
        predictors.append(_build_predictor(name, short, labels, sentences, options))
    return Ensemble(predictors, plain_recipe(len(predictors)), Judge(dark=options.dark))


def reworded(ensemble: Ensemble, labels: Sequence[str], prompt: str) -> Ensemble:
    """Return models of `build_open_vocabulary` that answer in other classes.

    Args:
        ensemble: the models, which stay as they are.
        labels: names of the K classes.
        prompt: see `sentences_of`.

    Raises:
        UserError: if a sentence is longer than a model reads.
    """
    sentences = sentences_of(labels, prompt)
    predictors = []
    for predictor in ensemble.predictors:
        assert isinstance(predictor.model, OpenVocabulary)
        predictors.append(
            replace(
                predictor,
                model=predictor.model.reworded(sentences),
                class_names=tuple(labels),
                about={**predictor.about, "prompts": sentences},
            )
        )
    return replace(ensemble, predictors=predictors)


def _plain_name(model: str) -> str:
    # A folder that is there comes before the hub, whatever its name begins with.
    if Path(model).is_dir():
        return model
    for prefix in _PREFIXES:
        model = model.removeprefix(prefix)
    return model


def _build_predictor(
    name: str, short: str, labels: Sequence[str], sentences: list[str], options: PredictOptions
) -> Predictor:
    found = open_vocabulary(name, sentences)
    cfg = _build_config(labels, found.num_frames, options)
    device = distributed.choose_device(cfg.DEVICE)
    # The folder's processor takes the middle of each picture.
    pair = (options.pair[0] if options.pair else 1, 1)
    taken = build_picture_input(cfg, pair, options.dark)
    clips = MultiViewClips(
        build_view_sampler(cfg),
        functools.partial(_crops, found=found, enhance=taken.enhance),
        [pair],
    )
    return Predictor(
        name=short,
        model=found.model.to(device),
        evaluator=build_evaluator(cfg, device),
        input=replace(taken, clip_builder=clips),
        make_batches=functools.partial(build_batches, cfg, options.workers),
        pair=pair,
        short_side=cfg.DATA.DECODE_SHORT_SIDE,
        color=cfg.DATA.COLOR,
        limits=limits_of(cfg),
        class_names=tuple(labels),
        about={
            "model": name,
            "checkpoint_sha256": weights_sha256(found.folder),
            # Labels of dark clips chose neither its weights nor its sentences.
            "labels": LABEL_FREE,
            "prompts": sentences,
            "views": pair[0],
            "crops": pair[1],
            "num_frames": found.num_frames,
            "enhancement": taken.about["enhancement"],
            "gammas": taken.about["gammas"],
        },
        judge=Judge(dark=options.dark),
    )


def _crops(frames: np.ndarray, num_crops: int, *, found: TextModel, enhance: Enhance) -> Tensor:
    """Return the clip of frames uint8 `[T, H, W, 3]`, float32 `[1, 3, T, h, w]`."""
    assert num_crops == 1, num_crops
    # Lit at full size: scaling down first would average dark levels that are then stretched.
    return torch.stack([found.prepare(enhance(frames))])


def _build_config(labels: Sequence[str], num_frames: int, options: PredictOptions) -> CfgNode:
    """Build the configuration of decoding, light and batches."""
    values = {
        "MODEL.NUM_CLASSES": json.dumps(len(labels)),
        "MODEL.CLASS_NAMES": json.dumps(list(labels)),
        "DATA.NUM_FRAMES": json.dumps(num_frames),
        "DATA.COLOR": "exact",
        "DEVICE": options.device,
    }
    if options.max_pixels is not None:
        values["DATA.MAX_PIXELS"] = json.dumps(options.max_pixels)
    # Sizes and normalisation of the configuration are not used: the processor has its own.
    overrides = list(PREDICT_OVERRIDES)
    for key, value in values.items():
        overrides += [key, value]
    path = packaged_root() / BASE
    return load_experiment(path, overrides=overrides, defaults=recorded_defaults())
