"""A recipe: models, stages, what is tested, how the final vote is made; a key that nothing reads is an error."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nightcrawler.pseudo.recipe_yaml import Values, is_views, open_values

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
CONTROL = "control"
TOP_KEYS = (
    *(
        "DATA.FOLDER",
        "DATA.BRIGHT",
        "DATA.DARK",
        "DATA.VAL_FRACTION",
        "DATA.SEED",
        "OVERLAY",
        "SET",
        "MODELS",
    ),
    *("STAGES", "UNLABELLED", "TEST.SPLITS", "VOTE.RECIPE", "VOTE.VIEWS", "VOTE.SPLIT", "CONTROL"),
)
MODEL_KEYS = ("CONFIG", "SET")
STAGE_KEYS = ("CONFIG", "LABELS", "MODELS", "SET")


@dataclass(frozen=True)
class Model:
    """A model of the chain.

    Attributes:
        name: also that of its folder in every stage.
        config: its configuration files, where stages have none for it; relative to the project's root.
        settings: configuration keys to values, as text.
    """

    name: str
    config: tuple[str, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """A set of trainings, one for each of its models.

    Attributes:
        name: also that of its folder.
        round: 0 without pseudo-labels, then the number of times that they were made.
        models: names.
        config: configuration files laid on those of a model; empty: the experiments `{name}/{model}/config.yaml`.
        labels: recipe of the pseudo-labels that are made before it; empty: none are.
        settings: configuration keys to values, as text; `{model}` is replaced by the model's name.
    """

    name: str
    round: int
    models: tuple[str, ...]
    config: tuple[str, ...] = ()
    labels: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def in_chain(self) -> bool:
        """Whether the next stage builds on it: experts, which are trained beside the last round, are not."""
        return self.round == 0 or bool(self.labels)


@dataclass(frozen=True)
class OwnData:
    """One's own videos, put in place by `tools/prepare_data.py tree`."""

    bright: Path
    dark: Path
    val_fraction: float
    seed: int


@dataclass(frozen=True)
class Recipe:
    """The chain.

    Attributes:
        path: the file.
        models: by name.
        stages: in order.
        unlabelled: split that pseudo-labels are made for.
        splits: splits that every experiment is tested on, with one view and one crop.
        overlays: configuration files laid on every experiment.
        settings: configuration keys to values of every experiment, as text.
        vote_recipe, vote_views, vote_split: the final vote: a recipe, or (views, crops) of the last models, which then
            weigh the same; without a split there is no vote.
        control: models that are also trained without pseudo-labels, for as many steps.
        data_folder: data folder of every experiment; `None`: as the configuration says.
        own_data: what the data folder is made from; `None`: it is there.
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
    vote_split: str
    control: tuple[str, ...]
    data_folder: Path | None
    own_data: OwnData | None


@dataclass(frozen=True)
class Places:
    """Where things are, as the command line says; `None` leaves it to the recipe."""

    data: Path | None = None
    bright: Path | None = None
    dark: Path | None = None


def read_recipe(path: Path, root: Path, places: Places | None = None) -> Recipe:
    """Read a recipe; its paths are relative to the project's root.

    Raises:
        ConfigError: naming file, line and key.
    """
    values, places = open_values(path), places or Places()
    values.known(*TOP_KEYS)
    models = _models(values)
    stages = _stages(values, models)
    vote_recipe, views, split = _vote(values)
    control = _names(values, "CONTROL", list(models))
    _some_of(values, "CONTROL", control, models)
    return Recipe(
        path,
        models,
        stages,
        str(values.get("UNLABELLED", "total_unlabel")),
        tuple(_names(values, "TEST.SPLITS", [])),
        tuple(_names(values, "OVERLAY", [])),
        as_settings(values.mapping("SET")),
        vote_recipe,
        views,
        split,
        tuple(control),
        *_data(values, root, places),
    )


def as_text(value: Any) -> str:
    """A YAML value as the text of an override."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_settings(values: Mapping[str, Any]) -> dict[str, str]:
    """Configuration keys to values as text; True and False as they are written."""
    return {
        key: str(value) if isinstance(value, bool) else as_text(value)
        for key, value in values.items()
    }


def _names(values: Values, key: str, default: list[str]) -> list[str]:
    """A text, or a list of them."""
    given = values.get(key, default)
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise values.fault(key, f"{given!r}, expected a name or a list of names")
    if len(set(names)) < len(names):
        raise values.fault(key, f"{given!r}: one is there twice")
    return names


def _some_of(values: Values, key: str, names: Sequence[str], known: Mapping[str, Any]) -> None:
    for name in names:
        if name not in known:
            raise values.fault(key, f"{name!r} is not one of {', '.join(known)}")


def _entries(values: Values, section: str, keys: Sequence[str]) -> list[str]:
    """Names of the entries of a section, in order; each has only keys that are known."""
    given = values.get(section)
    names = (
        given
        if isinstance(given, list)
        else list(dict.fromkeys(key.split(".")[0] for key in given or ()))
    )
    if not names:
        raise values.fault(section, "expected at least one")
    for name in names:
        if not isinstance(name, str) or not NAME.fullmatch(name) or name == CONTROL:
            raise values.fault(
                section, f"{name!r}: expected a name of letters, digits, _ and -, not '{CONTROL}'"
            )
        entry = values.get(f"{section}.{name}") if isinstance(given, dict) else None
        for key in entry if isinstance(entry, dict) else ():
            if key.split(".")[0] not in keys:
                raise values.fault(
                    f"{section}.{name}.{key}", f"unknown key, expected {', '.join(keys)}"
                )
    return names


def _models(values: Values) -> dict[str, Model]:
    names = _entries(values, "MODELS", MODEL_KEYS)
    return {
        name: Model(
            name,
            tuple(_names(values, f"MODELS.{name}.CONFIG", [])),
            as_settings(values.mapping(f"MODELS.{name}.SET")),
        )
        for name in names
    }


def _stages(values: Values, models: Mapping[str, Model]) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    number = 0
    for name in _entries(values, "STAGES", STAGE_KEYS):
        place = f"STAGES.{name}"
        chosen, config = (
            _names(values, f"{place}.MODELS", list(models)),
            _names(values, f"{place}.CONFIG", []),
        )
        _some_of(values, f"{place}.MODELS", chosen, models)
        labels = values.get(f"{place}.LABELS", "")
        if not isinstance(labels, str) or (labels and not stages):
            raise values.fault(
                f"{place}.LABELS", "expected a recipe of pseudo-labels, from the second stage on"
            )
        lacking = [model for model in chosen if bool(config) != bool(models[model].config)]
        if lacking:
            raise values.fault(
                place, f"CONFIG is given for {'it' if config else lacking[0]} and not for the other"
            )
        number += bool(labels)
        settings = as_settings(values.mapping(f"{place}.SET"))
        stages.append(Stage(name, number, tuple(chosen), tuple(config), labels, settings))
    return tuple(stages)


def _vote(values: Values) -> tuple[str, tuple[tuple[int, int], ...], str]:
    recipe, views = values.get("VOTE.RECIPE", ""), values.get("VOTE.VIEWS", [])
    if not recipe and not views:
        return "", (), ""
    if recipe and views:
        raise values.fault("VOTE.VIEWS", "has no effect beside VOTE.RECIPE: leave one of them out")
    pairs = views if isinstance(views, list) else [views]
    if not all(map(is_views, pairs)):
        raise values.fault(
            "VOTE.VIEWS", f"{views!r}, expected a list of [views, crops] with 1 crop or 3"
        )
    return (
        str(recipe),
        tuple((pair[0], pair[1]) for pair in pairs),
        str(values.get("VOTE.SPLIT", "test")),
    )


def _data(values: Values, root: Path, places: Places) -> tuple[Path | None, OwnData | None]:
    """The data folder, and what it is made from."""

    def folder(key: str, given: Path | None) -> Path | None:
        name = values.get(f"DATA.{key}")
        return given or (root / str(name) if name else None)

    data, bright, dark = (
        folder("FOLDER", places.data),
        folder("BRIGHT", places.bright),
        folder("DARK", places.dark),
    )
    if bright is None and dark is None:
        return data, None
    if bright is None or dark is None or data is None:
        raise values.fault(
            "DATA", "own videos need BRIGHT (class folders), DARK and FOLDER (to be made) alike"
        )
    fraction, seed = values.get("DATA.VAL_FRACTION", 0.1), values.get("DATA.SEED", 0)
    if type(fraction) is not float or not 0 < fraction < 1:
        raise values.fault(
            "DATA.VAL_FRACTION", f"{fraction!r}, expected a number above 0 and below 1"
        )
    if type(seed) is not int:
        raise values.fault("DATA.SEED", f"{seed!r}, expected a whole number")
    return data, OwnData(bright, dark, fraction, seed)
