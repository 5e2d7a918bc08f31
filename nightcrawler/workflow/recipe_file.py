"""File format of a pipeline recipe, declared with pydantic."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictInt,
    StrictStr,
    ValidationError,
)

from nightcrawler.pseudo.recipe_yaml import Values, is_views
from nightcrawler.utils.errors import ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
# Folder of the equal-step controls, and therefore no name of a model or stage.
CONTROL = "control"
# Folder of the trainings on true labels, likewise.
CEILING = "ceiling"


def _list_of(value: Any) -> Any:
    """Accept one name where a list of names is expected."""
    return [value] if isinstance(value, str) else value


def _check_unique(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(names)) < len(names):
        raise ValueError(f"{list(names)}: a name is given twice")
    return names


def _empty_section(value: Any) -> Any:
    """Accept `name:` without a value as an empty section."""
    return {} if value is None else value


def _sections_of(value: Any) -> Any:
    """Accept a list of names as empty sections of these names."""
    if not isinstance(value, list):
        return value
    sections: dict[Any, dict[str, Any]] = {}
    for name in value:
        if not isinstance(name, str) or name in sections:
            raise ValueError(f"{name!r}: expected a list of different names")
        sections[name] = {}
    return sections


def _check_name(name: str) -> str:
    if not NAME.fullmatch(name) or name in (CONTROL, CEILING):
        raise ValueError(
            f"{name!r}: expected a name of letters, digits, _ and - other than {CONTROL!r} and "
            f"{CEILING!r}"
        )
    return name


def _check_views(value: Any) -> tuple[tuple[int, int], ...]:
    pairs = value if isinstance(value, list) else [value]
    for pair in pairs:
        if not is_views(pair):
            raise ValueError(f"{value!r}: expected a list of [views, crops] with 1 or 3 crops")
    return tuple((views, crops) for views, crops in pairs)


def as_text(value: Any) -> str:
    """Return a YAML value as the text of a command-line override."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_settings(values: Any) -> dict[str, str]:
    """Return configuration keys and values as text, nested sections as dotted keys.

    Args:
        values: Mapping of keys, or of sections of keys, to plain values.

    Raises:
        ValueError: If it is not a mapping.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{values!r}: expected KEY: value lines")
    settings: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, dict) and value:
            for rest, text in as_settings(value).items():
                settings[f"{key}.{rest}"] = text
        elif isinstance(value, bool):
            # `True` and `False` as configuration files spell them, not as JSON does.
            settings[key] = str(value)
        else:
            settings[key] = as_text(value)
    return settings


Text = Annotated[StrictStr, Field(min_length=1)]
Names = Annotated[tuple[Text, ...], BeforeValidator(_list_of), AfterValidator(_check_unique)]
SectionName = Annotated[StrictStr, AfterValidator(_check_name)]
Settings = Annotated[dict[str, str], BeforeValidator(as_settings)]
# [views, crops] of a results file.
Views = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_check_views)]


class Section(BaseModel):
    """Section of a recipe: keys in upper case, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=str.upper)


class ModelSection(Section):
    """`MODELS.NAME`."""

    config: Names = ()
    settings: Settings = Field(default_factory=dict, alias="SET")


class StageSection(Section):
    """`STAGES.NAME`."""

    config: Names = ()
    labels: StrictStr = ""
    labelled_by: Names = ()
    models: Names | None = None
    settings: Settings = Field(default_factory=dict, alias="SET")


class DataSection(Section):
    """`DATA`: the data folder, and the user's own videos that fill it."""

    folder: Text | None = None
    bright: Text | None = None
    dark: Text | None = None
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    seed: StrictInt = 0
    recordings: Text = "name"


class TestSection(Section):
    """`TEST`."""

    splits: Names = ()


class VoteSection(Section):
    """`VOTE`."""

    recipe: StrictStr | None = None
    views: Views = ()
    rounds: Annotated[StrictInt, Field(ge=1)] = 1
    split: Text = "test"


class Resources(Section):
    """`RESOURCES.KIND`: share of a cluster for each task of a kind, `None` for its default."""

    cpus: Annotated[StrictInt, Field(ge=1)] | None = None
    memory_gb: Annotated[float, Field(gt=0)] | None = None
    gpus: Annotated[StrictInt, Field(ge=0)] | None = None
    minutes: Annotated[StrictInt, Field(ge=1)] | None = None
    partition: Text | None = None


class ResourcesSection(Section):
    """`RESOURCES`: a section for each kind of task."""

    data: Resources = Resources()
    train: Resources = Resources()
    test: Resources = Resources()
    label: Resources = Resources()
    vote: Resources = Resources()

    def of(self, kind: str) -> Resources:
        """Return the share of a task of a kind."""
        found = getattr(self, kind)
        assert isinstance(found, Resources)
        return found


ModelOrNothing = Annotated[ModelSection, BeforeValidator(_empty_section)]
StageOrNothing = Annotated[StageSection, BeforeValidator(_empty_section)]
ModelSections = Annotated[
    dict[SectionName, ModelOrNothing], BeforeValidator(_sections_of), Field(min_length=1)
]
StageSections = Annotated[
    dict[SectionName, StageOrNothing], BeforeValidator(_sections_of), Field(min_length=1)
]


class RecipeFile(Section):
    """A whole recipe file."""

    data: DataSection = DataSection()
    overlay: Names = ()
    settings: Settings = Field(default_factory=dict, alias="SET")
    models: ModelSections
    stages: StageSections
    unlabelled: Text = "total_unlabel"
    test: TestSection = TestSection()
    vote: VoteSection = VoteSection()
    resources: ResourcesSection = ResourcesSection()
    stop_below: Annotated[float, Field(ge=0, le=1)] = 0.0
    control: Names = ()


def parse_recipe_file(values: Values) -> RecipeFile:
    """Check the values of a recipe file.

    Raises:
        ConfigError: One line for each error, with file, line and key.
    """
    try:
        return RecipeFile.model_validate(values.nested())
    except ValidationError as error:
        raise ConfigError("\n".join(_lines_of(error, values))) from None


def _lines_of(error: ValidationError, values: Values) -> list[str]:
    """Return one line for each error that pydantic found: `file:line: KEY: message`."""
    lines = []
    for one in error.errors():
        # A faulty key of a dict has the location (..., key, "[key]").
        key = ".".join(str(part) for part in one["loc"] if part != "[key]")
        if one["type"] == "extra_forbidden":
            message = f"unknown key, expected {', '.join(keys_at(one['loc'][:-1]))}"
        elif one["type"] == "missing":
            message = "expected at least one"
        elif one["type"] == "value_error":
            message = str(one["ctx"]["error"])
        elif one["type"] in ("dict_type", "model_type"):
            # The text of pydantic names our classes.
            message = f"{one['input']!r}: expected KEY: value lines"
        else:
            message = f"{one['input']!r}: {one['msg'].replace('Input should', 'it should')}"
        lines.append(str(values.fault(key, message)))
    return lines


def keys_at(location: Sequence[int | str]) -> list[str]:
    """Return the keys of the section at a location of the file."""
    # Locations of unknown keys lie in the file itself or in a section below one of these.
    section: type[Section] = RecipeFile
    sections: dict[str, type[Section]] = {
        "DATA": DataSection,
        "MODELS": ModelSection,
        "STAGES": StageSection,
        "TEST": TestSection,
        "VOTE": VoteSection,
        "RESOURCES": ResourcesSection,
    }
    if location:
        section = sections[str(location[0])]
    if section is ResourcesSection and len(location) > 1:
        section = Resources
    return [str(info.alias) for info in section.model_fields.values()]
