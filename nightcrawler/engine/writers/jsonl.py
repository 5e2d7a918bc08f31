"""metrics.jsonl: one row a line, and the record of what a run has written before it is resumed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nightcrawler.engine.writers.base import Record, key_of
from nightcrawler.utils.logging import OwnJsonLines, get_logger

logger = get_logger(__name__)

METRICS = "metrics.jsonl"


class TolerantJsonLines(OwnJsonLines):
    """JSON lines file whose lines are dropped, with a warning, while the disk is full."""

    def write(self, **fields: Any) -> None:
        """Append one object as a whole line, or nothing.

        Args:
            **fields: content of the object.
        """
        if self._path is None:
            return
        size = 0
        if self._path.exists():
            size = self._path.stat().st_size
        try:
            super().write(**fields)
        except OSError as error:
            logger.warning("a line of %s is lost (%s)", self._path, error.strerror or error)
            # A part of the line may be there: the next one would be appended to it.
            if self._path.exists():
                os.truncate(self._path, size)


class JsonlWriter:
    """Write rows of metrics.jsonl.

    Args:
        folder: the run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._lines = TolerantJsonLines(folder / METRICS)

    def write(self, record: Record) -> None:
        """Append the row."""
        self._lines.write(**record.fields)

    def picture(self, name: str, pixels: Any, epoch: int) -> None:
        """Leave pictures out."""

    def close(self) -> None:
        """Leave the file as it is: each line is flushed at once."""


def read_written(folder: Path) -> set[tuple[Any, ...]]:
    """Return the keys of the rows that a run has written, see `Record.key`.

    Args:
        folder: the run's folder. Rows of an earlier run that was started from scratch in the same
            folder are left out.
    """
    try:
        lines = (folder / METRICS).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    written: set[tuple[Any, ...]] = set()
    last = (0, 0)
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(row, dict):
            continue
        if row.get("kind") == "train":
            place = _place(row)
            # A run goes forwards only: this row is the first of another one.
            if place <= last:
                written.clear()
            last = place
        written.add(_hashable(key_of(row)))
    return written


def _place(row: dict[str, Any]) -> tuple[int, int]:
    epoch, step = row.get("epoch"), row.get("step")
    if isinstance(epoch, int) and isinstance(step, int):
        return epoch, step
    return 0, 0


def _hashable(key: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a key whose damaged values are text, as a set cannot hold lists."""
    return tuple(
        value if isinstance(value, (str, int, type(None))) else str(value) for value in key
    )
