"""Saving on the first rank, with all ranks knowing whether it worked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nightcrawler.engine import checkpoint
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)


class Checkpointer:
    """Writes a run's checkpoints; training goes on where a save fails, until too many have failed in a row.

    Args:
        folder: of the run.
        keep_last: checkpoints kept of the latest states.
        max_failed: saves in a row that may fail before the run ends.
    """

    def __init__(self, folder: Path, keep_last: int, max_failed: int) -> None:
        self.folder, self.keep_last, self.max_failed = folder, keep_last, max_failed
        self.num_failed = 0

    def tidy(self) -> None:
        """Remove what killed saves left behind."""
        if distributed.is_main():
            checkpoint.remove_leftovers(self.folder)

    def latest(
        self, state: Callable[[], dict[str, Any]], required: bool = False, replace: bool = False
    ) -> bool:
        """Save the latest state; whether it worked.

        Args:
            state: gives it.
            required: a failure ends the run.
            replace: the one before is of the same epoch, and need not be kept.
        """
        return self._save(
            lambda: checkpoint.save_latest(self.folder, state(), self.keep_last, replace), required
        )

    def best(self, state: Callable[[], dict[str, Any]]) -> bool:
        """Save the best state; whether it worked."""
        return self._save(
            lambda: checkpoint.save_checkpoint(self.folder / checkpoint.BEST, state()),
            required=False,
        )

    def _save(self, save: Callable[[], str], required: bool) -> bool:
        fault = ""
        if distributed.is_main():
            try:
                save()
            except checkpoint.SaveError as error:
                fault = str(error)
        fault = distributed.gather_objects(fault)[0]
        if not fault:
            self.num_failed = 0
            return True
        self.num_failed += 1
        if required or self.num_failed >= self.max_failed:
            raise UserError(
                f"{fault}; {self.num_failed} in a row, TRAIN.MAX_FAILED_SAVES is {self.max_failed}"
            )
        logger.warning("%s; what was there is as it was, training goes on", fault)
        return False
