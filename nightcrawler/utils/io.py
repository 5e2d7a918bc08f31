"""Files that are whole or absent, and paths that stay inside their folder."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from nightcrawler.utils.errors import UserError


def fsync_folder(folder: str | Path) -> None:
    """Make a rename inside a folder durable, if the system can open folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file that is renamed to `path` when the block ends without an error.

    The content is flushed and fsynced before the rename, the folder after it: a reader (or a
    crash) sees the old file or the new one, never a part. Parent folders are created.

    Args:
        path: Final name.
        mode: `"wb"` or `"w"` (UTF-8, no newline translation).

    Example:
        >>> with atomic_write("runs/note.txt", "w") as file:
        ...     file.write("done")
        4
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text: dict[str, Any] = {}
    if "b" not in mode:
        text = {"encoding": "utf-8", "newline": ""}
    # In the same folder: a rename across file systems is not atomic.
    descriptor, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
    )
    try:
        with os.fdopen(descriptor, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read.
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    fsync_folder(path.parent)


def check_targets(files: Iterable[Path | None], folders: Iterable[Path | None] = ()) -> None:
    """Refuse output paths that could not be written, before the work begins.

    Args:
        files: Files to write, `None` for outputs that were not asked for.
        folders: Folders to write into, likewise.

    Raises:
        UserError: If a folder is in the place of a file, or a file in the place of a folder.
    """
    wanted = [path for path in files if path]
    for path in wanted:
        if path.is_dir():
            raise UserError(f"{path}: is a folder, expected a file to write")
    for folder in [*(path.parent for path in wanted), *filter(None, folders)]:
        for path in (folder, *folder.parents):
            if path.exists() and not path.is_dir():
                raise UserError(f"{path}: is a file, expected a folder to write into")


def _umask() -> int:
    # The mask can only be read by setting it.
    current = os.umask(0)
    os.umask(current)
    return current


def write_csv_rows(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as comma-separated values, LF line ends, atomically."""
    with atomic_write(path, "w") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex digits."""
    digest = hashlib.sha256()
    # In blocks: checkpoints and videos may be larger than memory.
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# An empty or `.` part of a path.
_EMPTY_PART = re.compile(r"(?:^|/)\.?(?:/|$)")


def plain_name(name: str) -> str:
    """Return the one spelling of a path: without `.` and doubled slashes, in composed letters.

    Lists, truth files and results files name videos, and are joined by those names. One file may be
    spelled `a.mp4`, `./a.mp4` or `.//a.mp4`, and letters such as `ü` have two Unicode forms
    (file names of macOS are decomposed).

    Example:
        >>> plain_name(".//Run/./1.mp4")
        'Run/1.mp4'
    """
    if name.isascii() and not _EMPTY_PART.search(name):
        # Nearly all of the millions of names that results files may hold.
        return name
    parts = unicodedata.normalize("NFC", name).split("/")
    kept = "/".join(part for part in parts if part not in ("", "."))
    return f"/{kept}" if name.startswith("/") else kept


def check_relative(relative: str) -> None:
    """Refuse a path that is empty, absolute, holds NUL or a backslash, or leaves with `..`.

    Raises:
        UserError: With the reason.
    """
    if not relative or not relative.strip():
        raise UserError("an empty path")
    if "\0" in relative:
        raise UserError(f"path {relative!r} holds a NUL character")
    # A backslash separates folders on some systems, and is part of a name on others.
    if os.path.isabs(relative) or "\\" in relative:
        raise UserError(f"path {relative!r} must be relative, with forward slashes")
    if ".." in relative.split("/"):
        raise UserError(f"path {relative!r} leaves its folder ('..')")


def safe_join(root: str | Path, relative: str) -> Path:
    """Return `root / relative`, resolved and inside `root` even through symbolic links.

    Args:
        root: Folder that must not be left.
        relative: Path below it, with forward slashes.

    Raises:
        UserError: If the path is not a plain relative one, or resolves outside `root`.
    """
    check_relative(relative)
    # realpath follows links, also of the root: both sides must.
    base = os.path.realpath(root)
    joined = os.path.realpath(os.path.join(base, relative))
    if joined != base and not joined.startswith(base + os.sep):
        raise UserError(f"path {relative!r} leads out of {root} through a link")
    return Path(joined)
