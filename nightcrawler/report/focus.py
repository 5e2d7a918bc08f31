"""Figures of the split in focus: confusion, calibration, mistakes, and accuracy by brightness."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nightcrawler.report import measures
from nightcrawler.report.measures import TopPredictions
from nightcrawler.report.metadata import figure_metadata
from nightcrawler.report.run_folder import RunFolder, SplitResults
from nightcrawler.report.run_predictions import RunPredictions

MAX_MISTAKES = 20
# Kinds of splits, in ascending order of interest.
KINDS = ("darkened", "bright", "dark")

# Takes a split and names of clips. Returns the brightness of clips, the mean of their RGB values.
# Clips may be missing.
MeasureBrightness = Callable[[str, Sequence[str]], Mapping[str, float]]


def choose_focus(run: RunFolder, splits: Sequence[Mapping[str, Any]]) -> str:
    """Return the split to examine closely, empty if no true class is known.

    The split of the vote comes first, then a dark split, then any other.

    Args:
        run: of the chain.
        splits: figures of all splits.
    """
    best = ""
    best_rank = (False, -1)
    for split in splits:
        rank = (split["split"] == run.state["vote_split"], KINDS.index(split["kind"]))
        # Of equal ranks the last counts.
        if split["stamp"]["clips"] and rank >= best_rank:
            best = split["split"]
            best_rank = rank
    return best


def focus_figures(
    run: RunFolder,
    predictions: RunPredictions,
    split: str,
    measure_brightness: MeasureBrightness | None,
) -> dict[str, Any]:
    """Return confusion, calibration and mistakes of the last tested stage of the chain on a split.

    Args:
        run: of the chain.
        predictions: of the run.
        split: in focus.
        measure_brightness: returns the brightness of clips. `None` leaves the accuracy by
            brightness out.

    Raises:
        UserError: if models were tested on different videos, or a submission is damaged.
    """
    of_stages = _predictions_of_stages(run, predictions, split)
    last = list(of_stages)[-1]
    final = of_stages[last]
    models = predictions.of_stage(split, last)
    shown: dict[str, TopPredictions] = {}
    if len(models) > 1:
        shown["ensemble"] = final
    if run.state["vote_split"] == split:
        votes = list(predictions.submissions().values())
        if votes:
            shown["vote"] = votes[-1]
    shown |= models
    matrices = []
    for name, one in shown.items():
        matrices.append(
            {
                "name": name,
                "folded": name in models,
                "counts": measures.confusion(one, len(run.class_names)),
                "stamp": figure_metadata(run, split, [one], int(one.known.sum())),
            }
        )
    brightness: list[dict[str, Any]] = []
    if measure_brightness is not None:
        brightness = _accuracy_by_brightness(final, split, measure_brightness)
    num_known = int(final.known.sum())
    return {
        "split": split,
        "stage": last,
        "stamp": figure_metadata(run, split, [final, *models.values()], num_known),
        "matrices": matrices,
        "calibration": _calibrations(of_stages),
        "model_calibration": _calibrations(models),
        "mistakes": measures.mistakes(final, MAX_MISTAKES),
        "lighting": _lighting(run.results, split, last),
        "brightness": brightness,
    }


def _predictions_of_stages(
    run: RunFolder, predictions: RunPredictions, split: str
) -> dict[str, TopPredictions]:
    """Return stage to the predictions of its ensemble, or of its only model.

    While no stage of the chain is complete, the last stage with a tested model is returned.
    """
    found = {}
    tested = []
    for stage in run.stages:
        name = stage["name"]
        models = predictions.of_stage(split, name)
        if models:
            tested.append(name)
        if stage["in_chain"] and set(stage["models"]) <= set(models):
            ensemble = predictions.ensemble(split, name)
            found[name] = ensemble or next(iter(models.values()))
    if not found:
        first_model = next(iter(predictions.of_stage(split, tested[-1]).values()))
        found[tested[-1]] = first_model
    return found


def _calibrations(found: Mapping[str, TopPredictions]) -> dict[str, dict[str, Any]]:
    rows = {}
    for name, predictions in found.items():
        separation = measures.separation(predictions)
        rows[name] = {**measures.calibration(predictions), "separation": separation}
    return rows


def _accuracy_by_brightness(
    predictions: TopPredictions, split: str, measure_brightness: MeasureBrightness
) -> list[dict[str, Any]]:
    rows = np.flatnonzero(predictions.known).tolist()
    found = measure_brightness(split, [predictions.names[row] for row in rows])
    measured = []
    brightness = []
    for row in rows:
        name = predictions.names[row]
        if name in found:
            measured.append(row)
            brightness.append(found[name])
    return measures.by_brightness(np.array(brightness), predictions.hits[measured])


def _lighting(results: Sequence[SplitResults], split: str, stage: str) -> dict[str, Any]:
    """Return enhancement and gamma of a stage's tests on a split, as its first results tell."""
    for one in results:
        if (one.split, one.stage, one.control) == (split, stage, False):
            meta = one.predictions.meta
            return {"enhancement": meta.get("enhancement", "none"), "gamma": meta.get("gamma")}
    return {}
