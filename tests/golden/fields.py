"""Case files as objects that know which of their fields were used, so that none is passed over."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Fields that describe a case and hold neither a figure nor a setting. `config_overrides` and
# `base_config` tell where `resolved_config` comes from, which is what models are built from.
NOTES = frozenset(
    {
        "base_config",
        "case",
        "config_overrides",
        "f32_vs_f64",
        "fill",
        "from_case",
        "input_note",
        "logit_abs_range",
        "model_name",
        "reference_repo",
        "run_sh_overrides_from",
        "seconds_cpu_2core",
        "slowfast_pack",
        "split",
    }
)


class Refusal(Exception):
    """A case that cannot be judged: an unknown kind, field or value, or no case at all."""


class MissingField(KeyError):
    """A field that a kind of case needs is absent."""

    def __str__(self) -> str:
        return str(self.args[0])


class Fields(Mapping[str, Any]):
    """A JSON object that remembers which of its fields were read.

    Args:
        values: the fields; objects inside are given the same memory.
        place: where the object stands in its file, such as `steps[0]`, empty for the whole.
    """

    def __init__(self, values: Mapping[str, Any], place: str = "") -> None:
        self.place = place
        self._values = {name: _wrapped(value, self.path(name)) for name, value in values.items()}
        self._read: set[str] = set()

    def path(self, name: str) -> str:
        """Where a field stands in the file, such as `steps[0].lr`."""
        return f"{self.place}.{name}" if self.place else name

    def __getitem__(self, name: str) -> Any:
        if name not in self._values:
            raise MissingField(f"field {self.path(name)} is missing")
        self._read.add(name)
        return self._values[name]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def unread(self) -> Iterator[str]:
        """Paths of fields that nothing has read, apart from notes."""
        for name, value in self._values.items():
            if name in NOTES or _is_prose(value):
                continue
            if name in self._read:
                yield from _unread_inside(value)
            else:
                yield self.path(name)


def _wrapped(value: Any, place: str) -> Any:
    if isinstance(value, Mapping):
        return Fields(value, place)
    if isinstance(value, list):
        return [_wrapped(item, f"{place}[{number}]") for number, item in enumerate(value)]
    return value


def _unread_inside(value: Any) -> Iterator[str]:
    if isinstance(value, Fields):
        yield from value.unread()
    elif isinstance(value, list):
        for item in value:
            yield from _unread_inside(item)


def _is_prose(value: Any) -> bool:
    """A text of several words explains; settings are single words or numbers."""
    return isinstance(value, str) and " " in value


def _no_name_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Refusal(f"field {twice!r} is there twice")
    return values


def read_case(path: Path) -> Fields:
    """Read a case file.

    Raises:
        Refusal: if it cannot be read, is not JSON, or holds no object.
    """
    try:
        case = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_no_name_twice)
    except OSError as error:
        raise Refusal(f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise Refusal(f"is not JSON: {error}") from error
    if not isinstance(case, dict):
        raise Refusal(f"holds no object but {type(case).__name__}")
    return Fields(case)
