"""Lock of a run's folder: one training job at a time."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import open_own
from nightcrawler.utils.locks import take_record_lock
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

LOCK = ".lock"


@contextlib.contextmanager
def run_lock(folder: Path, wanted: bool = True) -> Iterator[None]:
    """Hold `folder/.lock` within the block.

    The system frees the lock however the process ends. It is a record lock: loader workers, forked
    from this process, do not keep it after the death of their parent.

    Args:
        folder: the run's folder, created if missing.
        wanted: False on ranks other than 0, which then hold nothing.

    Raises:
        UserError: if another process holds it.
    """
    if not wanted:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open_own(folder / LOCK, "a+") as file:
        try:
            is_free = take_record_lock(file, wait=False)
        except OSError as error:  # a file system without locks
            logger.warning(
                "%s cannot be locked (%s): make sure that only one job uses it",
                folder,
                error.strerror,
            )
            is_free = True
        if not is_free:
            file.seek(0)
            holder = file.read().strip() or "unknown process"
            raise UserError(
                f"{folder}: another job trains in this folder ({holder}): wait for it, stop it, or "
                "give another output folder (OUTPUT_DIR)"
            )
        # For the message above, in the next job that comes.
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
