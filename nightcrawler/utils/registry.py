"""A table from names to builders."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any, TypeVar

from nightcrawler.utils.errors import UserError

Builder = TypeVar("Builder", bound=Callable[..., Any])


class Registry:
    """Named builders of one kind of thing.

    Args:
        kind: what is registered, for messages (`model`, `enhancement`, ...).
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._builders: dict[str, Callable[..., Any]] = {}

    def register(self, name: str) -> Callable[[Builder], Builder]:
        """Decorator that files a builder under `name`.

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
        """The builder filed under `name`.

        Raises:
            UserError: if there is none; the message lists the names and the closest one.
        """
        if name in self._builders:
            return self._builders[name]
        close = difflib.get_close_matches(name, self._builders, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise UserError(f"unknown {self.kind} '{name}'{hint} (known: {', '.join(self.names())})")

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._builders)
