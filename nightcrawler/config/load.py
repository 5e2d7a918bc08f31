"""Load a configuration: defaults, bases, the experiment's file, overlays, overrides.

All faults are reported together, one line each, with file and line.
"""

from __future__ import annotations

import difflib
import itertools
import os
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from nightcrawler.config.check import check, reset_idle_keys
from nightcrawler.config.node import get_cfg
from nightcrawler.config.schema import SCHEMA
from nightcrawler.config.yaml import YamlFile, parse_value, read_yaml
from nightcrawler.utils.errors import ConfigError, UserError
from nightcrawler.utils.plugins import import_user_module, load_plugins

MAX_FILES = 64
# Least similarity of a key that is suggested: one slip of a hand, not another word.
CLOSE = 0.8
COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Setting:
    """One value that was set.

    Attributes:
        key: `SECTION.KEY`.
        value: As it was read.
        where: Its place: `file:line` or `command line`.
        is_optional: Left out, not an error, where the key has no effect (`_OPTIONAL_`).
    """

    key: str
    value: Any
    where: str
    is_optional: bool = False


def recorded_defaults() -> dict[str, str]:
    """Return what earlier versions did in the place of keys that they did not have.

    These are the `defaults` with which to load a configuration that a run recorded.
    """
    return {name: key.earlier for name, key in SCHEMA.items() if key.earlier is not None}


def load_experiment(
    path: str | Path,
    overlays: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    root: str | Path | None = None,
    trusted: Collection[str] | None = None,
    defaults: Mapping[str, str] | None = None,
    is_record: bool = False,
) -> CfgNode:
    """Load and check the configuration of an experiment.

    Later values win: defaults, the bases of `path` (in order), `path`, each overlay (after its own
    bases), overrides. Modules named by `IMPORTS` and installed plugins are imported before names
    are checked.

    Args:
        path: YAML file of the experiment.
        overlays: YAML files laid over it.
        overrides: `KEY VALUE` pairs, flat.
        root: Folder that bases may not leave (default: the project's root, or the file's folder).
        defaults: Texts of keys that neither the files nor the overrides set.
        is_record: A run wrote the files, perhaps an earlier version: keys without effect in them
            return to their defaults, and are no fault.
        trusted: Modules that `IMPORTS` may name (default: any, for files of the user's own).

    Returns:
        The frozen configuration.

    Raises:
        ConfigError: With one line per fault.

    Example:
        >>> path = "exp_adapt_bn/uniformer_b32_k600/config.yaml"
        >>> cfg = load_experiment(path, overrides=["SOLVER.MAX_EPOCH", "12"])
        >>> cfg.MODEL.NAME, cfg.SOLVER.MAX_EPOCH
        ('uniformer', 12)
    """
    # Types come before values: the check relies on the types, and reads keys that others need.
    settings: list[Setting] = []
    for key, value in (defaults or {}).items():
        settings.append(Setting(key, value, "default"))
    for file in (path, *overlays):
        settings += _settings_in_file(_resolved(Path(file), str(file)), root)
    settings += _settings_in_overrides(overrides)
    cfg = get_cfg()
    _apply_all(cfg, settings)
    # The last place wins, as the last value does.
    last = {setting.key: setting for setting in settings}
    where = {key: setting.where for key, setting in last.items()}
    _import_named_modules(cfg.IMPORTS, where.get("IMPORTS", "default"), trusted)
    may_be_idle = [
        key
        for key, setting in last.items()
        if setting.is_optional or (is_record and setting.where != COMMAND_LINE)
    ]
    reset_idle_keys(cfg, may_be_idle)
    check(cfg, where)
    cfg.freeze()
    return cfg


def _apply_all(cfg: CfgNode, settings: Sequence[Setting]) -> None:
    """Set values in turn.

    Raises:
        ConfigError: With one line per value that cannot be set.
    """
    faults: list[str] = []
    for setting in settings:
        try:
            _apply(cfg, setting)
        except ValueError as error:
            faults.append(f"{setting.where}: {error}")
    if faults:
        # A base that two files share would report its faults twice.
        raise ConfigError("\n".join(dict.fromkeys(faults)))


def _boundary_of(path: Path) -> Path:
    """Return the nearest folder above a file that holds `configs/`, or the file's folder."""
    for folder in path.parents:
        if (folder / "configs").is_dir():
            return folder
    return path.parent


def _import_named_modules(
    names: Sequence[str], where: str, trusted: Collection[str] | None
) -> None:
    """Import plugins and the modules of `IMPORTS`, which register names.

    Raises:
        ConfigError: If one cannot be imported, or is not trusted. Then none is imported.
    """
    refused = [name for name in names if trusted is not None and name not in trusted]
    if refused:
        listed = " ".join(refused)
        raise ConfigError(
            f"{where}: IMPORTS: wants to import {listed}, and importing a module runs it; if you "
            f"trust this code, give --imports {listed} (in Python: imports={refused})"
        )
    try:
        load_plugins()
    except UserError as error:
        raise ConfigError(str(error)) from error
    faults = []
    for name in names:
        try:
            import_user_module(name)
        except UserError as error:
            faults.append(f"{where}: IMPORTS: {error}")
    if faults:
        raise ConfigError("\n".join(faults))


def _settings_in_file(path: Path, root: str | Path | None) -> list[Setting]:
    """Return the settings of a file after those of its bases."""
    boundary = _boundary_of(path) if root is None else Path(root).resolve()
    # One more than the limit shows that it is exceeded; files name each other without end.
    files = list(itertools.islice(_chain(path, boundary, ()), MAX_FILES + 1))
    if len(files) > MAX_FILES:
        raise ConfigError(f"{path}: _BASE_ leads to more than {MAX_FILES} files")
    settings = []
    for file in files:
        for key, value in file.values.items():
            settings.append(Setting(key, value, file.at(key), key in file.optional))
    return settings


def _resolved(path: Path, where: str) -> Path:
    """Return a path without symbolic links.

    Raises:
        ConfigError: If the system refuses the path.
    """
    try:
        found = path.resolve()
        found.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{where}: not a usable path ({error})") from None
    return found


def _chain(path: Path, boundary: Path, above: tuple[Path, ...]) -> Iterator[YamlFile]:
    """Yield the bases of a file, depth first, then the file.

    Args:
        path: The file.
        boundary: Folder that bases may not leave.
        above: Files whose bases led here.

    Raises:
        ConfigError: For a circle, a missing base, or one outside the boundary.
    """
    if path in above:
        circle = " -> ".join(str(file) for file in (*above, path))
        raise ConfigError(f"{above[-1]}: _BASE_ goes in a circle: {circle}")
    if len(above) >= MAX_FILES:
        raise ConfigError(
            f"{path}: _BASE_ leads to more than {MAX_FILES} files on top of each other"
        )
    file = read_yaml(path)
    for name in file.bases:
        base = _resolved(path.parent / name, f"{path}: _BASE_ {name!r}")
        if not base.is_relative_to(boundary):
            raise ConfigError(f"{path}: _BASE_ {name!r} leads out of {boundary}")
        if not base.is_file():
            raise ConfigError(f"{path}: _BASE_ {name!r} does not exist ({base})")
        yield from _chain(base, boundary, (*above, path))
    yield file


def _settings_in_overrides(overrides: Sequence[str]) -> list[Setting]:
    """Return the settings of the command line.

    Raises:
        ConfigError: If a key has no value, or a value is not plain YAML.
    """
    joined = [one for one in overrides[::2] if "=" in one]
    if joined:
        key, _, value = joined[0].partition("=")
        raise ConfigError(
            f"{COMMAND_LINE}: {joined[0]}: overrides are KEY VALUE pairs: write {key} "
            f"{shlex.quote(value)}"
        )
    if len(overrides) % 2:
        raise ConfigError(
            f"{COMMAND_LINE}: {overrides[-1]}: overrides are KEY VALUE pairs, this one has no "
            "partner"
        )
    settings = []
    faults = []
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        # Text is taken literally: as YAML, 'runs/a #1' would lose its end and '2024' be a number.
        is_text = key in SCHEMA and isinstance(SCHEMA[key].default, str)
        try:
            if is_text and not text.startswith(("'", '"')):
                settings.append(Setting(key, text, COMMAND_LINE))
            else:
                settings.append(Setting(key, parse_value(text), COMMAND_LINE))
        except ValueError as error:
            faults.append(f"{COMMAND_LINE}: {key}: {error}")
    if faults:
        raise ConfigError("\n".join(faults))
    return settings


def _apply(cfg: CfgNode, setting: Setting) -> None:
    """Set one value.

    Raises:
        ValueError: If there is no such key, or the value has another type.
    """
    key = setting.key
    if key not in SCHEMA:
        if any(name.startswith(f"{key}.") for name in SCHEMA):
            raise ValueError(f"{key} is a section: expected `{key}:` with keys below it")
        raise ValueError(f"{key}: unknown key{_suggestion(key)}")
    *sections, last = key.split(".")
    node = cfg
    for section in sections:
        node = node[section]
    declared = SCHEMA[key]
    like = declared.default
    value = _expanded(setting.value)
    if declared.element is not None:
        like = [declared.element]
    try:
        node[last] = converted(value, like)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _expanded(value: Any) -> Any:
    """Return a value with the home folder in place of a leading `~`, as a shell would put it."""
    # In quotes, or behind `KEY: `, no shell has replaced it.
    if isinstance(value, str) and value.startswith("~") and "/" in value:
        return os.path.expanduser(value)
    if isinstance(value, list):
        return [_expanded(item) for item in value]
    return value


def _suggestion(key: str) -> str:
    """Return a hint with the closest key, by its whole name or else by its last part."""
    # MAX_EPOCH alone, or in the wrong section, is found by its last part.
    close = difflib.get_close_matches(key.upper(), SCHEMA, n=1, cutoff=CLOSE)
    if not close:
        full_names = {name.rpartition(".")[2]: name for name in SCHEMA}
        last = key.rpartition(".")[2].upper()
        close = [
            full_names[name]
            for name in difflib.get_close_matches(last, list(full_names), n=1, cutoff=CLOSE)
        ]
    return f"; did you mean {close[0]}?" if close else ""


def converted(value: Any, default: Any) -> Any:
    """Return a value as the type of a default.

    A whole number passes for a float, a scalar for a list of such scalars.

    Args:
        value: Plain value, as read.
        default: Value of the wanted type. Elements of a list must fit its first element.

    Raises:
        ValueError: If the value does not fit.
    """
    if isinstance(default, list):
        return _converted_list(value if isinstance(value, list) else [value], default)
    # bool is a subclass of int: without this check True would pass for a number.
    if isinstance(default, bool) or isinstance(value, bool):
        fits = isinstance(default, bool) and isinstance(value, bool)
    elif isinstance(default, float):
        fits = isinstance(value, (int, float))
    else:
        fits = type(value) is type(default)
    if not fits:
        raise ValueError(f"expected {_kind_of(default)}, found {_kind_of(value)} {value!r}")
    return _as_float(value) if isinstance(default, float) else value


def _as_float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError("is too large a number") from None


def _converted_list(value: list[Any], default: list[Any]) -> list[Any]:
    if not default:
        return _whole_numbers(value)
    if not isinstance(default[0], list):
        return [converted(item, default[0]) for item in value]
    rows = []
    for row in value:
        if not isinstance(row, list):
            raise ValueError(f"expected a list of lists such as {default[0]}, found {value!r}")
        # Elements beyond the example's length fit its last one.
        likes = default[0] + [default[0][-1]] * len(row)
        rows.append([converted(item, like) for item, like in zip(row, likes, strict=False)])
    return rows


def _whole_numbers(value: list[Any]) -> list[Any]:
    """Return a list of whole numbers, or of lists of them, unchanged.

    Raises:
        ValueError: If an element is anything else.
    """
    for row in value:
        for item in row if isinstance(row, list) else [row]:
            if type(item) is not int:
                raise ValueError(f"expected a list of whole numbers, found {value!r}")
    return value


def _kind_of(value: Any) -> str:
    names = {
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
    }
    if value is None:
        return "nothing"
    return names.get(type(value), f"a {type(value).__name__}")
