"""Tasks that make pseudo-labels and the final vote from results files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nightcrawler.pseudo.label_recipe import LabelRecipe, read_label_recipe
from nightcrawler.pseudo.results_metadata import ORACLE_SPLIT
from nightcrawler.pseudo.submission import submission_file
from nightcrawler.pseudo.thresholds import LABELLED
from nightcrawler.pseudo.vote_recipe import VoteRecipe, read_vote_recipe
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.commands import program
from nightcrawler.workflow.jobs import PlanOptions, TrainingJob, TrainingJobs
from nightcrawler.workflow.recipe import Stage
from nightcrawler.workflow.recipe_text import recipe_text
from nightcrawler.workflow.task import Task, digest
from nightcrawler.workflow.training_tasks import ResultsRequest

# Folder of the vote, in the run.
SUBMISSION = "submission"
EQUAL_VOTE = {
    "ENSEMBLE": {"SCORES": "probs", "WEIGHTS": "equal", "NORMALIZE": True},
    "VOTE": {"TIE": "probability"},
}


@dataclass(frozen=True)
class PlannedTask:
    """Task together with the tests that it needs.

    Attributes:
        task: The task.
        requests: Tests whose results it reads.
        labels: `label-free` or `oracle`: use of labels of dark clips by its recipe, empty for a
            recipe that the pipeline writes itself.
    """

    task: Task
    requests: tuple[ResultsRequest, ...]
    labels: str = ""


def plan_labels(stage: Stage, jobs: TrainingJobs) -> PlannedTask:
    """Plan the pseudo-labels made before a stage, by the models that label for it.

    Raises:
        UserError: If the recipe cannot be read, or is for other models or classes.
    """
    options = jobs.options
    split = jobs.recipe.unlabelled
    path = options.root / stage.labels
    recipe = read_label_recipe(path)
    _check_classes(path, recipe, jobs)
    labellers = {job.model: job for job in jobs.labellers(stage)}
    if len(labellers) < len(jobs.labellers(stage)):
        # Several stages train the same model: only full names tell them apart.
        labellers = {job.name: job for job in jobs.labellers(stage)}
    # The order of the models is that of the weights in the recipe.
    models, pairs = _models_of(path, recipe, list(labellers))
    sources = [(labellers[model], pair) for model, pair in zip(models, pairs, strict=True)]
    found = {job.name: job.results_file(split, pair) for job, pair in sources}
    requests = [ResultsRequest(job.name, split, pair) for job, pair in sources]
    csv = jobs.csv(stage)
    arguments = [str(stage.round), "--recipe", str(path)]
    arguments += ["--predictions", *map(options.shown, found.values())]
    arguments += ["--out", options.shown(csv)]
    inputs = dict(found)
    labelled = jobs.labels_before(stage)
    if labelled is not None:
        earlier = jobs.csv(labelled)
        arguments += ["--before", options.shown(earlier)]
        # Elsewhere the labels before change nothing but what is told of them.
        if recipe.calibration is not None and recipe.calibration.agree_new is not None:
            inputs["labels before"] = earlier
    if recipe.calibration is not None:
        known = _calibration_files(recipe, sources, options)
        inputs.update(known.files)
        requests += known.requests
        arguments += known.arguments
    task = Task(
        name=f"label/{stage.name}",
        kind="label",
        command=tuple(program(options.python, "label", arguments)),
        signature=digest([recipe_text(recipe), stage.round, models, options.oracle]),
        inputs=inputs,
        outputs=(csv, csv.with_suffix(".json")),
        folder=csv.parent,
        about={"round": stage.round, "stage": stage.name, "split": split},
    )
    return PlannedTask(task, tuple(requests), recipe.labels)


@dataclass(frozen=True)
class _Calibration:
    """Files by name, tests and arguments of a calibration of thresholds."""

    files: dict[str, Path]
    requests: list[ResultsRequest]
    arguments: list[str]


def _calibration_files(
    recipe: LabelRecipe,
    sources: Sequence[tuple[TrainingJob, tuple[int, int]]],
    options: PlanOptions,
) -> _Calibration:
    assert recipe.calibration is not None
    # An oracle calibrates on the labelled dark clips, otherwise darkened bright ones serve.
    split = ORACLE_SPLIT if options.oracle else recipe.calibration.split
    files: dict[str, Path] = {}
    requests = []
    arguments = ["--calibrate"]
    for job, pair in sources:
        if job.experiment.darkens and job.experiment.is_darkened(split):
            raise UserError(
                f"{job.name} trains on clips of the cameras of {split} (AUG.DARKEN), which "
                "calibrates the thresholds of its labels: set AUG.DARKEN 0, or SPLIT val_dry in "
                "the recipe"
            )
        path = job.results_file(split, pair)
        files[f"{job.name} {split}"] = path
        requests.append(ResultsRequest(job.name, split, pair))
        arguments.append(options.shown(path))
    if options.oracle:
        arguments.append("--oracle")
    if recipe.calibration.prior == LABELLED:
        experiment = sources[0][0].experiment
        files["labelled"] = experiment.list_file(experiment.train_split)
        arguments += ["--labelled", options.shown(files["labelled"])]
    return _Calibration(files, requests, arguments)


def plan_vote(jobs: TrainingJobs, trained: Sequence[Stage]) -> PlannedTask:
    """Plan the final vote: by the recipe's own vote, or by equal weights of the last models.

    Args:
        jobs: All trainings.
        trained: Stages that are trained, from the first on.

    Raises:
        UserError: If the recipe of the vote cannot be read, or is for other models or classes.
    """
    options = jobs.options
    split = jobs.recipe.vote_split
    folder = options.out / SUBMISSION
    path = vote_path(jobs)
    requests: list[ResultsRequest] = []
    writes: dict[Path, str] = {}
    labels = ""
    if jobs.recipe.vote_recipe:
        recipe = read_vote_recipe(path)
        _check_classes(path, recipe, jobs)
        for mode in recipe.modes.values():
            names = mode.ensemble.folders.values()
            for name, pair in zip(names, mode.ensemble.pairs, strict=True):
                requests.append(ResultsRequest(name, split, pair))
        modes = list(recipe.modes)
        signature = recipe_text(recipe)
        labels = recipe.labels
    else:
        last = jobs.last_rounds(jobs.recipe.vote_rounds, trained)
        # The recipe is written when the task starts, so its text stands for it in the signature.
        signature = equal_vote(last, jobs.recipe.vote_views)
        writes[path] = signature
        for pair in jobs.recipe.vote_views:
            requests += [ResultsRequest(name, split, pair) for name in last]
        modes = list(range(len(jobs.recipe.vote_views)))
    inputs: dict[str, Path] = {}
    for name, _, pair in requests:
        if name not in jobs.by_name:
            raise UserError(f"{path}: {name} is no experiment of {jobs.recipe.path}")
        inputs[f"{name} {pair[0]}x{pair[1]}"] = jobs.by_name[name].results_file(split, pair)
    arguments = ["--recipe", str(path), "--prefix", str(options.out), "--split", split]
    arguments += ["--out", str(folder)]
    about: dict[str, Any] = {"round": trained[-1].round, "split": split}
    task = Task(
        name="vote",
        kind="vote",
        command=tuple(program(options.python, "vote", arguments)),
        signature=digest([signature, split]),
        inputs=inputs,
        outputs=_vote_outputs(folder, modes),
        folder=folder,
        about=about,
        writes=writes,
        # A recipe with other modes writes files of other names.
        earlier_outputs=("arid_pred*.csv", "arid_pred*.json"),
    )
    return PlannedTask(task, tuple(requests), labels)


def vote_path(jobs: TrainingJobs) -> Path:
    """Return the recipe of the final vote: the recipe's own, or the one that the run writes.

    Args:
        jobs: All trainings.
    """
    if jobs.recipe.vote_recipe:
        return jobs.options.root / jobs.recipe.vote_recipe
    return jobs.options.out / SUBMISSION / "recipe.yaml"


def _vote_outputs(folder: Path, modes: Sequence[int]) -> tuple[Path, ...]:
    """Return the files of a vote: a submission of each mode, and that of their vote."""
    outputs = []
    for mode in (*modes, None):
        path = submission_file(folder, mode)
        outputs += [path, path.with_suffix(".json")]
    return (*outputs, folder / "predictions.csv")


def equal_vote(experiments: Sequence[str], views: Sequence[tuple[int, int]]) -> str:
    """Return a recipe of the vote, as YAML, in which all experiments weigh the same.

    Args:
        experiments: Names of trainings.
        views: (views, crops), one for each mode.
    """
    content = {
        "LABELS": "label-free",
        "MODELS": {f"m{number}": name for number, name in enumerate(experiments)},
        **EQUAL_VOTE,
        "MODES": {str(number): {"VIEWS": list(pair)} for number, pair in enumerate(views)},
    }
    return yaml.safe_dump(content, sort_keys=False)


def _models_of(
    path: Path, recipe: LabelRecipe, models: Sequence[str]
) -> tuple[list[str], tuple[tuple[int, int], ...]]:
    """Return models in the order in which a recipe mixes them, and their (views, crops).

    A recipe that names other models is accepted if it treats all models alike.
    """
    ensemble = recipe.ensemble
    named = list(ensemble.folders.values())
    if sorted(named) == sorted(models):
        return named, ensemble.pairs
    try:
        # Only an ensemble that treats its models alike can be resized.
        alike = ensemble.resized(len(named) + 1)
    except UserError:
        raise UserError(
            f"{path}: mixes {', '.join(named)} with values of their own; the pipeline has "
            f"{', '.join(models)}: give a recipe that names these, or one that treats all alike"
        ) from None
    return list(models), alike.pairs[:1] * len(models)


def _check_classes(path: Path, recipe: LabelRecipe | VoteRecipe, jobs: TrainingJobs) -> None:
    classes = jobs.first.experiment.class_names
    if recipe.classes and tuple(recipe.classes) != classes:
        raise UserError(
            f"{path}: the recipe has the classes {', '.join(recipe.classes)}; the models have "
            f"{', '.join(classes)}"
        )
