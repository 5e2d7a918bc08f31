"""Plan: the tasks of a recipe in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nightcrawler.prepare.folders import scan_folder
from nightcrawler.prepare.lists import Tree, plan_tree
from nightcrawler.prepare.recordings import recording_rule
from nightcrawler.prepare.write import check_places, folders_to_link, refuse_nested
from nightcrawler.pseudo.results_metadata import label_use
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.jobs import PlanOptions, TrainingJob, TrainingJobs
from nightcrawler.workflow.label_tasks import PlannedTask, plan_labels, plan_vote, vote_path
from nightcrawler.workflow.recipe import Recipe
from nightcrawler.workflow.stopping import Stop, find_stop
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.training_tasks import (
    ResultsRequest,
    data_task,
    group_requests,
    test_tasks,
    train_task,
)

# Every experiment is tested with one view and one crop on the recipe's `TEST.SPLITS`.
ONE_VIEW = (1, 1)


def make_plan(recipe: Recipe, options: PlanOptions) -> tuple[list[Task], dict[str, Any]]:
    """Return the tasks of a recipe in order, and facts about the whole for `pipeline.json`.

    Example:
        recipe = read_recipe(Path("configs/pipeline/demo.yaml"), root)
        tasks, about = make_plan(recipe, PlanOptions(root, out=out, state=out))

    Raises:
        UserError: If the recipe does not fit the experiments, the data or the other recipes that
            it names.
    """
    tree = read_tree(recipe)
    jobs = TrainingJobs(recipe, options, tree)
    labels = {stage.name: plan_labels(stage, jobs) for stage in recipe.stages if stage.labels}
    stop = find_stop(jobs)
    # The labels that moved too little are the last that are made.
    made = recipe.stages
    trained = recipe.stages
    if stop is not None:
        trained = recipe.stages[: recipe.stages.index(stop.stage)]
        made = (*trained, stop.stage)
    vote = plan_vote(jobs, trained) if recipe.vote_split else None
    planned = [one for name, one in labels.items() if name in {stage.name for stage in made}]
    if vote is not None:
        planned.append(vote)
    trainings = [*jobs.by_name.values(), *jobs.controls()]
    trainings = [job for job in trainings if job.stage in trained]
    requests: list[ResultsRequest] = []
    for one in planned:
        requests += one.requests
    for job in trainings:
        requests += [ResultsRequest(job.name, split, ONE_VIEW) for split in recipe.splits]
    ceilings = jobs.ceilings(trained)
    measured = [split for split in dict.fromkeys([*recipe.splits, recipe.vote_split]) if split]
    for job in ceilings:
        requests += [ResultsRequest(job.name, split, ONE_VIEW) for split in measured]
    # Grouped at last, since a test computes the views of all tasks that read its split.
    pairs_of = group_requests(requests)

    tasks: list[Task] = []
    if tree is not None:
        tasks.append(data_task(recipe, tree, options))
    for stage in made:
        if stage.labels:
            tasks.append(labels[stage.name].task)
        of_stage = [job for job in trainings if job.stage is stage]
        tasks += _training_tasks(of_stage, pairs_of, options)
    if vote is not None:
        tasks.append(vote.task)
    # Last, as nothing is made from them.
    tasks += _training_tasks(ceilings, pairs_of, options)
    tasks = [replace(task, resources=recipe.resources.of(task.kind)) for task in tasks]
    notes = [*tree.plan.notes] if tree is not None else []
    return tasks, {**_about(jobs, planned, stop), "notes": [*notes, *jobs.missing_weights.values()]}


def _training_tasks(
    trainings: Sequence[TrainingJob],
    pairs_of: Mapping[str, Mapping[str, Sequence[tuple[int, int]]]],
    options: PlanOptions,
) -> list[Task]:
    """Return the tasks that train and test, one training after the other."""
    tasks = []
    for job in trainings:
        tasks.append(train_task(job, options))
        tasks += test_tasks(job, pairs_of.get(job.name, {}), options)
    return tasks


def _about(jobs: TrainingJobs, planned: list[PlannedTask], stop: Stop | None) -> dict[str, Any]:
    """Return facts about the whole pipeline."""
    recipe = jobs.recipe
    options = jobs.options
    first = jobs.first.experiment
    stages = []
    for stage in recipe.stages:
        entry = {
            "name": stage.name,
            "round": stage.round,
            "models": list(stage.models),
            "in_chain": stage.in_chain,
            "labels": stage.labels,
            "pseudo": options.shown(jobs.csv(stage)) if stage.labels else "",
        }
        stages.append(entry)
    # One choice by labels of dark clips makes the whole pipeline an oracle's.
    uses = [job.experiment.labels for job in jobs.by_name.values()]
    uses += [one.labels for one in planned if one.labels]
    return {
        "recipe": options.shown(recipe.path),
        "labels": label_use([], *uses),
        "out": options.shown(options.out),
        "data": options.shown(first.prefix),
        "class_names": list(first.class_names),
        "models": list(recipe.models),
        "stages": stages,
        "unlabelled": recipe.unlabelled,
        "test_splits": list(recipe.splits),
        "vote_split": recipe.vote_split,
        "vote_recipe": options.shown(vote_path(jobs)) if recipe.vote_split else "",
        "control": list(options.control),
        "stop_below": recipe.stop_below,
        "stopped": str(stop) if stop is not None else "",
    }


def read_tree(recipe: Recipe) -> Tree | None:
    """Return the lists of the user's own videos, `None` for a recipe without.

    Raises:
        UserError: If a folder does not exist, is not laid out as expected, or does not go with the
            others.
    """
    own = recipe.own_data
    if own is None:
        return None
    assert recipe.data_folder is not None
    for folder in (own.bright, own.dark):
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder (DATA of {recipe.path}, or --bright and --dark)"
            )
    refuse_nested(own.bright, own.dark, recipe.data_folder, ("--bright", "--dark", "--data"))
    tree = plan_tree(
        scan_folder(own.bright),
        scan_folder(own.dark),
        own.val_fraction,
        own.seed,
        recording_rule(own.recordings),
    )
    # Links alone: copies of the videos may be there since an earlier `nightcrawler prepare tree`.
    places = folders_to_link(tree, own.bright, own.dark, recipe.data_folder)
    linked = [pair for pair in places if pair[1].is_symlink()]
    check_places(linked, copy=False, advice="give other videos another folder by --data DIR")
    return tree
