"""What an adapter is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn


@dataclass(frozen=True)
class AdaptReport:
    """What an adapter did.

    Attributes:
        adapter: its name.
        num_clips: clips it saw, over all ranks.
        layers: one dict a layer it changed (`name`, `mean_shift`, `var_ratio`, ...).
        note: a line for the log where nothing was done.
    """

    adapter: str
    num_clips: int = 0
    layers: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""

    def summary(self) -> str:
        """One line for the log."""
        if not self.layers:
            return self.note or f"{self.adapter}: nothing to adapt"
        most = max(self.layers, key=lambda layer: layer["mean_shift"])
        return (
            f"{self.adapter}: {len(self.layers)} layers on {self.num_clips} dark clips, largest shift of a mean "
            f"{most['mean_shift']:.2f} standard deviations ({most['name']})"
        )


class Adapter(Protocol):
    """Changes a model by looking at unlabelled clips."""

    name: str

    def run(self, model: nn.Module, clips: Iterable[Tensor]) -> AdaptReport:
        """Adapt `model` in place on `clips` (float32 `[B, 3, T, H, W]` each, on the model's device)."""
        ...


class NoAdapter:
    """Leaves the model as it is."""

    name = "none"

    def run(self, model: nn.Module, clips: Iterable[Tensor]) -> AdaptReport:
        """Do nothing, and say so."""
        return AdaptReport(self.name, note="none: the model is left as it was trained")
