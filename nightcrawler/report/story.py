"""The method's gain on dark clips, step by step: raw, lit, adapted, rounds, vote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nightcrawler.pseudo.predictions import read_results
from nightcrawler.report import measures
from nightcrawler.report.measures import TopPredictions
from nightcrawler.report.metadata import figure_metadata
from nightcrawler.report.run_folder import RunFolder, SplitResults
from nightcrawler.report.run_predictions import RunPredictions
from nightcrawler.report.titles import stage_titles, train_same_models
from nightcrawler.workflow.recipe_file import CEILING

# Folders of tests beside the chain, one folder for each model, with their title and meaning. Those
# that are not there are left out.
RAW = ("source_none", "raw", "models of normal light, clips as they were filmed")
LIT = ("source_gamma", "lit", "the same models, clips enhanced")
CEILING_ROW = (
    CEILING,
    "ceiling",
    "trained on the true labels of dark clips: no method without them",
)
ADAPTED = "adapted to the unlabelled dark clips"
ROUND = "trained on the pseudo-labels of the step before"
# Of chains whose stages train different models.
FIRST = "trained without pseudo-labels"
TAUGHT = "trained on the pseudo-labels that other models gave"
VOTE = "all models that the recipe of the vote names, mixed as it says"


def story(run: RunFolder, predictions: RunPredictions, split: str) -> dict[str, Any]:
    """Return the accuracy of each step on a split, and of each class.

    Args:
        run: of the chain.
        predictions: of the run.
        split: whose true classes are known.

    Returns:
        `split`, `steps` (rows of `name`, `meaning`, `accuracy`, `use` of labels, and `change`
        against the step before), `ceiling` (such a row, or `None`), `classes` (rows of recalls),
        and the metadata `stamp`.

    Raises:
        UserError: if a file of results is damaged.
    """
    found = _steps(run, predictions, split)
    steps: list[dict[str, Any]] = []
    for name, meaning, one in found:
        row = _row(name, meaning, one)
        percents = (steps[-1]["accuracy"]["percent"] if steps else None, row["accuracy"]["percent"])
        row["change"] = None if None in percents else percents[1] - percents[0]
        steps.append(row)
    folder, name, meaning = CEILING_ROW
    labelled = mean_beside(run, predictions, folder, split)
    ceiling = None if labelled is None else _row(name, meaning, labelled)
    parts = [one for _, _, one in found]
    num_known = max(int(one.known.sum()) for one in parts)
    return {
        "split": split,
        "steps": steps,
        "ceiling": ceiling,
        "classes": class_rows(found, len(run.class_names)),
        "stamp": figure_metadata(run, split, parts, num_known),
    }


def _row(name: str, meaning: str, one: TopPredictions) -> dict[str, Any]:
    return {"name": name, "meaning": meaning, "accuracy": measures.score(one), "use": one.use}


def _steps(
    run: RunFolder, predictions: RunPredictions, split: str
) -> list[tuple[str, str, TopPredictions]]:
    """Return title, meaning and predictions of the steps that are there, in order."""
    found = []
    for folder, name, meaning in (RAW, LIT):
        one = mean_beside(run, predictions, folder, split)
        if one is not None:
            found.append((name, meaning, one))
    titles = stage_titles(run.stages)
    same = train_same_models(run.stages)
    without_labels, with_labels = (ADAPTED, ROUND) if same else (FIRST, TAUGHT)
    for stage in run.stages:
        models = predictions.of_stage(split, stage["name"])
        # An ensemble of some of the models could not be compared with other steps.
        if not models or not stage["in_chain"] or not set(stage["models"]) <= set(models):
            continue
        ensemble = predictions.ensemble(split, stage["name"]) or next(iter(models.values()))
        meaning = with_labels if stage["round"] else without_labels
        found.append((titles[stage["name"]], meaning, ensemble))
    if run.state["vote_split"] == split:
        votes = list(predictions.submissions().values())
        if votes:
            found.append(("vote", VOTE, votes[-1]))
    if not found:
        first = predictions.of_split(split)[0]
        found.append(("first model", "the first that was tested", first))
    return found


def mean_beside(
    run: RunFolder, predictions: RunPredictions, folder: str, split: str
) -> TopPredictions | None:
    """Return the mean of tests in a folder beside the chain, `None` if it has none on a split.

    Args:
        run: of the chain.
        predictions: of the run.
        folder: inside the run's, with one folder for each model.
        split: name.

    Raises:
        UserError: if a file of results is damaged.
    """
    found = []
    for place in sorted((run.folder / folder).glob("*/")):
        for path in sorted([*place.glob(f"{split}x*.npz"), *place.glob(f"{split}x*.pkl")])[:1]:
            results = read_results(path)
            if not run.is_origin(path, results, split):
                continue
            if results.probs.shape[1] == len(run.class_names):
                found.append(SplitResults(folder, place.name, False, split, path, results))
            else:
                run.notes.append(f"{folder}/{place.name}: of another number of classes, left out")
    return predictions.mean(found) if found else None


def class_rows(
    steps: list[tuple[str, str, TopPredictions]], num_classes: int
) -> list[dict[str, Any]]:
    """Return the recall of each class at each step, and its most frequent mistake.

    Args:
        steps: title, meaning and predictions of each step.
        num_classes: K.

    Returns:
        For each class its number of `clips`, `recalls` by step as `measures.share` does, and
        `taken_for`: class and number of clips of the last step's most frequent mistake, or `None`.
    """
    rows = []
    last = steps[-1][2]
    for label in range(num_classes):
        recalls = []
        for _, _, one in steps:
            here = one.labels == label
            recalls.append(measures.share(int(one.hits[here].sum()), int(here.sum())))
        wrong = (last.labels == label) & (last.classes >= 0) & ~last.hits
        counts = np.bincount(last.classes[wrong], minlength=num_classes)
        taken_for = None
        if counts.any():
            taken_for = [int(counts.argmax()), int(counts.max())]
        clips = int((last.labels == label).sum())
        rows.append({"clips": clips, "recalls": recalls, "taken_for": taken_for})
    return rows


def gain_over_control(split: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the gain by pseudo-labels in the last round that has controls.

    Args:
        split: figures of a split, of `figures.split_figures`.

    Returns:
        The `stage`, its `models` that have a control, the mean accuracies `with` and `without`
        pseudo-labels, and the `gain` in points. `None` without a control.
    """
    for stage in reversed(split["stages"]):
        if stage["control_mean"] is not None and stage["same_mean"] is not None:
            return {
                "stage": stage["stage"],
                "models": list(stage["control"]),
                "with": stage["same_mean"],
                "without": stage["control_mean"],
                "gain": stage["same_mean"] - stage["control_mean"],
            }
    return None
