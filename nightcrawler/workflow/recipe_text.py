"""Text of a recipe of pseudo-labels or of a vote, for the signature of its task.

The text is that of version 0.1 (the `repr` of its dataclasses), so that tasks which that version
finished stay up to date. Renaming a class of a recipe therefore needs an entry in `NAMES_0_1`, and
a new field the metadata `OPTIONAL`, with which it is left out at its default.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from nightcrawler.pseudo.thresholds import OPTIONAL

# Name of a class today -> its name in version 0.1.
NAMES_0_1 = {"EnsembleSpec": "Ensemble"}


def recipe_text(value: Any) -> str:
    """Return the text of a recipe, or of a value inside one."""
    if is_dataclass(value):
        kind = type(value).__name__
        texts = []
        for one in fields(value):
            content = getattr(value, one.name)
            if not (one.metadata.get(OPTIONAL) and content == one.default):
                texts.append(f"{one.name}={recipe_text(content)}")
        return f"{NAMES_0_1.get(kind, kind)}({', '.join(texts)})"
    if isinstance(value, dict):
        texts = [f"{key!r}: {recipe_text(one)}" for key, one in value.items()]
        return f"{{{', '.join(texts)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(recipe_text, value))}]"
    # Tuples of a recipe hold plain values only.
    return repr(value)
