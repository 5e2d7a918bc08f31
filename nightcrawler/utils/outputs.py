"""Check of outputs before work begins: no input, no state of a run, no folder is overwritten."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable
from pathlib import Path

from nightcrawler.utils.errors import UserError, mask_credentials
from nightcrawler.utils.io import RUN_MARKS, is_run_folder, refuse_link_in_run

# Files that runs write and read again, which no output of another command may replace.
OWN_FILES = (
    *RUN_MARKS,
    ".lock",
    ".hashes.json",
    "metrics.jsonl",
    "run_id",
    "non_finite.jsonl",
    "*.pyth",
    "*.pyth.json",
    "*.log",
    "config.yaml",
)

# Beginning of an address, also as a path, which has lost the second slash. Drives have one letter.
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
# Longest line that is looked at in a file to append to.
MOST_LINE_BYTES = 1 << 26
# Part of a file by which its writer is known.
BEGINNING_CHARS = 4096
PathLike = str | os.PathLike[str]


def check_targets(
    files: Iterable[PathLike | None],
    folders: Iterable[PathLike | None] = (),
    sources: Iterable[PathLike | None] = (),
) -> None:
    """Refuse output paths that could not or must not be written, before the work begins.

    Args:
        files: Files to write, `None` for outputs that were not asked for.
        folders: Folders to write into, likewise.
        sources: Files that the command reads.

    Raises:
        UserError: If a folder is in the place of a file or a file in the place of a folder, two
            outputs or an output and a source are one file, or an output is an address, a file of a
            run or a link in its folder.

    Example:
        >>> check_targets(["found.csv"], sources=["night.mp4"])
    """
    places = [Path(folder) for folder in folders if folder]
    wanted = [Path(path) for path in files if path]
    _refuse_addresses([*wanted, *places])
    for path in wanted:
        if path.is_dir():
            raise UserError(f"{path}: is a folder, expected a file to write")
    for folder in [*(path.parent for path in wanted), *places]:
        for path in (folder, *folder.parents):
            if path.exists() and not path.is_dir():
                raise UserError(f"{path}: is a file, expected a folder to write into")
    _refuse_shared(wanted)
    _refuse_sources(wanted, sources)
    for path in wanted:
        refuse_link_in_run(path)
        _refuse_run_file(path)


def refuse_foreign_lines(path: Path) -> None:
    """Refuse a file to append JSON lines to that holds something else.

    Args:
        path: a file, which need not exist.

    Raises:
        UserError: If its first line is no JSON object.
    """
    # Devices and pipes hold nothing that could be spoilt, and may not be read.
    if not path.is_file():
        return
    with open(path, "rb") as file:
        first = file.readline(MOST_LINE_BYTES).strip()
    if first and not (first.startswith(b"{") and first.endswith(b"}")):
        raise UserError(f"{path}: holds no JSON lines to append to, name another file")


def refuse_other_file(path: Path, mark: str, writer: str) -> None:
    """Refuse to replace a file that the program did not write, such as one by hand.

    Args:
        path: a file, which need not exist.
        mark: text at the beginning of each such file: the header of a table, a sentence.
        writer: that writes such files, as the user knows it.

    Raises:
        UserError: If its beginning does not hold the text.
    """
    if not path.is_file():
        return
    with open(path, encoding="utf-8", errors="replace") as file:
        if mark not in file.read(BEGINNING_CHARS):
            raise UserError(f"{path}: exists and was not written by {writer}: move it")


def _refuse_addresses(places: Iterable[PathLike]) -> None:
    for place in places:
        if ADDRESS.match(os.fspath(place)):
            raise UserError(
                f"{mask_credentials(os.fspath(place))}: is an address, expected a file or folder "
                "of this machine to write"
            )


def _refuse_shared(wanted: list[Path]) -> None:
    """Refuse two outputs of one name, which would replace each other."""
    seen: set[str] = set()
    for path in wanted:
        place = os.path.realpath(path)
        # Devices, such as /dev/null, take any number of outputs.
        if place in seen and (path.is_file() or not path.exists()):
            raise UserError(f"{path}: is named for two outputs, give each a file of its own")
        seen.add(place)


def _identity(path: PathLike) -> tuple[int, int] | None:
    """Return what a file is known by under all its names, `None` where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _refuse_sources(wanted: list[Path], sources: Iterable[PathLike | None]) -> None:
    """Refuse an output that is a source, also under another name (links of both kinds)."""
    by_identity = {}
    for path in wanted:
        identity = _identity(path)
        if identity is not None and path.is_file():
            by_identity[identity] = path
    # Sources may be millions on a network: they are looked at only where an output exists.
    if not by_identity:
        return
    for source in sources:
        if not source:
            continue
        target = by_identity.get(_identity(source) or (-1, -1))
        if target is not None:
            raise UserError(f"{target}: is a file to read ({source}), give another file to write")


def _refuse_run_file(path: Path) -> None:
    """Refuse a file that a run wrote and needs."""
    real = Path(os.path.realpath(path))
    if not any(map(is_run_folder, (real.parent, real.parent.parent))):
        return
    if any(fnmatch.fnmatch(real.name, pattern) for pattern in OWN_FILES):
        raise UserError(f"{path}: is a file of the run in its folder, give another file to write")
