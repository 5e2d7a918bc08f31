"""Tables from names to builders: the only lists of names that a configuration may give."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from nightcrawler.utils.errors import UserError

Builder = TypeVar("Builder", bound=Callable[..., Any])
# Error messages list all names up to this number.
MAX_LISTED = 20


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not registered, with the closest known names.

    Args:
        kind: Noun for the message, such as `model`.
        name: Name that was given.
        known: Names that could have been given, all of them listed if there are at most 20.
    """
    known = sorted(known)
    few = len(known) <= MAX_LISTED
    close = difflib.get_close_matches(name, known, n=1 if few else 3)
    hint = ""
    if close:
        hint = f"; did you mean {' or '.join(repr(other) for other in close)}?"
    listed = f"known: {', '.join(known)}" if few else f"{len(known)} are known"
    return UserError(f"unknown {kind} '{name}'{hint} ({listed})")


@dataclass
class Entry:
    """One registered name.

    Attributes:
        place: `module:function` of the builder.
        about: Short description for reference pages.
        builder: The builder, once it is imported.
    """

    place: str
    about: str
    builder: Callable[..., Any] | None = None


class Registry:
    """Named builders of one kind of object.

    A name is added either lazily, by the place of its builder (`add`), or by a decorator
    (`register`). Names can thus be checked without importing torch. A name that ends in `/` is a
    family: its builder serves every `family/x`.

    Args:
        kind: Noun for messages (`model`, `enhancement`, ...).

    Example:
        >>> shapes = Registry("shape")
        >>> @shapes.register("square")
        ... def build_square(side):
        ...     return side * side
        >>> shapes.get("square")(3)
        9
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, place: str, about: str = "") -> None:
        """Add a name whose builder is imported when it is first used.

        Args:
            name: Name, or a family with a `/` at its end.
            place: `package.module:function` of the builder.
            about: Short description for reference pages.

        Raises:
            ValueError: If the name belongs to another builder.
        """
        present = self._entries.get(name)
        if present is not None and present.place != place:
            raise ValueError(
                f"{self.kind} '{name}' is registered twice: by {present.place} and by {place}"
            )
        if present is None:
            self._entries[name] = Entry(place, about)

    def register(self, name: str, about: str = "") -> Callable[[Builder], Builder]:
        """Return a decorator that adds a builder under a name.

        Registering the same function again, as a module does that is imported anew in a worker,
        changes nothing.

        Args:
            name: Name, or a family with a `/` at its end.
            about: Short description for reference pages.

        Raises:
            ValueError: If the name belongs to another builder.
            TypeError: If a function is given in the place of the description.
        """
        # Else nothing would be registered, without a word.
        if not isinstance(about, str):
            raise TypeError(
                f"register({name!r}, {about!r}): expected a description as text; a function is "
                f"registered by register({name!r})(FUNCTION), or by the decorator"
            )

        def decorate(builder: Builder) -> Builder:
            self.add(name, f"{builder.__module__}:{builder.__qualname__}", about)
            self._entries[name].builder = builder
            return builder

        return decorate

    def get(self, name: str) -> Callable[..., Any]:
        """Return the builder of a name, imported if need be.

        Raises:
            UserError: If the name is unknown, with the known names in the message.
        """
        entry = self._find(name)
        if entry is None:
            raise self.unknown(name)
        if entry.builder is None:
            module, _, function = entry.place.partition(":")
            entry.builder = getattr(importlib.import_module(module), function)
        return entry.builder

    def __contains__(self, name: str) -> bool:
        return self._find(name) is not None

    def unknown(self, name: str) -> UserError:
        """Return the error for a name that is not registered."""
        return unknown_name(self.kind, name, self.names())

    def names(self) -> list[str]:
        """Return all names in the order they were added, a family as `family/NAME`."""
        return list(self.descriptions())

    def descriptions(self) -> dict[str, str]:
        """Return each name with its short description."""
        found = {}
        for name, entry in self._entries.items():
            if name.endswith("/"):
                name += "NAME"
            found[name] = entry.about
        return found

    def _find(self, name: str) -> Entry | None:
        """Return the entry of a name or of its family."""
        if name.endswith("/"):
            # A family alone names no builder.
            return None
        if name in self._entries:
            return self._entries[name]
        family, slash, _ = name.partition("/")
        return self._entries.get(family + slash) if slash else None
