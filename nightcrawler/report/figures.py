"""Figures of a run as plain values: the content of `report.json`, which the page and table show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nightcrawler import __version__
from nightcrawler.report import measures
from nightcrawler.report.camera_figures import camera_figures
from nightcrawler.report.focus import MeasureBrightness, choose_focus, focus_figures
from nightcrawler.report.measures import TopPredictions
from nightcrawler.report.metadata import figure_metadata, without_folder
from nightcrawler.report.pseudo_figures import pseudo_figures
from nightcrawler.report.run_folder import TASKS, RunFolder, SplitResults
from nightcrawler.report.run_predictions import RunPredictions, join_seeds, joint_use
from nightcrawler.report.story import gain_over_control, story
from nightcrawler.report.unsure import least_sure
from nightcrawler.workflow.task_state import DONE

# Keys of a task that the report shows.
TASK_KEYS = ("name", "kind", "status", "reason", "seconds")


def collect(run: RunFolder, measure_brightness: MeasureBrightness | None = None) -> dict[str, Any]:
    """Collect the figures of a run as values that JSON can hold.

    Args:
        run: the folder.
        measure_brightness: returns the brightness of a split's clips. `None` leaves the accuracy by
            brightness out.

    Raises:
        UserError: if a file of the run is damaged.

    Example:
        >>> figures = collect(RunFolder(Path("demo/run"), Path.cwd()))
        >>> figures["splits"][0]["stages"][-1]["ensemble"]["percent"]
    """
    predictions = RunPredictions(run)
    splits = []
    for split in predictions.splits():
        found = split_figures(run, predictions, split)
        if found is not None:
            splits.append(found)
    # The order of these calls is the order of the notes on the page.
    pseudo, drift = pseudo_figures(run)
    focus_split = choose_focus(run, splits)
    focus = None
    steps = None
    if focus_split:
        focus = focus_figures(run, predictions, focus_split, measure_brightness)
        steps = story(run, predictions, focus_split)
        of_focus = next(split for split in splits if split["split"] == focus_split)
        steps["gain"] = gain_over_control(of_focus)
    models = list(predictions.models.values())
    return {
        "version": __version__,
        "run": run.folder.resolve().name,
        "recipe": without_folder(run.state.get("recipe", "")),
        "classes": run.class_names,
        "chance": 100 / len(run.class_names),
        "models": list(run.state["models"]),
        "control": list(run.state.get("control", [])),
        "use": joint_use(models) if models else "",
        "seeds": list(join_seeds(models)),
        "splits": splits,
        "camera": camera_figures(run.results, splits),
        "story": steps,
        "focus": focus,
        "unsure": least_sure(run, predictions),
        "pseudo": pseudo,
        "drift": drift,
        "alarms": merging_models(splits, run.state["unlabelled"]),
        "stopped": run.state.get("stopped", ""),
        # Version 0.1 called the tasks links, and its report.json must stay readable.
        TASKS: task_figures(run),
        "versions": library_versions(run.results),
        "notes": list(dict.fromkeys(run.notes)),
    }


def split_figures(run: RunFolder, predictions: RunPredictions, split: str) -> dict[str, Any] | None:
    """Return accuracy and agreement of every stage on a split, `None` if nothing was tested on it.

    Args:
        run: of the chain.
        predictions: of the run.
        split: name.

    Raises:
        UserError: if a submission is damaged, or models were tested on different videos.
    """
    stages = []
    for stage in run.stages:
        found = stage_figures(predictions, split, stage)
        if found["models"]:
            stages.append(found)
    if not stages:
        return None
    votes = []
    if run.state["vote_split"] == split:
        # The submissions of single modes come first, then their vote.
        for name, submission in predictions.submissions().items():
            votes.append({"name": name, **measures.score(submission), "use": submission.use})
    models = predictions.of_split(split)
    # Models that could not read a clip leave it out, so the longest results count.
    num_known = max(int(model.known.sum()) for model in models)
    return {
        "split": split,
        "kind": run.split_kind(split),
        "stamp": figure_metadata(run, split, models, num_known),
        "videos": max(len(model.names) for model in models),
        "stages": stages,
        "votes": votes,
    }


def stage_figures(
    predictions: RunPredictions, split: str, stage: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the accuracy of a stage's models, ensemble and controls, and the models' agreement.

    Mean, best model and ensemble are left out while a model is missing: those of some of the models
    could not be compared with other stages.

    Args:
        predictions: of the run.
        split: name.
        stage: of `pipeline.json`.

    Raises:
        UserError: if models were tested on different videos.
    """
    name = stage["name"]
    found = predictions.of_stage(split, name)
    models = _scores(found)
    controls = _scores(predictions.of_stage(split, name, control=True))
    ensemble_of_controls = predictions.ensemble(split, name, control=True)
    row: dict[str, Any] = {
        "stage": name,
        "round": stage["round"],
        "in_chain": stage["in_chain"],
        "num_models": len(stage["models"]),
        "models": models,
        "mean": None,
        "best": "",
        "ensemble": None,
        "control": controls,
        "control_mean": mean_percent(controls),
        "same_mean": None,
        "control_ensemble": _score_or_none(ensemble_of_controls),
        "agreement": None,
        "mean_agreement": None,
    }
    if set(controls) <= set(models):
        # The accuracy of exactly the models that have a control, to compare with the controls'.
        row["same_mean"] = mean_percent({model: models[model] for model in controls})
    if set(stage["models"]) <= set(models):
        row["mean"] = mean_percent(models)
        row["best"] = max(models, key=lambda model: models[model]["percent"] or 0.0, default="")
        ensemble = predictions.ensemble(split, name)
        row["ensemble"] = _score_or_none(ensemble)
        if ensemble and all(one.names == ensemble.names for one in found.values()):
            row["agreement"] = measures.agreement(list(found.values()))
            row["mean_agreement"] = measures.mean_agreement(row["agreement"])
    return row


def _scores(found: Mapping[str, TopPredictions]) -> dict[str, dict[str, Any]]:
    return {name: measures.score(predictions) for name, predictions in found.items()}


def _score_or_none(predictions: TopPredictions | None) -> dict[str, Any] | None:
    return measures.score(predictions) if predictions else None


def mean_percent(scores: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Return the mean accuracy of models, `None` if there is none or one is unknown.

    Args:
        scores: model to its accuracy, as `measures.share` returns it.
    """
    # The mean of the other models would look like that of all.
    percents = [score["percent"] for score in scores.values()]
    if not percents or None in percents:
        return None
    return float(np.mean(percents))


def merging_models(splits: Sequence[Mapping[str, Any]], unlabelled: str) -> list[str]:
    """Return an alarm, in words, where models of later rounds say the same, else nothing.

    Args:
        splits: figures of `split_figures`.
        unlabelled: split that is pseudo-labelled, whose true classes are not needed.
    """
    stages = []
    for split in splits:
        if split["split"] == unlabelled:
            for stage in split["stages"]:
                if stage["in_chain"] and stage["mean_agreement"] is not None:
                    stages.append(stage)
    if len(stages) < 2:
        return []
    first, last = stages[0], stages[-1]
    if not measures.merged(first["mean_agreement"], last["mean_agreement"]):
        return []
    return [
        f"The models merge: two of {last['stage']} agree on {last['mean_agreement']:.0f} % of the "
        f"clips of {unlabelled}, two of {first['stage']} on {first['mean_agreement']:.0f} %. A "
        "mixture of models that say the same gains little, and their errors stay."
    ]


def task_figures(run: RunFolder) -> list[dict[str, Any]]:
    """Return name, kind, status, reason, seconds and stage of every task."""
    rows = []
    for task in run.state[TASKS]:
        row = {key: task.get(key) for key in TASK_KEYS}
        rows.append({**row, "stage": task.get("stage", "")})
    return rows


def unfinished_tasks(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the tasks that are not done.

    Args:
        figures: of `collect`.
    """
    return [task for task in figures[TASKS] if task["status"] != DONE]


def library_versions(results: Sequence[SplitResults]) -> dict[str, list[str]]:
    """Return library to the versions that results were made with."""
    found: dict[str, set[str]] = {}
    for one in results:
        versions = one.predictions.meta.get("versions", {})
        # Results files may come from elsewhere, with anything under this key.
        if not isinstance(versions, dict):
            continue
        for name, version in versions.items():
            found.setdefault(str(name), set()).add(str(version))
    return {name: sorted(versions) for name, versions in found.items()}
