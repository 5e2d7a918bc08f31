"""Text log lines for people, JSON lines for programs."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import Any

import simplejson

ROOT_LOGGER = "nightcrawler"


def get_logger(name: str) -> logging.Logger:
    """The logger of a module (`__name__`), a child of the package's."""
    return logging.getLogger(name if name.startswith(ROOT_LOGGER) else f"{ROOT_LOGGER}.{name}")


def setup_logging(
    output_dir: str | Path | None = None, rank: int = 0, name: str = "stdout.log"
) -> None:
    """Send the package's log lines to standard output and, where asked, to a file that is appended to.

    Ranks other than the first print only warnings, with their rank.

    Args:
        output_dir: folder of the log file; made when absent.
        rank: rank of this process.
        name: file name of the log.
    """
    logger = logging.getLogger(ROOT_LOGGER)
    logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    logger.propagate = False
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    who = "" if rank == 0 else f" [rank {rank}]"
    formatter = logging.Formatter(
        f"[%(asctime)s]{who} %(levelname).1s %(message)s", datefmt="%m/%d %H:%M:%S"
    )
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if output_dir is not None and rank == 0:
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(Path(output_dir) / name, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(formatter)
        logger.addHandler(handler)


def plain(value: Any) -> Any:
    """A value that JSON can hold: tensors and numpy scalars become numbers, NaN and infinity become text."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return str(value) if isinstance(value, Path) else value


class JsonLines:
    """A file that gets one JSON object a line, flushed at once.

    Args:
        path: the file; appended to. `None` writes nowhere (ranks other than the first).
    """

    def __init__(self, path: str | Path | None) -> None:
        self._path = None if path is None else Path(path)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, **fields: Any) -> None:
        """Append one object."""
        if self._path is None:
            return
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(simplejson.dumps(plain(fields), sort_keys=False) + "\n")
