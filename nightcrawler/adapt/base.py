"""What an adapter is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class AdaptReport:
    """What an adapter did.

    Attributes:
        adapter: its name.
        num_clips: clips it saw, over all ranks.
        layers: one dict a layer it changed (`name`, `shift`, ...).
        note: a line for the log where nothing was done.
        unit: of `shift`.
    """

    adapter: str
    num_clips: int = 0
    layers: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""
    unit: str = "standard deviations of its input"

    def summary(self) -> str:
        """One line for the log."""
        if not self.layers:
            return self.note or f"{self.adapter}: nothing to adapt"
        most = max(self.layers, key=lambda layer: layer["shift"])
        return (
            f"{self.adapter}: {len(self.layers)} layers on {self.num_clips} dark clips, largest shift "
            f"{most['shift']:.2f} {self.unit} ({most['name']})"
        )


class ReplayableClips:
    """Clips that can be iterated repeatedly: each iteration calls `make`."""

    def __init__(self, make: Callable[[], Iterator[Tensor]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Tensor]:
        return self._make()


class Adapter(Protocol):
    """Changes a model by looking at unlabelled clips.

    Attributes:
        name: of the adapter.
        changes_weights: training must go on from the weights before.
    """

    name: str
    changes_weights: bool

    def run(self, model: nn.Module, clips: Iterable[Tensor]) -> AdaptReport:
        """Adapt `model` in place on `clips` (float32 `[B, 3, T, H, W]` each, on the model's device)."""
        ...


class NoAdapter:
    """Leaves the model as it is."""

    name = "none"
    changes_weights = False

    def run(self, model: nn.Module, clips: Iterable[Tensor]) -> AdaptReport:
        """Do nothing, and say so."""
        return AdaptReport(self.name, note="none: the model is left as it was trained")
