"""Churn of pseudo-labels: which labels of a round are new, dropped, changed or kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Churn:
    """Numbers of clips by what happened to their pseudo-label from one round to the next.

    Attributes:
        new: clips that have a label only in the later round.
        dropped: clips that have a label only in the earlier round.
        changed: clips with a label of another class than before.
        kept: clips with the same label as before.
    """

    new: int
    dropped: int
    changed: int
    kept: int

    @property
    def moved(self) -> float:
        """Share, 0..1, of all clips with a label in either round whose label is not the same."""
        moves = self.new + self.dropped + self.changed
        return moves / max(moves + self.kept, 1)


def churn(before: Mapping[str, int], after: Mapping[str, int]) -> Churn:
    """Count the moves of labels from one round to the next.

    Args:
        before: name to class in the earlier round.
        after: name to class in the later round.

    Example:
        >>> churn({"a": 0, "b": 1, "c": 2}, {"b": 1, "c": 0, "d": 0})
        Churn(new=1, dropped=1, changed=1, kept=1)
    """
    both = before.keys() & after.keys()
    kept = sum(before[name] == after[name] for name in both)
    return Churn(len(after) - len(both), len(before) - len(both), len(both) - kept, kept)
