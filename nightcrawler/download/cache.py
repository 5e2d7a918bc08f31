"""The folder of downloaded files, and the record beside each of them."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, safe_join

CACHE = "NIGHTCRAWLER_CACHE"
OFFLINE = ("NIGHTCRAWLER_OFFLINE", "HF_HUB_OFFLINE")
WEIGHTS = "weights"
# Not `.json`: that is the sidecar of a checkpoint that training wrote.
RECORD_SUFFIX = ".download.json"
_OFF = ("", "0", "false", "no", "off")


def cache_root() -> Path:
    """Return the folder of downloads: `NIGHTCRAWLER_CACHE`, or one below the platform's cache."""
    chosen = os.environ.get(CACHE, "")
    if chosen:
        return Path(chosen).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library/Caches/nightcrawler"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of these folders says that relative ones are to be ignored.
    folder = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return folder / "nightcrawler"


def cached_weights(file: str) -> Path:
    """Return where weights are kept in the cache.

    Args:
        file: relative path, with forward slashes.

    Raises:
        UserError: if the path leads out of the cache, also through a link.
    """
    return safe_join(cache_root() / WEIGHTS, file)


def offline_switch() -> str:
    """Return the variable that forbids downloads, empty where none does."""
    for name in OFFLINE:
        if os.environ.get(name, "").strip().lower() not in _OFF:
            return name
    return ""


@dataclass(frozen=True)
class Record:
    """Facts of a downloaded file.

    Attributes:
        address: where it came from.
        sha256: of its bytes, when it came.
        size: in bytes.
        published: the hash was compared with one that its authors or its server publish. If not,
            the first download is trusted, and later ones are compared with it.
    """

    address: str
    sha256: str
    size: int
    published: bool


def record_file(path: Path) -> Path:
    """Return the path of the record of a downloaded file."""
    return path.with_name(path.name + RECORD_SUFFIX)


def read_record(path: Path) -> Record | None:
    """Return the record of a downloaded file, `None` for a file that came otherwise.

    Args:
        path: the file, which may be missing.

    Raises:
        UserError: if the record is damaged.
    """
    file = record_file(path)
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        return Record(
            str(values["address"]),
            str(values["sha256"]),
            int(values["size"]),
            bool(values["published"]),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        raise UserError(
            f"{file}: not a record of a download: remove it, and the next download is trusted anew"
        ) from None


def downloaded_weights() -> list[tuple[Path, Record | UserError]]:
    """Return the downloaded files of weights, each with its record or the fault of that one."""
    found: list[tuple[Path, Record | UserError]] = []
    for file in sorted((cache_root() / WEIGHTS).rglob(f"*{RECORD_SUFFIX}")):
        path = file.with_name(file.name.removesuffix(RECORD_SUFFIX))
        try:
            record = read_record(path)
        except UserError as fault:
            # One damaged record must not hide the other files.
            found.append((path, fault))
            continue
        if path.is_file() and record is not None:
            found.append((path, record))
    return found


def write_record(path: Path, record: Record) -> None:
    """Write the record of a downloaded file."""
    with atomic_write(record_file(path), "w") as file:
        json.dump(asdict(record), file, indent=1)
        file.write("\n")
