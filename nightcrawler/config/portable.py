"""Configurations for other machines: without paths of the machine that wrote them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from fvcore.common.config import CfgNode

from nightcrawler.config.node import dump
from nightcrawler.config.schema import SCHEMA
from nightcrawler.config.yaml import parse_yaml

# Keys that say where files of a run lie: others have them elsewhere.
PLACES = ("OUTPUT_DIR", "DATA.PATH_PREFIX", "DATA.CACHE_DIR", "TEST.CHECKPOINT_FILE_PATH")


def portable_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values of keys without paths that only one machine has.

    Keys of `PLACES` have their defaults. Of other paths that lead out of the project, the name of
    the file is kept.

    Args:
        values: `SECTION.KEY` to value.

    Example:
        >>> portable_values({"ENHANCE.ZERO_DCE_WEIGHTS": "/srv/weights/Epoch99.pth"})
        {'ENHANCE.ZERO_DCE_WEIGHTS': 'Epoch99.pth'}
    """
    found = {}
    for key, value in values.items():
        found[key] = SCHEMA[key].default if key in PLACES else _portable(value)
    return found


def _portable(value: Any) -> Any:
    if isinstance(value, list):
        return [_portable(one) for one in value]
    if isinstance(value, str):
        path = PurePosixPath(value)
        if path.is_absolute() or value.startswith("~") or ".." in path.parts:
            return path.name
    return value


def portable_text(text: str, path: Path) -> str:
    """Return a recorded configuration without paths that only one machine has, see above.

    Args:
        text: YAML, empty for none.
        path: Its file, for messages.

    Raises:
        ConfigError: If it is no configuration.
    """
    if not text:
        return ""
    cfg = CfgNode()
    for key, value in portable_values(parse_yaml(text, path).values).items():
        node = cfg
        *sections, last = key.split(".")
        for section in sections:
            node = node.setdefault(section, CfgNode())
        node[last] = value
    return dump(cfg)
