"""Extension of the API reference: show `Example:` blocks of docstrings as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

HEADING = re.compile(r"^Example:$", re.MULTILINE)
# The heading, and the indented or empty lines after it.
BLOCK = re.compile(r"^Example:\n((?:(?: +\S.*)?\n)*(?: +\S.*)?)", re.MULTILINE)


class ShowExamples(griffe.Extension):
    """Rename the heading to the one that Griffe knows, and fence code without prompts."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of an object before it is parsed."""
        _change(obj)

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Change the docstring of the package, which `on_object` does not receive."""
        _change(pkg)


def with_examples(docstring: str) -> str:
    """Return a docstring with sections `Examples:` in place of `Example:`.

    Args:
        docstring: the text, without the indentation of its function.
    """
    return HEADING.sub("Examples:", BLOCK.sub(_fenced, docstring))


def _change(obj: griffe.Object) -> None:
    if obj.docstring is not None:
        obj.docstring.value = with_examples(obj.docstring.value)


def _fenced(match: re.Match[str]) -> str:
    body = match[1]
    if ">>>" in body:
        return match[0]
    # Markdown would join lines of code without prompts to a paragraph.
    return f"Example:\n    ```python\n{body.rstrip()}\n    ```\n"
