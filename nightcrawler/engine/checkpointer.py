"""Saving of checkpoints by rank 0, with the outcome known to every rank."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from nightcrawler.engine import checkpoint_files
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# Called on rank 0 only: a state is large, and is not gathered where it is not written.
MakeState = Callable[[], dict[str, Any]]


class Checkpointer:
    """Writer of a run's checkpoints that tolerates a limited number of failed saves.

    Args:
        folder: the run's folder.
        keep_last: number of latest checkpoints to keep, at least 1.
        max_failed: number of failed saves in a row that ends the run.
        limit_name: name of `max_failed` in messages, as the user sets it.
    """

    def __init__(
        self, folder: Path, keep_last: int, max_failed: int, limit_name: str = "max_failed"
    ) -> None:
        self.folder = folder
        self.keep_last = keep_last
        self.max_failed = max_failed
        self.limit_name = limit_name
        self.num_failed = 0

    def remove_leftovers(self) -> None:
        """Remove the temporary files of saves that were killed."""
        if distributed.is_main():
            checkpoint_files.remove_leftovers(self.folder)

    def save_latest(
        self, make_state: MakeState, required: bool = False, replace: bool = False
    ) -> bool:
        """Save the latest checkpoint.

        Args:
            make_state: returns the state to save.
            required: end the run if this save fails.
            replace: overwrite the latest checkpoint instead of rotating it, as it is of the
                same epoch.

        Returns:
            True if it was saved, on every rank alike.

        Raises:
            UserError: if it failed and is required, or too many saves in a row failed.
        """

        def save() -> None:
            checkpoint_files.save_latest(self.folder, make_state(), self.keep_last, replace)

        return self._save(save, required)

    def save_best(self, make_state: MakeState) -> bool:
        """Save the best checkpoint.

        Args:
            make_state: returns the state to save.

        Returns:
            True if it was saved, on every rank alike.

        Raises:
            UserError: if too many saves in a row failed.
        """

        def save() -> None:
            checkpoint_files.save_checkpoint(self.folder / checkpoint_files.BEST, make_state())

        return self._save(save, required=False)

    def _save(self, save: Callable[[], None], required: bool) -> bool:
        fault = ""
        if distributed.is_main():
            try:
                save()
            except checkpoint_files.SaveError as error:
                fault = str(error)
        # Every rank must act alike: if rank 0 alone raised, the others would wait for it.
        fault = distributed.gather_objects(fault)[0]
        if not fault:
            self.num_failed = 0
            return True
        # In a row: a disk that is full for a moment does not end a run of days.
        self.num_failed += 1
        if required or self.num_failed >= self.max_failed:
            raise UserError(
                f"{fault}; {self.num_failed} saves in a row failed, "
                f"{self.limit_name} is {self.max_failed}"
            )
        logger.warning("%s; the file before it is intact, training continues", fault)
        return False
