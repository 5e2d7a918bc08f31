"""Reference of all keys as Markdown, generated from their declarations."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

from nightcrawler.config.schema import SCHEMA
from nightcrawler.config.schema.key import Key

HEADER = ("Key", "Default", "Meaning and allowed values")


def keys_as_markdown() -> str:
    """Return one table per section: key, default, meaning, allowed values, condition.

    Example:
        >>> print(keys_as_markdown().splitlines()[0])
        ## Keys without a section
    """
    parts = []
    for section, keys in groupby(SCHEMA.values(), key=_section_of):
        parts.append(f"## {section or 'Keys without a section'}\n")
        parts.append(_row(HEADER))
        parts.append(_row(["---"] * len(HEADER)))
        for key in keys:
            parts.append(
                _row([f"`{key.name}`", f"`{_as_yaml(key.default)}`", _description_of(key)])
            )
        parts.append("")
    return "\n".join(parts)


def _section_of(key: Key) -> str:
    return key.name.rpartition(".")[0]


def _as_yaml(value: Any) -> str:
    """Return a default as it is written in a file."""
    if isinstance(value, bool):
        return str(value)
    # JSON is YAML, and writes lists on one line.
    return json.dumps(value)


def _description_of(key: Key) -> str:
    sentences = [key.meaning]
    choices = []
    for name, meaning in key.described_choices().items():
        choices.append(f"`{name}` ({meaning})" if meaning else f"`{name}`")
    if choices:
        sentences.append(f"One of {', '.join(choices)}.")
    if key.described_range():
        sentences.append(f"Range: {key.described_range()}.")
    if key.needs is not None:
        sentences.append(f"Has no effect unless {key.needs.text}.")
    return " ".join(sentences)


def _row(cells: list[str] | tuple[str, ...]) -> str:
    # A bar within a cell would start the next one.
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
