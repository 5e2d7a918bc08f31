"""Trackio: runs in a database on this machine, shown by `trackio show`."""

from __future__ import annotations

import contextlib
import contextvars
import io
import os

import numpy as np

from nightcrawler.engine.writers.base import STEP, Record, RunDescription
from nightcrawler.utils.errors import missing_extra

PROJECT = "nightcrawler"


class TrackioWriter:
    """Write a run of Trackio, continued by its name.

    Args:
        about: the run.
    """

    def __init__(self, about: RunDescription) -> None:
        try:
            import trackio
        except ModuleNotFoundError as error:
            # One of its own libraries may be missing, too: that is a fault of the installation.
            if error.name != "trackio":
                raise
            raise missing_extra("WRITERS trackio", "trackio") from None
        self._trackio = trackio
        # It prints what it does, and the standard output belongs to the command line.
        with contextlib.redirect_stdout(io.StringIO()):
            # In a context of its own, it is no current run that Trackio would end again at exit.
            self._run = contextvars.copy_context().run(
                trackio.init,
                project=os.environ.get("TRACKIO_PROJECT") or PROJECT,
                # Runs are continued by name: two folders of one name must not meet.
                name=f"{about.name} {about.run_id}",
                config=dict(about.settings),
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )

    def write(self, record: Record) -> None:
        """Add points to curves."""
        if not record.curves:
            return
        values = dict(record.curves)
        if record.axis != STEP:
            # Its axis is always called a step.
            values[record.axis] = record.at
        self._run.log(values, step=record.at)

    def picture(self, name: str, pixels: np.ndarray, epoch: int) -> None:
        """Add a picture."""
        self._run.log({name: self._trackio.Image(pixels)}, step=epoch)

    def close(self) -> None:
        """Wait until everything is in the database."""
        with contextlib.redirect_stdout(io.StringIO()):
            self._run.finish()


def build_trackio(about: RunDescription) -> TrackioWriter:
    """Build the writer of Trackio.

    Args:
        about: the run.

    Raises:
        UserError: if the extra is not installed.
    """
    return TrackioWriter(about)
