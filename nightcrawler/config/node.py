"""Loading a configuration: defaults, bases, the experiment's file, overlays, overrides; checked, then frozen."""

from __future__ import annotations

import difflib
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from nightcrawler.config.defaults import FILLED, get_cfg
from nightcrawler.config.yaml_file import FLOAT, YamlFile, parse_value, read_yaml
from nightcrawler.utils.errors import ConfigError

MAX_FILES = 64


@dataclass(frozen=True)
class Setting:
    """One value somebody set, and where (`file:line`, or `command line`)."""

    key: str
    value: Any
    where: str


def load_experiment(
    path: str | Path,
    overlays: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    root: str | Path | None = None,
) -> CfgNode:
    """The frozen configuration of an experiment.

    Later wins: defaults, the bases of `path` (in order), `path`, each overlay (after its own bases), overrides.

    Args:
        path: the experiment's YAML file.
        overlays: YAML files laid over it.
        overrides: `KEY VALUE` pairs, flat: `["SOLVER.MAX_EPOCH", "2"]`.
        root: folder that bases may not leave; the project's root, or the file's own folder, when absent.

    Raises:
        ConfigError: with a line per fault.
    """
    from nightcrawler.config.check import check

    settings: list[Setting] = []
    for file in (path, *overlays):
        settings += _settings_of(_resolved(Path(file), str(file)), root)
    settings += _settings_of_overrides(overrides)
    cfg = get_cfg()
    faults = [fault for setting in settings if (fault := _apply(cfg, setting))]
    if faults:
        raise ConfigError("\n".join(dict.fromkeys(faults)))
    check(cfg, {setting.key: setting.where for setting in settings})
    cfg.freeze()
    return cfg


def project_root(path: Path) -> Path:
    """The nearest folder above `path` that holds `configs/`, or the folder of `path`."""
    return next((folder for folder in path.parents if (folder / "configs").is_dir()), path.parent)


def _settings_of(path: Path, root: str | Path | None) -> list[Setting]:
    """Settings of a file after those of its bases."""
    boundary = Path(root).resolve() if root is not None else project_root(path)
    files = list(itertools.islice(_chain(path, boundary, ()), MAX_FILES + 1))
    if len(files) > MAX_FILES:
        raise ConfigError(f"{path}: _BASE_ leads to more than {MAX_FILES} files")
    return [
        Setting(key, value, file.at(key)) for file in files for key, value in file.values.items()
    ]


def _resolved(path: Path, where: str) -> Path:
    """The path without links, if its file can be looked at."""
    try:
        found = path.resolve()
        found.is_file()
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{where}: not a usable path ({error})") from None
    return found


def _chain(path: Path, boundary: Path, above: tuple[Path, ...]) -> Iterator[YamlFile]:
    if path in above:
        raise ConfigError(
            f"{above[-1]}: _BASE_ goes in a circle: {' -> '.join(str(p) for p in (*above, path))}"
        )
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


def _settings_of_overrides(overrides: Sequence[str]) -> list[Setting]:
    if len(overrides) % 2:
        raise ConfigError(
            f"command line: {overrides[-1]}: overrides are KEY VALUE pairs, this one has no partner"
        )
    settings, faults, defaults = [], [], flatten(get_cfg())
    for key, text in zip(overrides[::2], overrides[1::2], strict=True):
        # Text is taken as it is: as YAML, 'runs/a #1' would lose its end and '2024' be a number.
        is_text = isinstance(defaults.get(key), str) and not text.startswith(("'", '"'))
        try:
            settings.append(Setting(key, text if is_text else parse_value(text), "command line"))
        except ValueError as error:
            faults.append(f"command line: {key}: {error}")
    if faults:
        raise ConfigError("\n".join(faults))
    return settings


def _apply(cfg: CfgNode, setting: Setting) -> str | None:
    """Set one value; returns the fault, if any."""
    *sections, name = setting.key.split(".")
    node: Any = cfg
    for section in sections:
        node = node.get(section) if isinstance(node, CfgNode) else None
    if not isinstance(node, CfgNode) or name not in node:
        return f"{setting.where}: {setting.key}: unknown key{_suggest(cfg, setting.key)}"
    default = node[name]
    if isinstance(default, CfgNode):
        return f"{setting.where}: {setting.key} is a section: expected `{name}:` with keys below it"
    try:
        node[name] = converted(setting.value, default or FILLED.get(setting.key, default))
    except ValueError as error:
        return f"{setting.where}: {setting.key}: {error}"
    return None


def _suggest(cfg: CfgNode, key: str) -> str:
    known = list(flatten(cfg))
    close = difflib.get_close_matches(key.upper(), known, n=1, cutoff=0.6)
    if not close:
        tails = {name.rsplit(".", 1)[-1]: name for name in known}
        close = [
            tails[tail]
            for tail in difflib.get_close_matches(key.rsplit(".", 1)[-1].upper(), tails, n=1)
        ]
    return f"; did you mean {close[0]}?" if close else ""


def converted(value: Any, default: Any) -> Any:
    """`value` as the type of `default`: an int passes for a float, a scalar for a list of such scalars.

    Raises:
        ValueError: if it does not fit.
    """
    if isinstance(default, list):
        return _converted_list(value if isinstance(value, list) else [value], default)
    if isinstance(default, bool) or isinstance(value, bool):
        fits = isinstance(default, bool) and isinstance(value, bool)
    elif isinstance(default, float):
        fits = isinstance(value, (int, float))
        value = _float(value) if fits else value
    else:
        fits = type(value) is type(default)
    if not fits:
        raise ValueError(f"expected {_kind(default)}, found {_kind(value)} {value!r}")
    return value


def _float(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise ValueError("is too large a number") from None


def _converted_list(value: list[Any], default: list[Any]) -> list[Any]:
    """Elements must fit the default's first; an empty default (pooling) takes whole numbers, or lists of them."""
    if default and isinstance(default[0], list):
        if not all(isinstance(row, list) for row in value):
            raise ValueError(f"expected a list of lists such as {default[0]}, found {value!r}")
        return [
            [converted(item, default[0][min(i, len(default[0]) - 1)]) for i, item in enumerate(row)]
            for row in value
        ]
    if default:
        return [converted(item, default[0]) for item in value]
    flat = [item for row in value for item in (row if isinstance(row, list) else [row])]
    if not all(isinstance(item, int) and not isinstance(item, bool) for item in flat):
        raise ValueError(f"expected a list of whole numbers, found {value!r}")
    return value


def _kind(value: Any) -> str:
    names = {
        bool: "True or False",
        int: "a whole number",
        float: "a number",
        str: "text",
        list: "a list",
    }
    return names.get(type(value), "nothing" if value is None else f"a {type(value).__name__}")


def flatten(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    """Every leaf, `SECTION.KEY` to value, in order of definition."""
    leaves: dict[str, Any] = {}
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            leaves |= flatten(value, f"{prefix}{name}.")
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def changed_from_defaults(cfg: CfgNode) -> dict[str, Any]:
    """The leaves whose value is not the default."""
    defaults = flatten(get_cfg())
    return {key: value for key, value in flatten(cfg).items() if value != defaults[key]}


class _Dumper(yaml.SafeDumper):
    """Quotes text that would load back as something else: `1e5`, and line ends that YAML folds."""


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    unsafe = FLOAT.fullmatch(text) or any(end in text for end in "\x85\u2028\u2029")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if unsafe else None)


_Dumper.add_representer(str, _quoted)


def dump(cfg: CfgNode) -> str:
    """The configuration as YAML text that loads back to the same values."""

    def plain(node: Any) -> Any:
        return (
            {key: plain(value) for key, value in node.items()} if isinstance(node, dict) else node
        )

    options: dict[str, Any] = {
        "sort_keys": False,
        "width": 120,
        "default_flow_style": None,
        "allow_unicode": True,
    }
    return yaml.dump(plain(cfg), Dumper=_Dumper, **options)


def config_hash(cfg: CfgNode, ignore: Sequence[str] = ()) -> str:
    """The first 16 hex digits of a SHA-256 over all leaves but those named in `ignore` (keys or whole sections)."""
    kept = {
        key: value
        for key, value in sorted(flatten(cfg).items())
        if not any(key == name or key.startswith(f"{name}.") for name in ignore)
    }
    return hashlib.sha256(yaml.safe_dump(kept, sort_keys=True).encode()).hexdigest()[:16]
