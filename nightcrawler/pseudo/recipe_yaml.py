"""Values of a recipe's YAML file, each with its file and line.

A recipe may change another one (`_BASE_`, paths relative to the file).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.config.yaml import read_yaml
from nightcrawler.utils.errors import ConfigError

MAX_BASES = 8
MAX_FILES = 64

# Flat key (`ENSEMBLE.WEIGHTS.ssv2`) to its value and place (`file:line`).
FoundValues = dict[str, tuple[Any, str]]


class Values:
    """Values of a file and of its bases, looked up by flat keys.

    Args:
        found: flat keys to values and places.
        path: the file, for errors about missing keys.
    """

    def __init__(self, found: FoundValues, path: Path) -> None:
        self._found = found
        self._path = path

    def fault(self, key: str, message: str) -> ConfigError:
        """Return an error that names the place of a key, to be raised.

        Args:
            key: the key, or one that has keys below it.
            message: the fault.
        """
        place = str(self._path)
        for name, (_, found_at) in self._found.items():
            if _is_below(name, key):
                place = found_at
                break
        return ConfigError(f"{place}: {key}: {message}")

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, or all values below a key as a dict by the rest of their names.

        Args:
            key: the flat key.
            default: returned for a key that is not given.
        """
        if key in self._found:
            return self._found[key][0]
        below = {name: value for name, (value, _) in self._below(key).items()}
        return below or default

    def mapping(self, key: str) -> dict[str, Any]:
        """Return the values below a key by the rest of their names (empty without any).

        Args:
            key: the flat key.

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
        """Refuse every key that is neither one of these nor below one.

        Args:
            keys: flat keys that are read.

        Raises:
            ConfigError: naming the first unknown key.
        """
        # An unread key is an error: a misspelt one would silently mean the default.
        for name in self._found:
            if not any(_is_below(name, key) for key in keys):
                raise self.fault(name, f"unknown key, expected {', '.join(keys)}")

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """Return a value that is one of `choices`.

        Args:
            key: the flat key.
            choices: allowed values.
            default: returned for a key that is not given.

        Raises:
            ConfigError: for anything else.
        """
        value = self.get(key, default)
        if value not in choices:
            raise self.fault(key, f"{value!r}, expected {', '.join(choices)}")
        return str(value)

    def flag(self, key: str, default: bool) -> bool:
        """Return a value that is True or False.

        Args:
            key: the flat key.
            default: returned for a key that is not given.

        Raises:
            ConfigError: for anything else.
        """
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.fault(key, f"{value!r}, expected True or False")
        return value

    def for_mode(self, number: str) -> Values:
        """Return `MODELS`, and `ENSEMBLE` as a mode changes it.

        A name that the mode has replaces the whole mapping of that name in `ENSEMBLE`: its
        weights are not merged with the shared ones.

        Args:
            number: of the mode, a key below `MODES`.
        """
        own = self._below(f"MODES.{number}")
        # Top-level names below ENSEMBLE: VIEWS, WEIGHTS, LED, ...
        changed = {name.split(".")[0] for name in own}
        found = {name: value for name, value in self._found.items() if _is_below(name, "MODELS")}
        for name, value in self._below("ENSEMBLE").items():
            if name.split(".")[0] not in changed:
                found[f"ENSEMBLE.{name}"] = value
        for name, value in own.items():
            found[f"ENSEMBLE.{name}"] = value
        return Values(found, self._path)

    def _below(self, key: str) -> FoundValues:
        """Return the values below a key, without the key itself, by the rest of their names."""
        return {
            name[len(key) + 1 :]: value
            for name, value in self._found.items()
            if _is_below(name, key) and name != key
        }


def _is_below(name: str, key: str) -> bool:
    """Return whether `name` is the key or below it."""
    # With dots, so that ENSEMBLE.LEADER is not below ENSEMBLE.LEAD.
    return f"{name}.".startswith(f"{key}.")


def is_views(given: Any) -> bool:
    """Return whether a value is `[views, crops]` that can be tested: 1 crop or 3.

    Args:
        given: read from a recipe.
    """
    if not isinstance(given, list) or len(given) != 2:
        return False
    # `type` and not `isinstance`: True and False are ints too.
    return all(type(one) is int for one in given) and given[0] > 0 and given[1] in (1, 3)


def open_values(path: str | Path) -> Values:
    """Read a file and its bases.

    Args:
        path: the YAML file.

    Raises:
        ConfigError: if one cannot be read, or a file is its own base.
    """
    return Values(_read(Path(path), 0, []), Path(path))


def _read(path: Path, depth: int, read: list[Path]) -> FoundValues:
    """Return the values of a file laid over those of its bases, and note the file in `read`."""
    if depth > MAX_BASES:
        raise ConfigError(
            f"{path}: more than {MAX_BASES} bases on end: is a file its own base (_BASE_)?"
        )
    read.append(path)
    if len(read) > MAX_FILES:
        raise ConfigError(f"{read[0]}: has more than {MAX_FILES} bases in all (_BASE_)")
    file = read_yaml(path)
    merged = FoundValues()
    # Later bases change earlier ones, and the file changes all of them.
    for base in file.bases:
        _lay_over(merged, _read(path.parent / base, depth + 1, read))
    _lay_over(merged, {key: (value, file.at(key)) for key, value in file.values.items()})
    return merged


def _lay_over(merged: FoundValues, found: FoundValues) -> None:
    """Add `found`, with values in place of mappings of the same name and vice versa."""
    for key in found:
        for old in list(merged):
            if _is_below(old, key) or _is_below(key, old):
                del merged[old]
    # Mappings are merged key by key: a file changes one weight without naming all.
    merged |= found
