"""Interface of adapters: methods that change a model by unlabelled clips."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class AdaptReport:
    """Result of an adaptation, for logs and metrics.

    Attributes:
        adapter: name of the adapter.
        num_clips: clips used, over all ranks.
        layers: one dict a changed layer, with its `name`, `shift` and further figures.
        note: line for the log if nothing was changed.
        unit: unit of `shift`.
    """

    adapter: str
    num_clips: int = 0
    layers: list[dict[str, Any]] = field(default_factory=list)
    note: str = ""
    unit: str = "standard deviations of its input"

    def summary(self) -> str:
        """Return one line for the log."""
        if not self.layers:
            return self.note or f"{self.adapter}: nothing to adapt"
        most = max(self.layers, key=lambda layer: layer["shift"])
        return (
            f"{self.adapter}: {len(self.layers)} layers on {self.num_clips} dark clips, "
            f"largest shift {most['shift']:.2f} {self.unit} ({most['name']})"
        )


def with_hint(message: str, hint: str) -> str:
    """Return an error message with advice in brackets, if there is any."""
    return f"{message} ({hint})" if hint else message


class ReplayableClips:
    """Clips that can be iterated repeatedly, for adapters that take several passes.

    Args:
        make: function that starts a new pass over the same clips, each `[B, 3, T, H, W]`.
    """

    def __init__(self, make: Callable[[], Iterator[Tensor]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[Tensor]:
        return self._make()


class Adapter(Protocol):
    """Method that changes a model by unlabelled clips.

    Attributes:
        name: name of the adapter.
        changes_weights: the adapter changes parameters, so that training must go on from those
            before. If false, it changes buffers alone.
    """

    name: str
    changes_weights: bool

    def run(self, model: nn.Module, clips: Iterable[Tensor]) -> AdaptReport:
        """Adapt a model in place.

        Args:
            model: classifier of clips.
            clips: batches float32 `[B, 3, T, H, W]` on the model's device, this rank's share.
        """
        ...


class NoAdapter:
    """Adapter that leaves the model as it is.

    Args:
        note: why, for the log.
    """

    name = "none"
    changes_weights = False

    def __init__(self, note: str = "none: the model is left as it was trained") -> None:
        self.note = note

    def run(self, model: nn.Module, clips: Iterable[Tensor]) -> AdaptReport:
        """Return a report that nothing was changed.

        Args:
            model: left as it is.
            clips: not read.
        """
        return AdaptReport(self.name, note=self.note)
