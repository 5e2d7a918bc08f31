"""Adaptation of models to the videos that are about to be predicted, without any label."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from nightcrawler.adapt.base import AdaptReport, NoAdapter, ReplayableClips
from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.ensemble import Ensemble
from nightcrawler.predict.predictor import Predictor
from nightcrawler.utils.progress import progress

# Clips that BatchNorm normalises together, and that a step of tent learns from (infomax: several).
BATCH_CLIPS = 4
# More videos change the statistics of a model little, and each is decoded once more.
MAX_VIDEOS = 200


def adapt(ensemble: Ensemble, items: Sequence[VideoItem]) -> tuple[Ensemble, list[AdaptReport]]:
    """Adapt the models of an ensemble, in place, each with its own adapter.

    Args:
        ensemble: models that were built with `PredictOptions.adapter`.
        items: videos, at most `MAX_VIDEOS` of which are taken, evenly spread over the list. An
            adapter that takes steps gets them in an order that is drawn once and for all.

    Returns:
        The ensemble, whose models say that they were adapted, and a report for each model.

    Raises:
        UserError: if no video can be read, or a model has nothing to adapt.
    """
    chosen = items[:: max(math.ceil(len(items) / MAX_VIDEOS), 1)]
    predictors = []
    reports = []
    for predictor in ensemble.predictors:
        # Names often tell the class, and steps on one class after another unlearn the others.
        ordered = _shuffled(chosen) if predictor.adapter.changes_weights else chosen
        clips = ReplayableClips(functools.partial(_batches, predictor, ordered))
        report = predictor.adapter.run(predictor.model, clips)
        reports.append(report)
        if report.adapter == NoAdapter.name:
            predictors.append(predictor)
            continue
        # TENT leaves it in training mode for its steps only, but no adapter promises that.
        predictor.model.eval()
        about = {**predictor.about, "adapter": report.adapter, "adapted_on": report.num_clips}
        predictors.append(replace(predictor, about=about))
    return replace(ensemble, predictors=predictors), reports


def _shuffled(items: Sequence[VideoItem]) -> list[VideoItem]:
    """Return the videos in an order that depends on their number alone."""
    order = np.random.default_rng(0).permutation(len(items))
    return [items[index] for index in order]


def _batches(predictor: Predictor, items: Sequence[VideoItem]) -> Iterator[Tensor]:
    """Yield the test clips of videos, float32 `[B, 3, T, H, W]` on the model's device."""
    device = predictor.evaluator.device
    waiting = torch.empty(0)
    videos = predictor.clips(items)
    for clips in progress(videos, len(items), f"adapt {predictor.name}", enabled=len(items) > 1):
        if len(clips):
            waiting = torch.cat([waiting, clips]) if len(waiting) else clips
        while len(waiting) >= BATCH_CLIPS:
            yield waiting[:BATCH_CLIPS].to(device)
            waiting = waiting[BATCH_CLIPS:]
    if len(waiting):
        yield waiting.to(device)
