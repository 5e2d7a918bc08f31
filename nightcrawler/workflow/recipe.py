"""Recipe of a pipeline: models, stages, tests of every experiment, and the final vote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nightcrawler.pseudo.recipe_yaml import open_values
from nightcrawler.utils.errors import ConfigError
from nightcrawler.workflow.recipe_file import (
    DataSection,
    RecipeFile,
    ResourcesSection,
    StageSection,
    parse_recipe_file,
)


@dataclass(frozen=True)
class Model:
    """Model of a pipeline.

    Attributes:
        name: Its name, also that of its folder in every stage.
        config: Configuration files relative to the project's root, empty where stages have an
            experiment folder of their own for it.
        settings: Configuration keys to values, as text.
    """

    name: str
    config: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """Set of trainings, one for each of its models.

    Attributes:
        name: Its name, also that of its folder.
        round: Number of times that pseudo-labels were made before it, 0 for the first stage.
        models: Names of its models.
        config: Configuration files merged on those of a model, empty for the experiments
            `{name}/{model}/config.yaml`.
        labels: Recipe of the pseudo-labels made before it, empty for none.
        labelled_by: Earlier stages whose models make them, empty for the stage before.
        settings: Configuration keys to values, as text, where `{model}` stands for the model's
            name.
    """

    name: str
    round: int
    models: tuple[str, ...]
    config: tuple[str, ...] = ()
    labels: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)
    labelled_by: tuple[str, ...] = ()

    @property
    def in_chain(self) -> bool:
        """Return `False` for experts trained beside the last round, on which no stage builds."""
        return self.round == 0 or bool(self.labels)


@dataclass(frozen=True)
class OwnData:
    """The user's own videos, laid out by `prepare tree`."""

    bright: Path
    dark: Path
    val_fraction: float
    seed: int
    recordings: str = "name"


@dataclass(frozen=True)
class Recipe:
    """Recipe of a pipeline.

    Attributes:
        path: The file.
        models: Models by name.
        stages: Stages in order.
        unlabelled: Split that is pseudo-labelled.
        splits: Splits on which every experiment is tested, with one view and one crop.
        overlays: Configuration files merged on every experiment.
        settings: Configuration keys to values of every experiment, as text.
        vote_recipe: Recipe of the final vote, empty to weigh the last models equally.
        vote_views: (views, crops) of such an equal vote.
        vote_rounds: Number of last rounds whose models vote in it.
        vote_split: Split of the final vote, empty for no vote.
        control: Models that can also be trained without pseudo-labels, for as many steps.
        data_folder: Data folder of every experiment, `None` for that of the configuration.
        own_data: Videos that fill the data folder, `None` if it exists already.
        stop_below: Share of labels that must move from one round to the next for the chain to go
            on, 0 for all rounds in any case.
        resources: Resources of the tasks of each kind.
    """

    path: Path
    models: Mapping[str, Model]
    stages: tuple[Stage, ...]
    unlabelled: str
    splits: tuple[str, ...]
    overlays: tuple[str, ...]
    settings: Mapping[str, str]
    vote_recipe: str
    vote_views: tuple[tuple[int, int], ...]
    vote_rounds: int
    vote_split: str
    control: tuple[str, ...]
    data_folder: Path | None
    own_data: OwnData | None
    stop_below: float
    resources: ResourcesSection = field(default_factory=ResourcesSection)


@dataclass(frozen=True)
class Places:
    """Folders given on the command line, `None` leaves one to the recipe."""

    data: Path | None = None
    bright: Path | None = None
    dark: Path | None = None


# `fault(key, message)` returns an error at the line of a key.
Fault = Callable[[str, str], ConfigError]


def read_recipe(path: Path, root: Path, places: Places | None = None) -> Recipe:
    """Read a recipe.

    Args:
        path: The YAML file.
        root: The project's root, to which paths in the recipe are relative.
        places: Folders that replace those of the recipe.

    Raises:
        ConfigError: One line for each error, with file, line and key.
    """
    values = open_values(path)
    file = parse_recipe_file(values)
    # Below: checks that compare sections with one another.
    models = {
        name: Model(name, section.config, section.settings) for name, section in file.models.items()
    }
    _check_known("CONTROL", file.control, models, values.fault)
    vote = file.vote
    if vote.recipe:
        _check_vote_recipe(file, values.fault)
    stages = _stages_of(file, models, values.fault)
    if vote.rounds > 1 + stages[-1].round:
        raise values.fault(
            "VOTE.ROUNDS", f"{vote.rounds}, expected at most {1 + stages[-1].round} (STAGES)"
        )
    data_folder, own_data = _data_of(file.data, root, places or Places(), values.fault)
    return Recipe(
        path=path,
        models=models,
        stages=stages,
        unlabelled=file.unlabelled,
        splits=file.test.splits,
        overlays=file.overlay,
        settings=file.settings,
        vote_recipe=vote.recipe or "",
        vote_views=vote.views,
        vote_rounds=vote.rounds,
        vote_split=vote.split if vote.recipe or vote.views else "",
        control=file.control,
        data_folder=data_folder,
        own_data=own_data,
        stop_below=file.stop_below,
        resources=file.resources,
    )


def _check_vote_recipe(file: RecipeFile, fault: Fault) -> None:
    """Refuse keys that have no effect, or cannot be met, where a recipe names who votes."""
    if file.vote.views:
        raise fault("VOTE.VIEWS", "has no effect beside VOTE.RECIPE: remove one of them")
    if file.vote.rounds > 1:
        raise fault("VOTE.ROUNDS", "has no effect beside VOTE.RECIPE, which names the voters")
    if file.stop_below:
        raise fault(
            "STOP_BELOW",
            "VOTE.RECIPE names models of rounds that may not be trained: give VOTE.VIEWS instead",
        )


def _check_known(key: str, names: Sequence[str], models: Mapping[str, Model], fault: Fault) -> None:
    for name in names:
        if name not in models:
            raise fault(key, f"{name!r} is not one of {', '.join(models)}")


def _stages_of(file: RecipeFile, models: Mapping[str, Model], fault: Fault) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    # Stages without LABELS (experts) belong to the round before them.
    rounds = 0
    for name, section in file.stages.items():
        place = f"STAGES.{name}"
        chosen = tuple(models) if section.models is None else section.models
        _check_known(f"{place}.MODELS", chosen, models, fault)
        if section.labels and not stages:
            raise fault(
                f"{place}.LABELS", "expected a recipe of pseudo-labels from the second stage on"
            )
        _check_labelled_by(place, section, [stage.name for stage in stages], fault)
        for model in chosen:
            # Either both give configuration files, or the experiment folders hold them.
            if bool(section.config) != bool(models[model].config):
                with_config = place if section.config else f"MODELS.{model}"
                without = f"MODELS.{model}" if section.config else place
                raise fault(place, f"CONFIG is given for {with_config}, but not for {without}")
        rounds += bool(section.labels)
        stage = Stage(
            name,
            rounds,
            chosen,
            section.config,
            section.labels,
            section.settings,
            section.labelled_by,
        )
        stages.append(stage)
    return tuple(stages)


def _check_labelled_by(
    place: str, section: StageSection, earlier: Sequence[str], fault: Fault
) -> None:
    key = f"{place}.LABELLED_BY"
    if section.labelled_by and not section.labels:
        raise fault(key, "has no effect without LABELS")
    for name in section.labelled_by:
        if name not in earlier:
            raise fault(key, f"{name!r} is not one of the stages before ({', '.join(earlier)})")


def _data_of(
    section: DataSection, root: Path, places: Places, fault: Fault
) -> tuple[Path | None, OwnData | None]:
    """Return the data folder, and the videos that fill it."""

    def folder(given: Path | None, name: str | None) -> Path | None:
        if given is None and name is not None:
            return root / name
        return given

    data = folder(places.data, section.folder)
    bright = folder(places.bright, section.bright)
    dark = folder(places.dark, section.dark)
    if bright is None and dark is None:
        return data, None
    if bright is None or dark is None or data is None:
        raise fault(
            "DATA",
            "own videos need BRIGHT (class folders), DARK, and FOLDER (which will be created)",
        )
    recordings = section.recordings
    if recordings not in ("name", "clip"):
        recordings = str(root / recordings)
    return data, OwnData(bright, dark, section.val_fraction, section.seed, recordings)
