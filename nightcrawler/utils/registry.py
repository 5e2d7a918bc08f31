"""A table from names to builders."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from nightcrawler.utils.errors import UserError

Builder = TypeVar("Builder", bound=Callable[..., Any])
LISTED = 20


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is none of `known`: it names the closest ones, and all where they are few."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1 if len(known) <= LISTED else 3)
    hint = f"; did you mean {' or '.join(repr(other) for other in close)}?" if close else ""
    listed = (
        f" (known: {', '.join(known)})" if len(known) <= LISTED else f" ({len(known)} are known)"
    )
    return UserError(f"unknown {kind} '{name}'{hint}{listed}")


class Registry:
    """Named builders of one kind of thing.

    Args:
        kind: what is registered, for messages (`model`, `enhancement`, ...).
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._builders: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[Builder], Builder]:
        """Decorator that files a builder under `name`, or a family's under `family/`: it then takes any `family/x`.

        Raises:
            ValueError: if the name is taken.
        """

        def add(builder: Builder) -> Builder:
            if name in self._builders:
                raise ValueError(f"{self.kind} '{name}' is registered twice")
            self._builders[name] = builder
            return builder

        return add

    def get(self, name: str) -> Callable[..., Any]:
        """The builder filed under `name`, or under its family.

        Raises:
            UserError: if there is none; the message lists the names and the closest one.
        """
        family, slash, _ = name.partition("/")
        builder = self._builders.get(name) or self._builders.get(family + slash)
        if builder is None:
            raise unknown_name(self.kind, name, self._builders)
        return builder

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._builders)
