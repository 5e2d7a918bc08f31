"""TensorBoard: event files with curves, pictures and hyperparameters.

Events are written by the calling thread and flushed at once. `SummaryWriter` leaves them to a
thread of its own: an error of the disk is then raised there, and up to two minutes of curves are
lost when a run is killed.
"""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.engine.writers.base import Record, RunDescription

FOLDER = "tensorboard"


class TensorBoardWriter:
    """Write one event file of this start of the run.

    Args:
        about: the run.
    """

    def __init__(self, about: RunDescription) -> None:
        # Imported here: TensorBoard takes seconds to load and may be switched off.
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter
        from torch.utils.tensorboard import summary

        self._summary = summary
        self._make_event = Event
        folder = about.folder / FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        file = open(_event_file(folder), "xb")  # noqa: SIM115 (open as long as the run)
        self._file = RecordWriter(file)
        self._add(Event(file_version="brain.Event:2"))
        # The value of the score is that of its curve, which is there once a split is validated.
        for part in summary.hparams(dict(about.settings), {about.score: 0.0}):
            self._add(Event(summary=part))

    def _add(self, event: Any) -> None:
        event.wall_time = time.time()
        self._file.write(event.SerializeToString())
        self._file.flush()

    def write(self, record: Record) -> None:
        """Add points to curves."""
        for name, value in record.curves.items():
            scalar = self._summary.scalar(name, value)
            self._add(self._make_event(summary=scalar, step=record.at))

    def picture(self, name: str, pixels: np.ndarray, epoch: int) -> None:
        """Add a picture."""
        image = self._summary.image(name, pixels, dataformats="HWC")
        self._add(self._make_event(summary=image, step=epoch))

    def close(self) -> None:
        """Close the event file."""
        self._file.close()


def _event_file(folder: Path) -> Path:
    """Return a name that TensorBoard finds, and that no other start of the run has."""
    number = 0
    while True:
        # By name, the files of later starts come last, as readers expect.
        name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}"
        path = folder / f"{name}.{number}"
        if not path.exists():
            return path
        number += 1


def build_tensorboard(about: RunDescription) -> TensorBoardWriter:
    """Build the writer of TensorBoard.

    Args:
        about: the run.
    """
    return TensorBoardWriter(about)
