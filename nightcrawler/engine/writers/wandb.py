"""Weights & Biases, online or offline as its own variable `WANDB_MODE` says."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import numpy as np

from nightcrawler.engine.writers.base import EPOCH, STEP, Record, RunDescription
from nightcrawler.utils.errors import missing_extra

PROJECT = "nightcrawler"
# A service that is away must not hold up a training for its default of 90 s.
START_SEC = 30
# Most rows of a record: its curves, and pictures of the same validation.
ROWS_PER_RECORD = 3


class WandbWriter:
    """Write a run of Weights & Biases, continued by its identity.

    Args:
        about: the run.
    """

    def __init__(self, about: RunDescription) -> None:
        try:
            import wandb
        except ModuleNotFoundError as error:
            # One of its own libraries may be missing, too: that is a fault of the installation.
            if error.name != "wandb":
                raise
            raise missing_extra("WRITERS wandb", "wandb") from None
        self._wandb = wandb
        # The console stays ours: the run has its own log. Code and its folders are not sent.
        settings = wandb.Settings(
            console="off", silent=True, disable_code=True, disable_git=True, init_timeout=START_SEC
        )
        self._run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            id=about.run_id,
            name=about.name,
            dir=about.folder,
            resume="allow",
            config=dict(about.settings),
            settings=settings,
        )
        # Rows are numbered by us: when an offline run is resumed, its own count would start anew,
        # and the service drops rows whose number it has.
        self._row = ROWS_PER_RECORD * about.num_written
        # A number of a row is no place on a curve.
        self._run.define_metric("train/*", step_metric=STEP)
        self._run.define_metric("val_*", step_metric=EPOCH)

    def write(self, record: Record) -> None:
        """Add points to curves."""
        if record.curves:
            self._log({record.axis: record.at, **record.curves})

    def picture(self, name: str, pixels: np.ndarray, epoch: int) -> None:
        """Add a picture."""
        self._log({EPOCH: epoch, name: self._wandb.Image(pixels)})

    def _log(self, values: dict[str, Any]) -> None:
        try:
            self._run.log(values, step=self._row, commit=True)
        except ConnectionError:
            # Its process has gone. Its handler at the exit would fail with a traceback.
            with contextlib.suppress(Exception):
                self._wandb.teardown()
            raise
        self._row += 1

    def close(self) -> None:
        """End the run, and wait until it is sent or, offline, written."""
        self._run.finish()


def build_wandb(about: RunDescription) -> WandbWriter:
    """Build the writer of Weights & Biases.

    Args:
        about: the run.

    Raises:
        UserError: if the extra is not installed.
    """
    return WandbWriter(about)
