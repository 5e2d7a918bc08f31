"""One training job in a folder at a time."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.locks import take_record_lock
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

LOCK = ".lock"


@contextlib.contextmanager
def run_lock(folder: Path, wanted: bool = True) -> Iterator[None]:
    """Hold `folder/.lock` within the block; the system frees it however the process ends.

    A record lock: processes that this one forks (loaders' workers) do not hold it on after its death.

    Args:
        folder: of the run; made when absent.
        wanted: False on ranks other than the first.

    Raises:
        UserError: if another process holds it.
    """
    if not wanted:
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / LOCK, "a+", encoding="utf-8") as file:
        try:
            is_free = take_record_lock(file, wait=False)
        except OSError as error:  # a file system without locks
            logger.warning(
                "%s cannot be locked (%s): see to it that only one job uses it",
                folder,
                error.strerror,
            )
            is_free = True
        if not is_free:
            file.seek(0)
            raise UserError(
                f"{folder}: another job trains in this folder ({file.read().strip() or 'it does not say which'}): "
                "wait for it, stop it, or give another OUTPUT_DIR"
            )
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield
