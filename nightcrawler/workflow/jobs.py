"""Trainings of a recipe: the files and settings of each, its starting weights and its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightcrawler.models.zoo import find_entry, find_weights, obtain_weights, weights_files
from nightcrawler.prepare.lists import Tree
from nightcrawler.pseudo.results_metadata import (
    ORACLE_SPLIT,
    PUBLISHED_FORMAT,
    holds_published_form,
)
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.experiment import BEST, Experiment, build_experiment
from nightcrawler.workflow.pipeline_file import relative_to_root
from nightcrawler.workflow.recipe import Model, Recipe, Stage
from nightcrawler.workflow.recipe_file import CEILING, CONTROL, as_settings

RESULTS_KEY = "TEST.RESULTS_FORMAT"
# Keys that the tasks of a pipeline set, each with what decides it.
TASK_KEYS = {
    "TEST.DATA_SELECT": "its recipe tests the splits that it needs (TEST.SPLITS, VOTE.SPLIT)",
    "TEST.NUM_ENSEMBLE_VIEWS": "the recipes of its labels and its vote name the views",
    "TEST.NUM_SPATIAL_CROPS": "the recipes of its labels and its vote name the crops",
}


@dataclass(frozen=True)
class PlanOptions:
    """Options of the command line that change a recipe's tasks.

    Attributes:
        root: The project's root.
        out: Folder of experiments, pseudo-labels and submissions, `root` unless it is given.
        state: Folder of the runner's own files and of controls.
        overlays: Configuration files for every experiment.
        overrides: `KEY VALUE` pairs for every experiment, flat.
        control: Models that are also trained without pseudo-labels, for as many steps.
        oracle: Choose checkpoints and thresholds by labels of dark clips.
        nproc: Number of processes of a training or test.
        python: Interpreter of all commands.
        download: Download public weights that trainings start from.
        num_compared: Number of rounds whose labels are looked at to see whether the chain stops,
            `None` for all whose labels exist.
        ceiling: True labels of the unlabelled clips, on which the models of the last round are also
            trained, to measure. `None` for none.
    """

    root: Path
    out: Path
    state: Path
    overlays: tuple[Path, ...] = ()
    overrides: tuple[str, ...] = ()
    control: tuple[str, ...] = ()
    oracle: bool = False
    nproc: int = 1
    python: str = "python3"
    download: bool = False
    num_compared: int | None = None
    ceiling: Path | None = None

    def shown(self, path: Path) -> str:
        """Return a path as text, relative to the project's root if it is inside."""
        return relative_to_root(path, self.root)


@dataclass(frozen=True)
class TrainingJob:
    """Training of a recipe, or an equal-step control.

    Attributes:
        name: `stage/model`, or `control/stage/model`.
        stage: Its stage.
        model: Name of its model.
        folder: Folder of its output.
        experiment: Its experiment as it will run.
        reads: Name to file, of its starting weights and pseudo-labels.
        control: Trained without pseudo-labels, for as many steps.
        ceiling: Trained on true labels in the place of pseudo-labels. Nothing builds on it.
    """

    name: str
    stage: Stage
    model: str
    folder: Path
    experiment: Experiment
    reads: dict[str, Path]
    control: bool = False
    ceiling: bool = False

    @property
    def is_beside(self) -> bool:
        """Return `True` for trainings that only measure, in the folder of the runner's files."""
        return self.control or self.ceiling

    def results_file(self, split: str, pair: tuple[int, int]) -> Path:
        """Return the path of the results of a split with (views, crops)."""
        return self.folder / self.experiment.results_name(split, pair)

    @property
    def about(self) -> dict[str, Any]:
        """Return facts for reports."""
        return {
            "round": self.stage.round,
            "stage": CEILING if self.ceiling else self.stage.name,
            "model": self.model,
            "experiment": self.name,
            "control": self.control,
        }


class TrainingJobs:
    """Trainings of a recipe in order, the pseudo-labels of its stages, and its controls.

    Args:
        recipe: The recipe.
        options: Options of the command line.
        tree: Lists of the user's own videos, whose classes all models get, `None` for the classes
            of the configuration.

    Raises:
        UserError: If an experiment cannot be loaded, or does not fit its stage.
    """

    def __init__(self, recipe: Recipe, options: PlanOptions, tree: Tree | None) -> None:
        self.recipe = recipe
        self.options = options
        self._tree = tree
        self.by_name: dict[str, TrainingJob] = {}
        # Missing weights, each once: what is missing, and how to get it.
        self.missing_weights: dict[str, str] = {}
        # Stage -> the pseudo-labels' name in its configuration, and their file.
        self._csvs: dict[str, tuple[str, Path]] = {}
        for stage in recipe.stages:
            if stage.labels:
                self._csvs[stage.name] = self._find_csv(stage)
            for model in stage.models:
                job = self._build_job(stage, recipe.models[model])
                self.by_name[job.name] = job

    @property
    def first(self) -> TrainingJob:
        """Return the first training, whose data folder and classes all share."""
        return next(iter(self.by_name.values()))

    def last_rounds(self, count: int, trained: Sequence[Stage]) -> list[str]:
        """Return the names of the trainings of the last rounds, and of experts beside them.

        Args:
            count: Number of rounds.
            trained: Stages that are trained.
        """
        first = max(stage.round for stage in trained) - count + 1
        # Experts have the round of the stage before them, so they are among these.
        return [
            job.name
            for job in self.by_name.values()
            if job.stage in trained and job.stage.round >= first
        ]

    def labels_before(self, stage: Stage) -> Stage | None:
        """Return the stage whose pseudo-labels were made last before those of a stage."""
        earlier = self.recipe.stages[: self.recipe.stages.index(stage)]
        labelled = [other for other in earlier if other.labels]
        return labelled[-1] if labelled else None

    def csv(self, stage: Stage) -> Path:
        """Return the file of a stage's pseudo-labels."""
        return self._csvs[stage.name][1]

    def _find_csv(self, stage: Stage) -> tuple[str, Path]:
        model = self.recipe.models[stage.models[0]]
        # All models of a stage read one file, which `_build_job` checks.
        files = self._files(stage, model)
        experiment = build_experiment(files, self._settings(stage, model), self.options.root)
        name = experiment.pseudo_csv
        if not name:
            raise UserError(
                f"{self.recipe.path}: stage {stage.name} has LABELS, but its experiments set no "
                "DATA.PSEUDO_CSV"
            )
        if self.options.out != self.options.root:
            return name, self.options.out / "pseudo" / Path(name).name
        return name, experiment.prefix / name

    def controls(self) -> list[TrainingJob]:
        """Return the controls: trainings of the chosen models without their pseudo-labels.

        The control of a round starts from the control of the round before.

        Raises:
            UserError: If no earlier stage trains the model.
        """
        controls: dict[str, TrainingJob] = {}
        for job in self.by_name.values():
            if not (job.stage.labels and job.model in self.options.control):
                continue
            before = f"{self.stage_before(job.stage, job.model).name}/{job.model}"
            # Controls chain: only then is no pseudo-label in any of their steps.
            source = controls.get(f"{CONTROL}/{before}") or self.by_name.get(before)
            if source is None:
                raise UserError(
                    f"{self.recipe.path}: no control of {job.name}: no earlier stage trains "
                    f"{job.model}"
                )
            name = f"{CONTROL}/{job.name}"
            folder = self.options.state / CONTROL / job.name
            start = source.folder / BEST
            linked = {
                "OUTPUT_DIR": self.options.shown(folder),
                "TRAIN.CHECKPOINT_FILE_PATH": self.options.shown(start),
            }
            linked.update(_kept_form(folder, job.experiment.settings))
            experiment = self._with_settings(job.experiment, linked)
            reads = {**job.reads, "start": start}
            controls[name] = TrainingJob(
                name, job.stage, job.model, folder, experiment, reads, control=True
            )
        return list(controls.values())

    def ceilings(self, trained: Sequence[Stage]) -> list[TrainingJob]:
        """Return trainings of the models of the last round on true labels of the unlabelled clips.

        They start where the round starts and take its settings. No label, threshold or vote is made
        from them.

        Args:
            trained: Stages that are trained.

        Raises:
            UserError: If there is no file of true labels, or no round to put them in.
        """
        truth = self.options.ceiling
        if truth is None:
            return []
        if not truth.is_file():
            raise UserError(f"--ceiling {truth}: no such file, expected rows path,label")
        labelled = [stage for stage in trained if stage.labels]
        if not labelled:
            raise UserError(f"--ceiling: {self.recipe.path} trains no stage on pseudo-labels")
        found = []
        for job in self.by_name.values():
            if job.stage is not labelled[-1]:
                continue
            folder = self.options.state / CEILING / job.model
            # True labels have no probabilities to learn from.
            linked = {
                "OUTPUT_DIR": self.options.shown(folder),
                "DATA.PSEUDO_CSV": str(truth.resolve()),
                "MODEL.PSEUDO_LOSS": "hard",
                "MODEL.PSEUDO_TEMPERATURE": "1.0",
            }
            experiment = self._with_settings(job.experiment, linked)
            reads = {**job.reads, "pseudo": truth}
            name = f"{CEILING}/{job.model}"
            found.append(
                TrainingJob(name, job.stage, job.model, folder, experiment, reads, ceiling=True)
            )
        return found

    def _build_job(self, stage: Stage, model: Model) -> TrainingJob:
        name = f"{stage.name}/{model.name}"
        files = self._files(stage, model)
        settings = self._settings(stage, model)
        raw = build_experiment(files, settings, self.options.root)
        if stage.labels and raw.pseudo_csv != self._csvs[stage.name][0]:
            raise UserError(
                f"{self.recipe.path}: {name} reads the pseudo-labels '{raw.pseudo_csv}', not "
                f"'{self._csvs[stage.name][0]}' as the first model of its stage"
            )
        if raw.output_dir:
            raise UserError(
                f"{self.recipe.path}: {name}: OUTPUT_DIR '{raw.output_dir}' has no effect in a "
                "pipeline, whose --out names the folder of all runs: remove the key"
            )
        folder = self.options.out / name
        linked = {"OUTPUT_DIR": self.options.shown(folder), **_kept_form(folder, settings)}
        reads = {}
        if raw.start:
            reads["start"] = self._start_of(name, raw.start)
        linked["TRAIN.CHECKPOINT_FILE_PATH"] = raw.start
        if self._is_training(raw.start):
            linked["TRAIN.CHECKPOINT_FILE_PATH"] = self.options.shown(reads["start"])
        linked["DATA.PSEUDO_CSV"] = raw.pseudo_csv
        if raw.pseudo_csv:
            below_prefix = raw.prefix / raw.pseudo_csv
            reads["pseudo"] = dict(self._csvs.values()).get(raw.pseudo_csv, below_prefix)
            if reads["pseudo"] != below_prefix:
                linked["DATA.PSEUDO_CSV"] = str(reads["pseudo"])
        experiment = self._with_settings(raw, linked)
        return TrainingJob(name, stage, model.name, folder, experiment, reads)

    def _is_training(self, start: str) -> bool:
        """Return `True` for `stage/model/best.pyth` of an earlier training."""
        return start.endswith(f"/{BEST}") and start.removesuffix(f"/{BEST}") in self.by_name

    def _start_of(self, name: str, start: str) -> Path:
        """Return the file of the weights that a training starts from."""
        if self._is_training(start):
            return self.by_name[start.removesuffix(f"/{BEST}")].folder / BEST
        stages = {stage.name for stage in self.recipe.stages}
        if start.endswith(f"/{BEST}") and start.split("/")[0] in stages:
            raise UserError(
                f"{self.recipe.path}: {name} starts from {start}, which no earlier stage trains"
            )
        # Before the tasks are compared with those of an earlier run: their hashes are of files.
        find = obtain_weights if self.options.download else find_weights
        try:
            return self.options.root / find(start)
        except UserError as error:
            # The training itself ends with this, and a dry run says it before.
            self.missing_weights[start] = str(error)
            entry = find_entry(start)
            if entry is not None:
                return self.options.root / weights_files(entry)[0]
            return self.options.root / start

    def _files(self, stage: Stage, model: Model) -> list[Path]:
        # Later files win: the model, the stage, overlays of the recipe, those of the command line.
        names = [*model.config, *stage.config]
        if not names:
            names = [f"{stage.name}/{model.name}/config.yaml"]
        files = [self.options.root / name for name in (*names, *self.recipe.overlays)]
        return [*files, *self.options.overlays]

    def _settings(self, stage: Stage, model: Model) -> list[str]:
        """Return `KEY VALUE` pairs, flat, in which later sources have replaced earlier ones."""
        own: dict[str, Any] = {}
        if self.recipe.data_folder is not None:
            own["DATA.PATH_PREFIX"] = self.options.shown(self.recipe.data_folder)
        if self._tree is not None:
            own["MODEL.NUM_CLASSES"] = len(self._tree.classes)
            own["MODEL.CLASS_NAMES"] = self._tree.classes
        # A stage with files of its own has no experiment folder that names its start and labels.
        if stage.labels and model.config:
            before = self.stage_before(stage, model.name).name
            own["TRAIN.CHECKPOINT_FILE_PATH"] = f"{before}/{model.name}/{BEST}"
            own["DATA.PSEUDO_CSV"] = f"pseudo/{stage.name}.csv"
        merged = {**as_settings(own), **self.recipe.settings, **model.settings}
        for key, value in stage.settings.items():
            merged[key] = value.replace("{model}", model.name)
        overrides = self.options.overrides
        given = {**merged, **dict(zip(overrides[::2], overrides[1::2], strict=False))}
        for key, reason in TASK_KEYS.items():
            if key in given:
                raise UserError(f"{self.recipe.path}: {key} has no effect in a pipeline: {reason}")
        if self.options.oracle:
            if given.get("TRAIN.BEST_SPLIT", ORACLE_SPLIT) != ORACLE_SPLIT:
                raise UserError(
                    f"TRAIN.BEST_SPLIT {given['TRAIN.BEST_SPLIT']}: --oracle picks checkpoints on "
                    f"{ORACLE_SPLIT}: give one of the two"
                )
            merged["TRAIN.BEST_SPLIT"] = ORACLE_SPLIT
        return [*_flat(merged), *overrides]

    def _with_settings(self, experiment: Experiment, settings: Mapping[str, str]) -> Experiment:
        overrides = [*experiment.settings, *_flat(settings)]
        return build_experiment(experiment.files, overrides, self.options.root)

    def stage_before(self, stage: Stage, model: str) -> Stage:
        """Return the stage that a model of a stage goes on from: the last one that trains it.

        It is the stage before if none does: the fault is reported where its weights are looked for.
        """
        earlier = self.recipe.stages[: self.recipe.stages.index(stage)]
        chain = [other for other in earlier if other.in_chain]
        of_model = [other for other in chain if model in other.models]
        return (of_model or chain)[-1]

    def labellers(self, stage: Stage) -> list[TrainingJob]:
        """Return the trainings whose results make the pseudo-labels of a stage."""
        earlier = self.recipe.stages[: self.recipe.stages.index(stage)]
        names = stage.labelled_by or [[other for other in earlier if other.in_chain][-1].name]
        return [job for job in self.by_name.values() if job.stage.name in names]


def _kept_form(folder: Path, settings: Sequence[str]) -> dict[str, str]:
    """Return the setting with which a run of earlier results in the published form goes on."""
    if RESULTS_KEY in settings or not holds_published_form(folder):
        return {}
    return {RESULTS_KEY: PUBLISHED_FORMAT}


def _flat(settings: Mapping[str, str]) -> list[str]:
    pairs: list[str] = []
    for key, value in settings.items():
        pairs += [key, value]
    return pairs
