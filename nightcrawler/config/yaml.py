"""Strict reader of one YAML file: plain mappings, lists and scalars, with the line of every key."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from nightcrawler.utils.errors import ConfigError

MAX_BYTES = 1 << 20
MAX_DEPTH = 12
CORE_TAGS = {
    f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "seq", "map")
}
# YAML 1.1, which PyYAML reads, takes `1e-4` (no dot) for text.
FLOAT = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)[eE][-+]?\d+")


@dataclass
class YamlFile:
    """A parsed file.

    Attributes:
        path: Path of the file.
        values: Flattened leaves, `SECTION.KEY` to value (lists are leaves).
        lines: Line number of each leaf.
        bases: Files named by `_BASE_`, in order.
        optional: Keys named by `_OPTIONAL_`: left out where they have no effect.
    """

    path: Path
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    bases: list[str] = field(default_factory=list)
    optional: list[str] = field(default_factory=list)

    def at(self, key: str) -> str:
        """Return `file:line` of a key."""
        return f"{self.path}:{self.lines.get(key, 1)}"


def read_yaml(path: Path) -> YamlFile:
    """Read a YAML file of plain values.

    Args:
        path: The file, at most 1 MB.

    Raises:
        ConfigError: With one line per fault: not a `.yaml`, not UTF-8, not YAML, several
            documents, aliases, tags, doubled keys, keys that are not text, nesting deeper than 12,
            numbers that are not finite.
    """
    return parse_yaml(_read_text(path), path)


def parse_yaml(text: str, path: Path) -> YamlFile:
    """Parse the text of a YAML file of plain values.

    Args:
        text: The text.
        path: Its file, for messages.

    Raises:
        ConfigError: As `read_yaml`.
    """
    node = _compose(path, text)
    found = YamlFile(path)
    faults: list[str] = []
    if node is not None:
        if not isinstance(node, yaml.MappingNode) or node.tag not in CORE_TAGS:
            kind = getattr(node, "id", "node")
            raise ConfigError(
                f"{path}:1: expected SECTION: KEY: value mappings, found a {kind} {node.tag}"
            )
        _walk(node, "", found, faults)
    for key in found.optional:
        if key not in found.values:
            faults.append(f"{path}: _OPTIONAL_: {key} is not set in this file")
    if faults:
        raise ConfigError("\n".join(faults))
    return found


def _read_text(path: Path) -> str:
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError(f"{path}: not a .yaml file: configurations are data, not code")
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    if path.stat().st_size > MAX_BYTES:
        raise ConfigError(f"{path}: larger than 1 MB: not a configuration")
    try:
        # `utf-8-sig` skips the byte order mark that editors on Windows write.
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (byte {error.start})") from None


def _compose(path: Path, text: str) -> yaml.Node | None:
    """Return the document's node tree (`None` for an empty file).

    Raises:
        ConfigError: If the text is not YAML, or holds an alias or deep nesting.
    """
    try:
        refused = _refused_feature(text)
        if refused:
            line, reason = refused
            raise ConfigError(f"{path}:{line}: {reason}")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = 1 if mark is None else mark.line + 1
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{path}:{line}: not YAML: {reason}") from None


def _refused_feature(text: str) -> tuple[int, str] | None:
    """Return line and reason of the first alias, anchor or too deep nesting.

    Events are read one by one, before nodes are composed: nested aliases would take exponential
    time and memory.
    """
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        line = 1 if event.start_mark is None else event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            return line, "anchors and aliases are not allowed"
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            return line, f"nested deeper than {MAX_DEPTH}"
    return None


def _walk(node: yaml.MappingNode, prefix: str, found: YamlFile, faults: list[str]) -> None:
    """Add the leaves of a mapping to `found`, and its faults to `faults`."""
    seen: set[str] = set()
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        where = f"{found.path}:{line}"
        if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
            shown = getattr(key_node, "value", key_node.id)
            faults.append(f"{where}: a key must be plain text, found {shown!r}")
            continue
        name = f"{prefix}{key_node.value}"
        if key_node.value in seen or name in found.lines:
            faults.append(f"{where}: {name}: given twice in this file")
            continue
        seen.add(key_node.value)
        if name == "_BASE_":
            found.bases = _read_texts(name, "path", value_node, where, faults)
        elif name == "_OPTIONAL_":
            found.optional = _read_texts(name, "key", value_node, where, faults)
        elif isinstance(value_node, yaml.MappingNode) and value_node.value:
            if value_node.tag in CORE_TAGS:
                _walk(value_node, f"{name}.", found, faults)
            else:
                faults.append(f"{where}: {name}: tag {value_node.tag} is not allowed")
        else:
            try:
                found.values[name] = plain_value(value_node)
            except ValueError as error:
                faults.append(f"{where}: {name}: {error}")
            found.lines[name] = line


def _read_texts(name: str, kind: str, node: yaml.Node, where: str, faults: list[str]) -> list[str]:
    """Return the text or texts of a directive, or nothing and a fault if it holds anything else."""
    try:
        value = plain_value(node)
    except ValueError as error:
        value = error
    bases = [value] if isinstance(value, str) else value
    valid = isinstance(bases, list) and all(isinstance(base, str) and base for base in bases)
    if not valid or not bases:
        faults.append(f"{where}: {name}: expected a {kind} or a list of {kind}s, found {value!r}")
        return []
    return bases


def plain_value(node: yaml.Node) -> Any:
    """Return the plain Python value of a node.

    Raises:
        ValueError: For tags outside YAML's core, scalars that do not fit their tag, and numbers
            that are not finite.
    """
    if node.tag not in CORE_TAGS:
        raise ValueError(f"tag {node.tag} is not allowed (quote the value if it is text)")
    if isinstance(node, yaml.SequenceNode):
        return [plain_value(item) for item in node.value]
    if isinstance(node, yaml.MappingNode):
        return {str(key.value): plain_value(value) for key, value in node.value}
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except (ValueError, LookupError, OverflowError, yaml.YAMLError):
        kind = node.tag.rsplit(":", 1)[-1]
        raise ValueError(f"{node.value[:40]!r} is not a {kind} that can be used") from None
    # A style is a quote or a block mark: quoted numbers stay text.
    is_unquoted = isinstance(node, yaml.ScalarNode) and node.style is None
    if is_unquoted and isinstance(value, str) and FLOAT.fullmatch(value):
        value = float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{node.value} is not a finite number")
    return value


def parse_value(text: str) -> Any:
    """Return the plain value of a command-line override. Text that is not YAML stays text.

    Raises:
        ValueError: For tags, aliases, deep nesting and numbers that are not finite.
    """
    if not text.strip():
        return text
    try:
        refused = _refused_feature(text)
        if refused:
            raise ValueError(refused[1])
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError:
        return text
    return text if node is None else plain_value(node)
