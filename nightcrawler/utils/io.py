"""Files that are whole or absent, and paths that stay inside their folder."""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import os
import re
import stat
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from nightcrawler.utils.errors import UserError, is_disk_full

# Files by which the folder of a run is known: of trainings, pipelines, sharded predictions.
RUN_MARKS = ("resolved.yaml", "pipeline.json", "run.json")


def fsync_folder(folder: str | Path) -> None:
    """Make a rename inside a folder durable, if the system can open folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        # Network, FUSE and exFAT folders refuse: the file itself is synced, and complete.
        with contextlib.suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def named_where_full(path: str | Path) -> Iterator[None]:
    """Name a file in errors that say that there is no room for it: an open file gives no name.

    Args:
        path: The file that the block writes.
    """
    try:
        yield
    except OSError as error:
        if is_disk_full(error) and error.filename is None:
            error.filename = os.fspath(path)
        raise


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "wb", durable: bool = True) -> Iterator[IO[Any]]:
    """Open a temporary file that is renamed to `path` when the block ends without an error.

    The content is flushed and fsynced before the rename, the folder after it: a reader (or a
    crash) sees the old file or the new one, never a part. Parent folders are created. The mode of a
    file that is replaced is kept. A symbolic link is written through, but not one that lies in a
    run's folder. A device or pipe is written to, not replaced.

    Args:
        path: Final name.
        mode: `"wb"` or `"w"` (UTF-8, no newline translation).
        durable: Flush and fsync. `False` for the thousands of files of a set that counts only once
            its list, written after `os.sync()`, is there.

    Example:
        >>> with atomic_write("runs/note.txt", "w") as file:
        ...     file.write("done")
        4
    """
    path = Path(path)
    refuse_link_in_run(path)
    text: dict[str, Any] = {}
    if "b" not in mode:
        # Names of files that are not UTF-8 are written as escapes.
        text = {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    if is_stream(path):
        # Appended, as a stream may be a file that the shell has opened and still writes to.
        with named_where_full(path), open(path, mode.replace("w", "a"), **text) as file:
            yield file
        return
    # A rename would replace a link by a file, and leave what it points to as it was.
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder: a rename across file systems is not atomic. The name may be as long as the
    # file system takes.
    descriptor, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name[:50]}.", suffix=".tmp"
    )
    try:
        with named_where_full(path), os.fdopen(descriptor, mode, **text) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read. Some file systems have no modes.
        with contextlib.suppress(OSError):
            os.chmod(temporary, _mode_of(path))
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if durable:
        fsync_folder(path.parent)


def is_stream(path: Path) -> bool:
    """Return whether a path is a device, a pipe, or an open file of a process."""
    if path.is_file():
        return str(path).startswith(("/dev/std", "/dev/fd/", "/proc/"))
    return path.exists() and not path.is_dir()


def is_run_folder(folder: Path) -> bool:
    """Return whether a training, a pipeline or a sharded prediction keeps its state in a folder."""
    return any(os.path.lexists(folder / name) for name in RUN_MARKS)


def refuse_link_in_run(path: Path) -> None:
    """Refuse a symbolic link in a run's folder: an archive of it may hold links to any file.

    Raises:
        UserError: If the path is such a link.
    """
    if path.is_symlink() and any(map(is_run_folder, (path.parent, path.parent.parent))):
        raise UserError(
            f"{path}: is a symbolic link to {os.readlink(path)}, and nothing is written through a "
            "link in a run's folder: remove it"
        )


def open_own(path: str | Path, mode: str = "a") -> IO[Any]:
    """Open a log, lock or state file of the program's own, for appending or updating.

    Args:
        path: The file, created if missing.
        mode: `"a"` or `"a+"` (UTF-8), `"ab"` or `"r+b"`.

    Raises:
        UserError: If the path is a symbolic link, or no regular file.
    """

    def opener(name: str, flags: int) -> int:
        # Without waiting: a pipe in the place of the file has no reader.
        return os.open(name, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)

    encoding = None if "b" in mode else "utf-8"
    errors = None if "b" in mode else "backslashreplace"
    try:
        file = open(  # noqa: SIM115 (the caller closes it)
            path, mode, encoding=encoding, errors=errors, opener=opener
        )
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise UserError(
                f"{path}: is a symbolic link or a pipe, expected a file: remove it"
            ) from None
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise UserError(f"{path}: is no regular file: remove it")
    return file


def _mode_of(path: Path) -> int:
    """Return the mode of a file, or the usual one of a new file."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        return 0o666 & ~_umask()


def _umask() -> int:
    # The mask can only be read by setting it.
    current = os.umask(0)
    os.umask(current)
    return current


def file_state(path: str | Path) -> tuple[int, int] | None:
    """Return size and modification time (ns) of a file, `None` where there is none."""
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def video_name(name: str) -> str:
    r"""Return the name of a video's row: `plain_name`, with bytes that are no UTF-8 as escapes.

    Example:
        >>> video_name("caf\udce9.mp4")
        'caf\\xe9.mp4'
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        # With backslashes escaped, so that no two files get one name.
        raw = os.fsencode(name).replace(b"\\", b"\\\\")
        name = raw.decode("utf-8", "backslashreplace")
    return plain_name(name)


def read_csv_rows(path: str | Path, header: Sequence[str]) -> list[tuple[int, list[str]]]:
    """Return the line number and the fields of every row of a table that is not blank.

    Args:
        path: CSV file in UTF-8, perhaps with a byte order mark, as spreadsheets write it.
        header: Fields that a header begins with: such a first row is left out.

    Raises:
        UserError: If it is no regular file (a pipe would be waited for), cannot be read, or is no
            CSV.
    """
    path = Path(path)
    rows: list[tuple[int, list[str]]] = []
    try:
        if path.exists() and not path.is_file():
            raise UserError(f"{path}: not a regular file, expected a table")
        reader = csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline=""), strict=True)
        for fields in reader:
            if fields:
                rows.append((reader.line_num, [field.strip() for field in fields]))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except csv.Error as error:
        raise UserError(f"{path}: row {reader.line_num}: {error}") from None
    if rows and rows[0][1][: len(header)] == list(header):
        rows = rows[1:]
    return rows


def write_csv_rows(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows as comma-separated values, LF line ends, atomically."""
    with atomic_write(path, "w") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


# What a spreadsheet takes for a formula, behind any apostrophes that take that from it.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?(e[+-]?\d+)?")


def spreadsheet_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: with an apostrophe in front.

    Names of files may be formulas. Numbers and most other texts stay as they are.

    Example:
        >>> spreadsheet_cell("=cmd|' /C calc'!A1.mp4")
        "'=cmd|' /C calc'!A1.mp4"
    """
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def plain_cell(text: str) -> str:
    """Return the text that `spreadsheet_cell` was given.

    Example:
        >>> plain_cell("'=a.mp4")
        '=a.mp4'
    """
    if text.startswith("'") and _FORMULA.match(text, 1):
        return text[1:]
    return text


def write_spreadsheet_rows(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write rows for people as `write_csv_rows` does, each cell through `spreadsheet_cell`.

    Lists, pseudo-labels and submissions, which programs read, are no such tables.
    """
    write_csv_rows(path, ([spreadsheet_cell(str(cell)) for cell in row] for row in rows))


def sha256_file(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hex digits."""
    digest = hashlib.sha256()
    # In blocks: checkpoints and videos may be larger than memory.
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# Start of an address.
_SCHEME = re.compile(r"(s3|https?|hf)://(?=[^/])")
# An empty or `.` part of a path.
_EMPTY_PART = re.compile(r"(?:^|/)\.?(?:/|$)")
# The same in lines, to be looked for one by one: much quicker than a pattern.
_EMPTY_PARTS = ("//", "/./", "\n/", "\n./", "/\n", "/.\n", "\n.\n", "\n\n")


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
    scheme = _SCHEME.match(name)
    if scheme:
        return scheme[0] + plain_name(name[scheme.end() :])
    parts = unicodedata.normalize("NFC", name).split("/")
    kept = "/".join(part for part in parts if part not in ("", "."))
    return f"/{kept}" if name.startswith("/") else kept


def plain_names(names: Sequence[str]) -> list[str]:
    """Return the `plain_name` of each of many names, one search for all that are plain already.

    Example:
        >>> plain_names(["a.mp4", "./b.mp4"])
        ['a.mp4', 'b.mp4']
    """
    lines = "\n".join(["", *names, ""])
    if lines.isascii() and not any(text in lines for text in _EMPTY_PARTS):
        return list(names)
    return list(map(plain_name, names))


def list_lines(text: str) -> list[str]:
    r"""Return the lines of a list of files, which end with LF or CR LF alone.

    `str.splitlines` ends lines at other letters, too, which may be part of a name.

    Example:
        >>> list_lines("a\x0c.mp4\r\nb.mp4\n")
        ['a\x0c.mp4', 'b.mp4']
    """
    return [line.rstrip("\r\n") for line in io.StringIO(text)]


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


def real_path(path: str | Path) -> str:
    """Return a path without links, or as it is where there can be no such file.

    Args:
        path: any text, such as a row of a list with NUL in it.
    """
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        return str(path)


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
