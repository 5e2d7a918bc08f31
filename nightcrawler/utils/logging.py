"""Log lines for people, JSON lines for programs."""

from __future__ import annotations

import logging
import math
import sys
from pathlib import Path
from typing import IO, Any

import simplejson

from nightcrawler.utils.io import named_where_full, open_own, refuse_link_in_run

ROOT_LOGGER = "nightcrawler"


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module (`__name__`), a child of the package's."""
    if not name.startswith(ROOT_LOGGER):
        name = f"{ROOT_LOGGER}.{name}"
    return logging.getLogger(name)


def setup_logging(
    output_dir: str | Path | None = None, rank: int = 0, name: str = "stdout.log"
) -> None:
    """Send the package's log lines to standard output and to a file that is appended to.

    Ranks above 0 print only warnings, with their rank.

    Args:
        output_dir: Folder of the log file, created if missing, or `None` for no file.
        rank: Rank of this process.
        name: Name of the log file.
    """
    logger = logging.getLogger(ROOT_LOGGER)
    logger.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    # The root logger may have handlers of its own: lines would appear twice.
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
        handlers.append(_OwnFileHandler(Path(output_dir) / name))
    for handler in handlers:
        handler.setFormatter(formatter)
        logger.addHandler(handler)


def plain(value: Any) -> Any:
    """Return a value that JSON can hold.

    Tensors and arrays become numbers and lists, paths, NaN and infinity become text.

    Args:
        value: Nested dictionaries, lists and tuples of plain values, tensors or arrays.
    """
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):  # tensors and arrays, without importing torch here
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Path):
        return str(value)
    return value


class _OwnFileHandler(logging.FileHandler):
    """Append to a log file that is no link to another file."""

    def _open(self) -> Any:
        return open_own(self.baseFilename)


class JsonLines:
    """Writer of one JSON object per line, flushed at once.

    Args:
        path: File to append to, or `None` to write nowhere (ranks above 0).
    """

    def __init__(self, path: str | Path | None) -> None:
        self._path = None if path is None else Path(path)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)

    def _open(self, path: Path) -> IO[str]:
        """Open the file for one line. A link that the user named is written through."""
        refuse_link_in_run(path)
        return open(path, "a", encoding="utf-8", errors="backslashreplace")

    def write(self, **fields: Any) -> None:
        """Append one object with these fields."""
        if self._path is None:
            return
        # Opened for each line: another process (a resumed run) may append in between.
        with named_where_full(self._path), self._open(self._path) as file:
            file.write(simplejson.dumps(plain(fields), sort_keys=False) + "\n")


class OwnJsonLines(JsonLines):
    """JSON lines of a file of the program's own, which is no link to another file."""

    def _open(self, path: Path) -> IO[str]:
        """Open the file for one line, if it is no link."""
        return open_own(path)
