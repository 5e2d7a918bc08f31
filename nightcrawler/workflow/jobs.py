"""The trainings of a recipe: which files and settings make each, what it starts from, where it goes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightcrawler.models.zoo import WEIGHTS_FOLDER, ZOO, find_weights
from nightcrawler.prepare.lists import Tree
from nightcrawler.pseudo.command import ORACLE_SPLIT
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.experiment import BEST, Experiment, build_experiment
from nightcrawler.workflow.recipe import CONTROL, Model, Recipe, Stage, as_settings


@dataclass(frozen=True)
class Options:
    """What the command line adds to a recipe.

    Attributes:
        root: the project.
        out: folder of experiments, pseudo-labels and submissions; the project's root where it is not given.
        state: folder of what only the runner writes, and of controls.
        overlays, overrides: configuration files and `KEY VALUE` pairs for every experiment.
        control: models that are also trained without pseudo-labels, for as many steps.
        oracle: choose checkpoints and thresholds by labels of dark clips.
        nproc: processes of a training or test.
        python: the interpreter of all commands.
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

    def shown(self, path: Path) -> str:
        """A path as text: relative to the project where it is in it."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


@dataclass
class TrainingJob:
    """A training of the chain, or a control, on its way to links.

    Attributes:
        name: `stage/model`, of a control `control/stage/model`.
        folder: its output.
        experiment: as it is run.
        reads: name to file, of what it starts from and its pseudo-labels.
        tests: split to (views, crops).
    """

    name: str
    stage: Stage
    model: str
    folder: Path
    experiment: Experiment
    reads: dict[str, Path]
    control: bool = False
    tests: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def results(self, split: str, pair: tuple[int, int]) -> Path:
        """The results file of a split and a number of views and crops, which is noted as wanted."""
        pairs = self.tests.setdefault(split, [])
        if pair not in pairs:
            pairs.append(pair)
        return self.folder / self.experiment.results_name(split, pair)

    @property
    def about(self) -> dict[str, Any]:
        """What reports want to know."""
        stage = {"round": self.stage.round, "stage": self.stage.name, "model": self.model}
        return {**stage, "experiment": self.name, "control": self.control}


def net_command(task: str, arguments: Iterable[str], nproc: int, python: str) -> list[str]:
    """`tools/run_net.py`, on one process or several."""
    launcher = (
        ["-m", "nightcrawler.engine.launch", "--standalone", "--nproc-per-node", str(nproc)]
        if nproc > 1
        else []
    )
    return [python, *launcher, "tools/run_net.py", task, *arguments]


class TrainingJobs:
    """The trainings of a recipe, in order; a stage's pseudo-labels; controls.

    Args:
        recipe: what is trained.
        options: see there.
        tree: lists of one's own videos, whose classes all models get; `None`: classes are the configuration's.

    Raises:
        UserError: if an experiment cannot be loaded, or does not fit its stage.
    """

    def __init__(self, recipe: Recipe, options: Options, tree: Tree | None) -> None:
        self.recipe, self.options, self._tree = recipe, options, tree
        self.by_name: dict[str, TrainingJob] = {}
        self._csvs: dict[str, tuple[str, Path]] = {}
        for stage in recipe.stages:
            if stage.labels:
                self.csv(stage)
            for model in stage.models:
                member = self._make(stage, recipe.models[model])
                self.by_name[member.name] = member

    def last(self) -> list[str]:
        """Names of the last round's, and of experts beside it."""
        last = max(stage.round for stage in self.recipe.stages)
        return [member.name for member in self.by_name.values() if member.stage.round == last]

    def csv(self, stage: Stage) -> tuple[str, Path]:
        """A stage's pseudo-labels: their name below the data folder, as its experiments have it, and the file."""
        if stage.name not in self._csvs:
            model = self.recipe.models[stage.models[0]]
            found = build_experiment(
                self._files(stage, model), self._settings(stage, model), self.options.root
            )
            name = found.pseudo_csv
            if not name:
                raise UserError(
                    f"{self.recipe.path}: {stage.name} has LABELS, but its experiments read none"
                )
            own = self.options.out != self.options.root
            path = self.options.out / "pseudo" / Path(name).name if own else found.prefix / name
            self._csvs[stage.name] = (name, path)
        return self._csvs[stage.name]

    def controls(self) -> list[TrainingJob]:
        """For each round and chosen model, the same training without its pseudo-labels, after the control before."""
        controls: dict[str, TrainingJob] = {}
        for member in self.by_name.values():
            if not (member.stage.labels and member.model in self.options.control):
                continue
            before = f"{self.before(member.stage).name}/{member.model}"
            source = controls.get(f"{CONTROL}/{before}") or self.by_name.get(before)
            if source is None:
                raise UserError(
                    f"{self.recipe.path}: no control of {member.name}: no stage before trains that model"
                )
            folder = self.options.state / CONTROL / member.name
            linked = {"OUTPUT_DIR": folder, "TRAIN.CHECKPOINT_FILE_PATH": source.folder / BEST}
            experiment = self._with(
                member.experiment, {key: self.options.shown(path) for key, path in linked.items()}
            )
            name = f"{CONTROL}/{member.name}"
            reads = {**member.reads, "start": source.folder / BEST}
            controls[name] = TrainingJob(
                name, member.stage, member.model, folder, experiment, reads, control=True
            )
        return list(controls.values())

    def _make(self, stage: Stage, model: Model) -> TrainingJob:
        name, options = f"{stage.name}/{model.name}", self.options
        files, settings = self._files(stage, model), self._settings(stage, model)
        raw = build_experiment(files, settings, options.root)
        if stage.labels and raw.pseudo_csv != self.csv(stage)[0]:
            raise UserError(
                f"{self.recipe.path}: {name} reads '{raw.pseudo_csv}', not the LABELS of its stage"
            )
        reads, linked = self._linked(name, raw.start, raw.pseudo_csv, raw.prefix)
        folder = options.out / name
        linked = {"OUTPUT_DIR": self.options.shown(folder), **linked}
        return TrainingJob(name, stage, model.name, folder, self._with(raw, linked), reads)

    def _linked(
        self, name: str, start: str, pseudo: str, prefix: Path
    ) -> tuple[dict[str, Path], dict[str, str]]:
        """The files that a training reads, and the settings that name them."""
        reads, linked = {}, {"TRAIN.CHECKPOINT_FILE_PATH": start, "DATA.PSEUDO_CSV": pseudo}
        source = self.by_name.get(start.removesuffix(f"/{BEST}"))
        if source is not None and start.endswith(f"/{BEST}"):
            reads["start"] = source.folder / BEST
            linked["TRAIN.CHECKPOINT_FILE_PATH"] = self.options.shown(reads["start"])
        elif start:
            if start.endswith(f"/{BEST}") and start.split("/")[0] in {
                stage.name for stage in self.recipe.stages
            }:
                raise UserError(
                    f"{self.recipe.path}: {name} starts from {start}, which no earlier stage trains"
                )
            reads["start"] = self._weights(start)
        csvs = dict(self._csvs.values())
        if pseudo:
            reads["pseudo"] = csvs.get(pseudo, prefix / pseudo)
            if pseudo in csvs and reads["pseudo"] != prefix / pseudo:
                linked["DATA.PSEUDO_CSV"] = str(reads["pseudo"])
        return reads, linked

    def _weights(self, name: str) -> Path:
        """The file of weights from elsewhere, whether it is there or not (then the training says so)."""
        try:
            return self.options.root / find_weights(name)
        except UserError:
            return self.options.root / (
                Path(WEIGHTS_FOLDER) / ZOO[name].file if name in ZOO else name
            )

    def _files(self, stage: Stage, model: Model) -> list[Path]:
        root, names = (
            self.options.root,
            [*model.config, *stage.config] or [f"{stage.name}/{model.name}/config.yaml"],
        )
        return [*(root / name for name in (*names, *self.recipe.overlays)), *self.options.overlays]

    def _settings(self, stage: Stage, model: Model) -> list[str]:
        """`KEY VALUE` pairs, later ones win."""
        own: dict[str, Any] = {}
        if self.recipe.data_folder is not None:
            own["DATA.PATH_PREFIX"] = self.options.shown(self.recipe.data_folder)
        if self._tree is not None:
            own |= {
                "MODEL.NUM_CLASSES": len(self._tree.classes),
                "MODEL.CLASS_NAMES": self._tree.classes,
            }
        if stage.labels and model.config:
            before = self.before(stage).name
            own["TRAIN.CHECKPOINT_FILE_PATH"] = f"{before}/{model.name}/{BEST}"
            own["DATA.PSEUDO_CSV"] = f"pseudo/{stage.name}.csv"
        merged = {**as_settings(own), **self.recipe.settings, **model.settings}
        merged |= {
            key: value.replace("{model}", model.name) for key, value in stage.settings.items()
        }
        if self.options.oracle:
            merged["TRAIN.BEST_SPLIT"] = ORACLE_SPLIT
        return [*(text for pair in merged.items() for text in pair), *self.options.overrides]

    def _with(self, experiment: Experiment, settings: Mapping[str, str]) -> Experiment:
        pairs = [text for pair in settings.items() for text in pair]
        return build_experiment(experiment.files, [*experiment.settings, *pairs], self.options.root)

    def before(self, stage: Stage) -> Stage:
        """The stage that another builds on."""
        earlier = self.recipe.stages[: self.recipe.stages.index(stage)]
        return [other for other in earlier if other.in_chain][-1]
