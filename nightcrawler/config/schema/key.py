"""Declaration of one key: default, meaning, allowed values, and the condition it needs."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nightcrawler.config.schema.conditions import Condition
from nightcrawler.utils.lazy_registry import Registry

# Returns the fault of a value, or `None` if it is allowed.
Rule = Callable[[Any], str | None]


@dataclass(frozen=True)
class Key:
    """One key of the configuration.

    Attributes:
        name: `SECTION.KEY`, or `KEY` without a section.
        default: Default, whose type is the type of the key.
        meaning: Meaning and unit.
        minimum: Smallest allowed number, of every element in lists.
        maximum: Largest allowed number.
        choices: Allowed texts with their meanings, or the registry that knows them.
        length: Number of elements of a list (`None`: any).
        rule: Further check of the value alone.
        needs: Condition without which the key has no effect.
        element: Example of an element, for lists that are empty by default. Without it they hold
            whole numbers, or lists of them.
        hashed_by_default: Part of the configuration's hash while it has its default. `False` for
            keys added after version 0.1, so that hashes written by it still match.
        earlier: What versions without the key did, where that is not its default. A configuration
            that they recorded means it, and the hash leaves it out instead of the default.
    """

    name: str
    default: Any
    meaning: str
    minimum: float = -math.inf
    maximum: float = math.inf
    choices: Mapping[str, str] | Registry | None = None
    length: int | None = None
    rule: Rule | None = None
    needs: Condition | None = None
    element: Any = None
    hashed_by_default: bool = True
    earlier: Any = None

    def fault_of(self, value: Any) -> str | None:
        """Return the fault of a value of the right type, or `None`."""
        for check in (self._choice_fault, self._length_fault, self._range_fault, self.rule):
            fault = check(value) if check is not None else None
            if fault is not None:
                return fault
        return None

    def described_choices(self) -> dict[str, str]:
        """Return the allowed texts with their meanings (empty: any value)."""
        if isinstance(self.choices, Registry):
            return self.choices.descriptions()
        return dict(self.choices or {})

    def described_range(self) -> str:
        """Return the allowed range in words (empty: every number)."""
        if math.isinf(self.minimum):
            return ""
        if math.isinf(self.maximum):
            return f"at least {self.minimum:g}"
        return f"between {self.minimum:g} and {self.maximum:g}"

    def _choice_fault(self, value: Any) -> str | None:
        if self.choices is None or value in self.choices:
            return None
        if isinstance(self.choices, Registry):
            return str(self.choices.unknown(value))
        close = difflib.get_close_matches(value, self.choices, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        return f"'{value}' is not one of {', '.join(self.choices)}{hint}"

    def _length_fault(self, value: Any) -> str | None:
        if self.length is None or len(value) == self.length:
            return None
        return f"{value} has {len(value)} values, expected {self.length}"

    def _range_fault(self, value: Any) -> str | None:
        numbers = value if isinstance(value, list) else [value]
        if not self.described_range():
            return None
        for number in numbers:
            if not self.minimum <= number <= self.maximum:
                return f"{number} is out of range, expected {self.described_range()}"
        return None
