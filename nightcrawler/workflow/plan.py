"""From a recipe to links: trainings, tests, pseudo-labels, the vote, and the controls beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from nightcrawler.prepare.folders import scan_folder
from nightcrawler.prepare.lists import Tree, plan_tree
from nightcrawler.pseudo.command import ORACLE_SPLIT
from nightcrawler.pseudo.label_recipe import LabelRecipe, read_label_recipe
from nightcrawler.pseudo.results_files import label_use
from nightcrawler.pseudo.thresholds import LABELLED
from nightcrawler.pseudo.vote_recipe import VoteRecipe, read_vote_recipe
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.experiment import BEST
from nightcrawler.workflow.jobs import Options, TrainingJob, TrainingJobs, net_command
from nightcrawler.workflow.recipe import Recipe, Stage
from nightcrawler.workflow.task import Task, digest

ONE_VIEW = (1, 1)
EXIT_BAD_VIDEOS = 3
# What a training leaves beside its checkpoint.
LEFTOVERS = (
    *(
        "DONE",
        "PREEMPTED",
        "checkpoints",
        f"{BEST}.sha256",
        "metrics.jsonl",
        "bad.csv",
        "non_finite.jsonl",
    ),
    *("tensorboard", "resolved.yaml", "run.json", "train.log"),
)
EQUAL_VOTE = {
    "ENSEMBLE": {"SCORES": "probs", "WEIGHTS": "equal", "NORMALIZE": True},
    "VOTE": {"TIE": "probability"},
}


def make_plan(recipe: Recipe, options: Options) -> tuple[list[Task], dict[str, Any]]:
    """The links of a recipe, in order, and what `pipeline.json` says of the whole chain.

    Raises:
        UserError: if the recipe does not fit the experiments, the data or the other recipes it names.
    """
    return _Planner(recipe, options).plan()


class _Planner:
    """Turns a recipe into links."""

    def __init__(self, recipe: Recipe, options: Options) -> None:
        self.recipe, self.options = recipe, options
        self.tree = read_tree(recipe)
        self.members = TrainingJobs(recipe, options, self.tree)
        # Whether labels of dark clips choose: said by every experiment and every recipe of labels and votes.
        self.uses = [member.experiment.labels for member in self.members.by_name.values()]

    def plan(self) -> tuple[list[Task], dict[str, Any]]:
        """Links and what is said of the whole."""
        labels = {stage.name: self._label(stage) for stage in self.recipe.stages if stage.labels}
        vote = [self._vote()] if self.recipe.vote_split else []
        members = [*self.members.by_name.values(), *self.members.controls()]
        for member in members:
            for split in self.recipe.splits:
                member.results(split, ONE_VIEW)
        links = [self._data(self.tree)] if self.tree is not None else []
        for stage in self.recipe.stages:
            links += [labels[stage.name]] if stage.labels else []
            for member in members:
                if member.stage.name == stage.name:
                    links += [self._train(member), *self._tests(member)]
        return [*links, *vote], self._about()

    # Trainings

    def _train(self, member: TrainingJob) -> Task:
        experiment, options = member.experiment, self.options
        command = net_command("train", experiment.arguments(), options.nproc, options.python)
        if member.control:
            entry = [options.python, "-m", "nightcrawler.workflow.control", str(options.nproc)]
            command = [*entry, *experiment.arguments()]
        return Task(
            f"train/{member.name}",
            "train",
            tuple(command),
            digest([experiment.train_signature, member.control]),
            {**experiment.files_of_training(), **member.reads},
            (member.folder / BEST,),
            member.folder,
            member.about,
            leftovers=tuple(member.folder / name for name in LEFTOVERS),
            run_hash="" if member.control else experiment.run_hash,
        )

    def _tests(self, member: TrainingJob) -> list[Task]:
        links, experiment, options = [], member.experiment, self.options
        for split, pairs in member.tests.items():
            views, crops = (
                json.dumps(list(numbers)) for numbers in zip(*sorted(pairs), strict=True)
            )
            settings = [
                "TEST.DATA_SELECT",
                split,
                "TEST.NUM_ENSEMBLE_VIEWS",
                views,
                "TEST.NUM_SPATIAL_CROPS",
                crops,
            ]
            arguments = [*experiment.arguments(), *settings]
            links.append(
                Task(
                    f"test/{member.name}/{split}",
                    "test",
                    tuple(net_command("test", arguments, options.nproc, options.python)),
                    digest([experiment.test_signature, split, sorted(pairs)]),
                    {"weights": member.folder / BEST, **experiment.files_of(split)},
                    tuple(member.results(split, pair) for pair in sorted(pairs)),
                    member.folder,
                    {**member.about, "split": split, "pairs": sorted(pairs)},
                    leftovers=(member.folder / f"bad_{split}.csv",),
                    ok_codes=(0, EXIT_BAD_VIDEOS),
                )
            )
        return links

    # Data, pseudo-labels, vote

    def _data(self, tree: Tree) -> Task:
        own, folder = self.recipe.own_data, self.recipe.data_folder
        assert own is not None
        assert folder is not None
        tool = [
            self.options.python,
            "tools/prepare_data.py",
            "tree",
            str(own.bright),
            "--dark",
            str(own.dark),
        ]
        choice = [
            "--out",
            str(folder),
            "--val-fraction",
            str(own.val_fraction),
            "--seed",
            str(own.seed),
        ]
        return Task(
            "data",
            "data",
            (*tool, *choice),
            digest([str(own.bright), str(own.dark), tree.train, tree.val, tree.dark]),
            {},
            tuple(folder / name for name in tree.plan.lists),
            folder,
            guards=True,
        )

    def _label(self, stage: Stage) -> Task:
        path, before = self.options.root / stage.labels, self.members.before(stage)
        recipe = read_label_recipe(path)
        self.uses.append(recipe.labels)
        self._check_classes(path, recipe)
        models, pairs = _inputs_of(path, recipe, before.models)
        members = [self.members.by_name[f"{before.name}/{model}"] for model in models]
        unlabelled = self.recipe.unlabelled
        found = [
            member.results(unlabelled, pair) for member, pair in zip(members, pairs, strict=True)
        ]
        csv = self.members.csv(stage)[1]
        known, calibration = self._calibration(recipe, members, pairs)
        entry = [
            self.options.python,
            "-m",
            "nightcrawler.workflow.label",
            str(stage.round),
            "--recipe",
            str(path),
        ]
        return Task(
            f"label/{stage.name}",
            "label",
            (
                *entry,
                "--predictions",
                *map(self.options.shown, found),
                "--out",
                self.options.shown(csv),
                *calibration,
            ),
            digest([repr(recipe), stage.round, models, self.options.oracle]),
            {**dict(zip((member.name for member in members), found, strict=True)), **known},
            (csv, csv.with_suffix(".json")),
            csv.parent,
            {"round": stage.round, "stage": stage.name, "split": unlabelled},
        )

    def _calibration(
        self, recipe: LabelRecipe, members: Sequence[TrainingJob], pairs: Sequence[tuple[int, int]]
    ) -> tuple[dict[str, Path], list[str]]:
        """Files that thresholds are calibrated with, by name, and the options that say so."""
        rules, shown = recipe.calibration, self.options.shown
        if rules is None:
            return {}, []
        split = ORACLE_SPLIT if self.options.oracle else rules.split
        found = [member.results(split, pair) for member, pair in zip(members, pairs, strict=True)]
        files = {
            f"{member.name} {split}": path for member, path in zip(members, found, strict=True)
        }
        chosen = ["--calibrate", *map(shown, found), *(["--oracle"] if self.options.oracle else [])]
        if rules.prior == LABELLED:
            experiment = members[0].experiment
            files["labelled"] = experiment.list_file(experiment.train_split)
            chosen += ["--labelled", shown(files["labelled"])]
        return files, chosen

    def _vote(self) -> Task:
        folder, split = self.options.out / "submission", self.recipe.vote_split
        path, writes = self.options.root / self.recipe.vote_recipe, {}
        if self.recipe.vote_recipe:
            recipe = read_vote_recipe(path)
            self.uses.append(recipe.labels)
            self._check_classes(path, recipe)
            wanted = [
                pair
                for mode in recipe.modes.values()
                for pair in zip(mode.ensemble.folders.values(), mode.ensemble.pairs, strict=True)
            ]
            modes, signature = list(recipe.modes), repr(recipe)
        else:
            path = folder / "recipe.yaml"
            last = self.members.last()
            writes = {path: equal_vote(last, self.recipe.vote_views)}
            wanted = [(name, pair) for pair in self.recipe.vote_views for name in last]
            modes, signature = list(range(len(self.recipe.vote_views))), writes[path]
        lacking = [name for name, _ in wanted if name not in self.members.by_name]
        if lacking:
            raise UserError(f"{path}: {lacking[0]} is no experiment of {self.recipe.path}")
        inputs = {
            f"{name} {pair[0]}x{pair[1]}": self.members.by_name[name].results(split, pair)
            for name, pair in wanted
        }
        names = [*(f"arid_pred_{mode}" for mode in modes), "arid_pred"]
        shown = [
            "--recipe",
            str(path),
            "--prefix",
            str(self.options.out),
            "--split",
            split,
            "--out",
            str(folder),
        ]
        return Task(
            "vote",
            "vote",
            (self.options.python, "test_ensemble_vote.py", *shown),
            digest([signature, split]),
            inputs,
            tuple(folder / f"{name}.{ending}" for name in names for ending in ("csv", "json")),
            folder,
            {"round": self.recipe.stages[-1].round, "split": split},
            writes=writes,
        )

    def _check_classes(self, path: Path, recipe: LabelRecipe | VoteRecipe) -> None:
        classes = next(iter(self.members.by_name.values())).experiment.class_names
        if recipe.classes and tuple(recipe.classes) != classes:
            raise UserError(
                f"{path}: is for {', '.join(recipe.classes)}; the models know {', '.join(classes)}"
            )

    def _about(self) -> dict[str, Any]:
        recipe, first = self.recipe, next(iter(self.members.by_name.values())).experiment
        stages = [
            {
                "name": stage.name,
                "round": stage.round,
                "models": list(stage.models),
                "in_chain": stage.in_chain,
                "labels": stage.labels,
                "pseudo": self.options.shown(self.members.csv(stage)[1]) if stage.labels else "",
            }
            for stage in recipe.stages
        ]
        return {
            "recipe": self.options.shown(recipe.path),
            "labels": label_use([], *self.uses),
            "out": self.options.shown(self.options.out),
            "data": self.options.shown(first.prefix),
            "class_names": list(first.class_names),
            "models": list(recipe.models),
            "stages": stages,
            "unlabelled": recipe.unlabelled,
            "test_splits": list(recipe.splits),
            "vote_split": recipe.vote_split,
            "control": list(self.options.control),
        }


def read_tree(recipe: Recipe) -> Tree | None:
    """The lists of one's own videos; `None` where a recipe has none.

    Raises:
        UserError: if a folder is not there, or is not such a tree.
    """
    own = recipe.own_data
    if own is None:
        return None
    for folder in (own.bright, own.dark):
        if not folder.is_dir():
            raise UserError(
                f"{folder}: no such folder (DATA of {recipe.path}, or --bright and --dark)"
            )
    return plan_tree(scan_folder(own.bright), scan_folder(own.dark), own.val_fraction, own.seed)


def _inputs_of(
    path: Path, recipe: LabelRecipe, models: Sequence[str]
) -> tuple[list[str], tuple[tuple[int, int], ...]]:
    """Models in the order in which a recipe mixes them, and their (views, crops).

    A recipe that names other models is taken if it treats all alike.
    """
    ensemble = recipe.ensemble
    named = list(ensemble.folders.values())
    if sorted(named) == sorted(models):
        return named, ensemble.pairs
    try:
        alike = ensemble.resized(len(named) + 1)
    except UserError:
        raise UserError(
            f"{path}: mixes {', '.join(named)}, each in its way; the chain has {', '.join(models)}: "
            "give a recipe that names these, or one that treats all alike"
        ) from None
    return list(models), alike.pairs[:1] * len(models)


def equal_vote(experiments: Sequence[str], views: Sequence[tuple[int, int]]) -> str:
    """A recipe of the vote, as YAML: a mode for each (views, crops), in which all experiments weigh the same."""
    content = {
        "LABELS": "label-free",
        "MODELS": {f"m{number}": name for number, name in enumerate(experiments)},
        **EQUAL_VOTE,
        "MODES": {str(number): {"VIEWS": list(pair)} for number, pair in enumerate(views)},
    }
    return yaml.safe_dump(content, sort_keys=False)
