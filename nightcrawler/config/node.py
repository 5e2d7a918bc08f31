"""Configuration nodes: defaults, flat view, YAML text and hash."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Sequence
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from nightcrawler.config.schema import SCHEMA
from nightcrawler.config.yaml import FLOAT

# Ends of lines that YAML would fold into a space.
LINE_ENDS = ("\x85", "\u2028", "\u2029")


def get_cfg() -> CfgNode:
    """Return a new, unfrozen configuration with every default.

    Example:
        >>> get_cfg().SOLVER.MAX_EPOCH
        20
    """
    cfg = CfgNode()
    for name, key in SCHEMA.items():
        node = cfg
        *sections, last = name.split(".")
        for section in sections:
            if section not in node:
                node[section] = CfgNode()
            node = node[section]
        node[last] = copy.deepcopy(key.default)
    return cfg


def set_value(cfg: CfgNode, key: str, value: Any) -> None:
    """Set a key such as `SOLVER.BASE_LR` to a copy of a value.

    Args:
        cfg: Configuration that is not frozen.
        key: Name with its sections.
        value: Value of the key's type.
    """
    *sections, last = key.split(".")
    node = cfg
    for section in sections:
        node = node[section]
    node[last] = copy.deepcopy(value)


def flatten(cfg: CfgNode, prefix: str = "") -> dict[str, Any]:
    """Return all leaves, `SECTION.KEY` to value, in order of declaration.

    Args:
        cfg: Configuration or section.
        prefix: Text before each name.
    """
    leaves: dict[str, Any] = {}
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            leaves.update(flatten(value, f"{prefix}{name}."))
        else:
            leaves[f"{prefix}{name}"] = value
    return leaves


def changed_from_defaults(cfg: CfgNode) -> dict[str, Any]:
    """Return the leaves whose value is not the default."""
    return {key: value for key, value in flatten(cfg).items() if value != SCHEMA[key].default}


class _Dumper(yaml.SafeDumper):
    """Writer that quotes text which would load back as another value."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # PyYAML writes `1e5` without quotes: its own reader takes it for text, ours for a number.
    unsafe = FLOAT.fullmatch(text) is not None or any(end in text for end in LINE_ENDS)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if unsafe else None)


_Dumper.add_representer(str, _represent_text)


def _plain(node: Any) -> Any:
    """Return nested dictionaries instead of configuration nodes."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items()}
    return node


def dump(cfg: CfgNode) -> str:
    """Return the configuration as YAML text that loads back to the same values."""
    options: dict[str, Any] = {
        "sort_keys": False,
        "width": 120,
        "default_flow_style": None,
        "allow_unicode": True,
    }
    return yaml.dump(_plain(cfg), Dumper=_Dumper, **options)


def config_hash(cfg: CfgNode, ignore: Sequence[str] = ()) -> str:
    """Return the first 16 hex digits of a SHA-256 over all leaves.

    Args:
        cfg: Configuration.
        ignore: Keys or whole sections to leave out.
    """
    kept = {}
    for key, value in sorted(flatten(cfg).items()):
        ignored = any(key == name or key.startswith(f"{name}.") for name in ignore)
        if not ignored and not _is_unhashed_default(key, value):
            kept[key] = value
    return hashlib.sha256(yaml.safe_dump(kept, sort_keys=True).encode()).hexdigest()[:16]


def _is_unhashed_default(key: str, value: Any) -> bool:
    declared = SCHEMA.get(key)
    if declared is None or declared.hashed_by_default:
        return False
    return value == (declared.default if declared.earlier is None else declared.earlier)
