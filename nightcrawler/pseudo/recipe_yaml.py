"""Values of a recipe's YAML file, each with its place; a file may change another's (`_BASE_`, paths beside it)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.config.yaml_file import read_yaml
from nightcrawler.utils.errors import ConfigError

MAX_BASES = 8

# Flat key (`ENSEMBLE.WEIGHTS.ssv2`) to its value and place (`file:line`).
FoundValues = dict[str, tuple[Any, str]]


class Values:
    """The values of a file and of its bases.

    Args:
        found: flat keys to values and places.
        path: the file, for errors about what is not there.
    """

    def __init__(self, found: FoundValues, path: Path) -> None:
        self._found = found
        self._path = path

    def fault(self, key: str, what: str) -> ConfigError:
        """An error at the place of a key, to be raised."""
        places = [place for name, (_, place) in self._found.items() if _is_below(name, key)]
        return ConfigError(f"{places[0] if places else self._path}: {key}: {what}")

    def get(self, key: str, default: Any = None) -> Any:
        """A value, or all values below a key, as a dict by the rest of their names."""
        if key in self._found:
            return self._found[key][0]
        below = {
            name[len(key) + 1 :]: value
            for name, (value, _) in self._found.items()
            if _is_below(name, key)
        }
        return below or default

    def mapping(self, key: str) -> dict[str, Any]:
        """The values below a key by the rest of their names; empty where there are none.

        Raises:
            ConfigError: if the key has a value of its own.
        """
        value = self.get(key, {})
        if not isinstance(value, dict):
            raise self.fault(key, f"{value!r}, expected name: value lines")
        return value

    def nested(self) -> dict[str, Any]:
        """Return all values as nested sections, without their places.

        Raises:
            ConfigError: If a name is both a value and a section (`A: 1` beside `A.B: 2`).
        """
        sections: dict[str, Any] = {}
        for name, (value, _) in self._found.items():
            *parents, last = name.split(".")
            section = sections
            for parent in parents:
                section = section.setdefault(parent, {})
                if not isinstance(section, dict):
                    raise self.fault(name, f"{parent} is already given as a value")
            if last in section:
                raise self.fault(name, "is already given as a section")
            section[last] = value
        return sections

    def known(self, *keys: str) -> None:
        """Refuse what is neither one of these keys nor below one.

        Raises:
            ConfigError: naming the first.
        """
        for name in self._found:
            if not any(_is_below(name, key) for key in keys):
                raise self.fault(name, f"unknown key, expected {', '.join(keys)}")

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """One of `choices`.

        Raises:
            ConfigError: for anything else.
        """
        value = self.get(key, default)
        if value not in choices:
            raise self.fault(key, f"{value!r}, expected {', '.join(choices)}")
        return str(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or False.

        Raises:
            ConfigError: for anything else.
        """
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.fault(key, f"{value!r}, expected True or False")
        return value

    def moded(self, number: str) -> Values:
        """`MODELS`, and `ENSEMBLE` as the mode changes it: a name that the mode has is the mode's altogether."""
        own = self._below(f"MODES.{number}")
        changed = {name.split(".")[0] for name in own}
        shared = {
            name: v
            for name, v in self._below("ENSEMBLE").items()
            if name.split(".")[0] not in changed
        }
        models = {name: value for name, value in self._found.items() if _is_below(name, "MODELS")}
        return Values(
            {**models, **{f"ENSEMBLE.{name}": v for name, v in {**shared, **own}.items()}},
            self._path,
        )

    def _below(self, key: str) -> FoundValues:
        return {
            name[len(key) + 1 :]: v
            for name, v in self._found.items()
            if _is_below(name, key) and name != key
        }


def _is_below(name: str, key: str) -> bool:
    """Is `name` the key or below it?"""
    return f"{name}.".startswith(f"{key}.")


def is_views(given: Any) -> bool:
    """Whether it is `[views, crops]` that can be tested: 1 view or more, 1 crop or 3."""
    return (
        isinstance(given, list)
        and len(given) == 2
        and all(type(one) is int for one in given)
        and (given[0] > 0 and given[1] in (1, 3))
    )


def open_values(path: str | Path) -> Values:
    """Read a file and its bases.

    Raises:
        ConfigError: if one cannot be read, or they go round in circles.
    """
    return Values(_read(Path(path), 0), Path(path))


def _read(path: Path, depth: int) -> FoundValues:
    if depth > MAX_BASES:
        raise ConfigError(f"{path}: more than {MAX_BASES} bases on end: does a file name itself?")
    file, merged = read_yaml(path), FoundValues()
    for base in file.bases:
        _lay_over(merged, _read(path.parent / base, depth + 1))
    _lay_over(merged, {key: (value, file.at(key)) for key, value in file.values.items()})
    return merged


def _lay_over(merged: FoundValues, found: FoundValues) -> None:
    """Add `found`; a value takes the place of a mapping of that name, and a mapping that of a value."""
    for key in found:
        for old in [old for old in merged if _is_below(old, key) or _is_below(key, old)]:
            del merged[old]
    merged |= found
