"""Protocol of writers of metrics, and the records that they write."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nightcrawler.utils.io import atomic_write

# File in the run's folder with the identity of the run.
RUN_ID = "run_id"
# Axes of curves: finished optimiser steps of the run, and finished epochs.
STEP = "step"
EPOCH = "epoch"
# Fields that tell one row of a run from all others.
KEY_FIELDS = ("kind", "epoch", "step", "split", "weights")


@dataclass(frozen=True)
class RunDescription:
    """The run that a writer writes about.

    Attributes:
        folder: the run's folder.
        name: name for people.
        is_resumed: goes on with a run that was stopped.
        num_written: records that it has written before.
        settings: configuration key to value, of the keys that are not default.
        score: curve that picks the best checkpoint.
    """

    folder: Path
    name: str
    is_resumed: bool
    num_written: int
    settings: Mapping[str, bool | int | float | str]
    score: str

    @functools.cached_property
    def run_id(self) -> str:
        """Identity by which a service continues the run: new, or when resumed that of the folder.

        It is in the file `run_id` as soon as a writer has asked for it.
        """
        path = self.folder / RUN_ID
        if self.is_resumed and path.is_file():
            found = path.read_text(encoding="utf-8", errors="replace").strip()
            if found.isalnum() and found.isascii():
                return found
        made = uuid.uuid4().hex[:8]
        with atomic_write(path, "w") as file:
            file.write(made + "\n")
        return made


@dataclass(frozen=True)
class Record:
    """Metrics of one moment of a run.

    Attributes:
        fields: the row of metrics.jsonl, with its `kind`.
        axis: `STEP` or `EPOCH`.
        at: place on the axis.
        curves: name to value, empty where there is nothing to plot.
    """

    fields: Mapping[str, Any]
    axis: str = EPOCH
    at: int = 0
    curves: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> tuple[Any, ...]:
        """Identity of the row within its run."""
        return key_of(self.fields)


def key_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the identity of a row of metrics.jsonl within its run."""
    return tuple(row.get(name) for name in KEY_FIELDS)


class Writer(Protocol):
    """Destination of a run's metrics.

    Any exception of a method ends the writer with one warning. The training goes on.
    """

    def write(self, record: Record) -> None:
        """Write the metrics of one moment."""
        ...

    def picture(self, name: str, pixels: np.ndarray, epoch: int) -> None:
        """Write a picture, uint8 `[H, W, 3]`, of a finished epoch."""
        ...

    def close(self) -> None:
        """End the run, which may be resumed."""
        ...
