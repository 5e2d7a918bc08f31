"""All writers of a run: each point once, and none of them stops the training."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from nightcrawler.engine.writers.base import Record, Writer
from nightcrawler.engine.writers.jsonl import JsonlWriter
from nightcrawler.utils.errors import UserError, describe_error
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# A service that does not answer at the end of a run is left behind after this time.
CLOSE_SEC = 60.0


class WriterGroup:
    """The writers of a run, metrics.jsonl last: a row that is there has been written to all.

    Args:
        writers: name to writer.
        written: keys of the records that the run has written before.
    """

    def __init__(self, writers: Mapping[str, Writer], written: set[tuple[Any, ...]]) -> None:
        self._writers = dict(writers)
        self._written = written

    @property
    def takes_pictures(self) -> bool:
        """True if a writer other than metrics.jsonl is left."""
        return any(not isinstance(writer, JsonlWriter) for writer in self._writers.values())

    def write(self, record: Record) -> bool:
        """Write the metrics of one moment, unless the run has written them before.

        Returns:
            Whether they were written now.
        """
        if record.key in self._written:
            return False
        self._each(lambda writer: writer.write(record))
        return True

    def picture(self, name: str, pixels: np.ndarray, epoch: int) -> None:
        """Write a picture, uint8 `[H, W, 3]`, of a finished epoch."""
        self._each(lambda writer: writer.picture(name, pixels, epoch))

    def close(self) -> None:
        """End the run at every writer. One that does not answer is left behind."""
        thread = threading.Thread(
            target=self._each, args=(lambda writer: writer.close(),), daemon=True
        )
        thread.start()
        thread.join(CLOSE_SEC)
        if thread.is_alive():
            names = ", ".join(self._writers)
            logger.warning("writers %s did not end within %.0f s: left behind", names, CLOSE_SEC)

    def _each(self, act: Callable[[Writer], None]) -> None:
        """Act on each writer, and drop those that fail."""
        for name, writer in list(self._writers.items()):
            try:
                act(writer)
            except UserError:
                # Such as a link in the place of a file: nobody but the user can mend it.
                raise
            except Exception as error:
                del self._writers[name]
                warn_of_end(name, error)


def warn_of_end(name: str, error: Exception) -> None:
    """Say that a writer failed, in one line."""
    cause = describe_error(error)
    if isinstance(error, OSError) and error.strerror:
        cause = error.strerror
    logger.warning("%s ends here, the training goes on (%s)", name, cause)
