"""Folder of a large prediction: its run, and parts of some thousand rows of the list.

While a part is made, each worker that has it appends rows to a journal of its own. Once all rows
are there, they are sealed in one file. The content of a row depends on the video and the models
only, so any process of any run may write it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.remote import video_state
from nightcrawler.predict.ensemble import run_hash
from nightcrawler.predict.part_table import (
    NO_FILE,
    NOT_KEPT,
    PartRow,
    PartTable,
    from_arrays,
    table_of,
    to_arrays,
)
from nightcrawler.predict.video_result import DAMAGE, from_plain, to_plain
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, file_state, named_where_full, open_own
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.npz import read_npz_bytes, write_npz

logger = get_logger(__name__)

# Names in an output folder. They are part of its format: older ones are read, too.
PARTS = "parts"
LAYOUT = "layout.json"
METADATA = "run.json"
# Its keys, the kind of each value, and that of the entries of lists.
METADATA_KINDS: dict[str, tuple[type[Any], type[Any]]] = {
    "models": (list, dict),
    "class_names": (list, str),
    "labels": (str, str),
    "mixture": (dict, str),
}
# Few enough files for any file system, and enough parts that hundreds of workers have work.
MOST_PARTS = 512
MOST_ROWS = 4096
# End of the status of files that could not be opened: a disk may have been away for a while.
PASSING = "(open)"
_JOURNAL = re.compile(r"(\d{6})\.[0-9a-f]{32}\.jsonl")
_OLD_FOLDER = re.compile("[0-9a-f]{2}")


def open_run(out: Path, about: dict[str, Any]) -> str:
    """Start or join a run in a folder, and return the run's hash.

    Args:
        out: folder of the run.
        about: plain values that identify models and settings.

    Raises:
        UserError: if the folder holds something else, or parts of other models or settings.
    """
    path = out / METADATA
    if path.exists():
        found = _read_about(path)
        if "judge" not in found:
            # Runs of earlier versions do not say how their answers are judged.
            about = {name: value for name, value in about.items() if name != "judge"}
        key = run_hash(about)
        other = run_hash(found)
        if other != key:
            raise UserError(
                f"{path} is of other models or settings ({other}, now {key}): "
                "give another output folder"
            )
        return key
    # Workers that start together write the same content, so the last one to rename does no harm.
    _write_json(path, about)
    return run_hash(about)


def read_about(out: Path) -> dict[str, Any]:
    """Return the run metadata of a folder of parts.

    Args:
        out: folder of the run.

    Raises:
        UserError: if the folder holds no run of a prediction.
    """
    path = out / METADATA
    if not path.is_file():
        raise UserError(f"{out}: no {METADATA} in it: no shard has run with this output folder")
    return _read_about(path)


def _read_about(path: Path) -> dict[str, Any]:
    """Return the content of a run's metadata, with every key and values of their kinds.

    Raises:
        UserError: if anything else wrote the file, such as a training.
    """
    content = _read_json(path)
    for key, (kind, entry_kind) in METADATA_KINDS.items():
        value = content.get(key)
        # The entries of a dict are its keys.
        if not isinstance(value, kind) or not all(isinstance(one, entry_kind) for one in value):
            raise UserError(
                f"{path}: was not written by a prediction ({key} is missing or of another kind): "
                "give another --out"
            )
    return content


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise UserError(
            f"{path}: was not written by a prediction (not a JSON object): give another --out"
        )
    return content


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with atomic_write(path, "w") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.write("\n")


def old_part_path(out: Path, name: str) -> Path:
    """Return the part file that earlier versions wrote of each video, in one of 256 folders."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return out / PARTS / digest[:2] / f"{digest[2:34]}.json"


def is_final(row: PartRow, item: VideoItem) -> bool:
    """Return whether a row holds: its file did not change, and could be opened.

    Args:
        row: row of the video.
        item: the video.
    """
    if row.result.status.endswith(PASSING):
        return False
    now = video_state(item.path) or NO_FILE
    # An answer outlives the file that it is of.
    if row.state == NOT_KEPT or (now == NO_FILE and row.result.ok):
        return True
    return row.state == now


class Journal:
    """File of one worker for one part: rows are appended, and on the disk at its end.

    Args:
        path: the file, made when the first row comes.
        key: hash of the run.
    """

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._key = key
        self._file: IO[str] | None = None

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, row: PartRow) -> None:
        """Append a row, which outlives the process from then on."""
        if self._file is None:
            self._file = open_own(self.path)
        content = {"run": self._key, "row": to_plain(row.result), "file": row.state}
        with named_where_full(self.path):
            self._file.write(json.dumps(content, allow_nan=False) + "\n")
            self._file.flush()


@dataclass(frozen=True)
class Parts:
    """Parts of a run in a folder.

    Attributes:
        out: folder of the run.
        key: hash of the run.
        class_names: names of its K classes.
        num_rows: rows of each part, of the last one perhaps fewer.
        has_old: whether earlier versions wrote a file for each video there.
    """

    out: Path
    key: str
    class_names: tuple[str, ...]
    num_rows: int
    has_old: bool

    @property
    def folder(self) -> Path:
        """Folder of the files of all parts."""
        return self.out / PARTS

    def items_of(self, part: int, items: Sequence[VideoItem]) -> Sequence[VideoItem]:
        """Return the videos of a part."""
        return items[part * self.num_rows : (part + 1) * self.num_rows]

    def count(self, items: Sequence[VideoItem]) -> int:
        """Return the number of parts of a list."""
        return math.ceil(len(items) / self.num_rows)

    def sealed(self) -> set[int]:
        """Return the numbers of the parts that are sealed."""
        found = set()
        for name in os.listdir(self.folder):
            if re.fullmatch(r"\d{6}\.npz", name):
                found.add(int(name[:6]))
        return found

    def journal(self, part: int) -> Journal:
        """Return a new journal of a part."""
        return Journal(self.folder / f"{part:06d}.{uuid.uuid4().hex}.jsonl", self.key)

    def table(self, part: int) -> PartTable | None:
        """Return the table of a sealed part, None where there is none, or it is damaged.

        A part of another run counts as damaged.
        """
        path = self._sealed_path(part)
        try:
            arrays = read_npz_bytes(path.read_bytes())
            if str(arrays["run"]) != self.key:
                raise ValueError("it is of another run")
            return from_arrays(arrays, len(self.class_names))
        except FileNotFoundError:
            return None
        except (UserError, ValueError, KeyError, TypeError) as error:
            logger.warning("%s: the part is made again: %s", path, error)
            return None

    def rows(self, part: int, items: Sequence[VideoItem]) -> dict[str, PartRow]:
        """Return the rows that there are of a part, by name, in the order in which they were made.

        Args:
            part: number of the part.
            items: its videos.
        """
        rows: dict[str, PartRow] = {}
        if self.has_old:
            for item in items:
                row = self._old_row(item.name)
                if row is not None:
                    rows[item.name] = row
        table = self.table(part)
        if table is not None:
            for row in table.rows(self.class_names):
                rows[row.result.name] = row
        for path in self._journals(part):
            for row in self._journal_rows(path):
                rows[row.result.name] = row
        return rows

    def seal(self, part: int, rows: Sequence[PartRow]) -> None:
        """Write the rows of a part in one file, and remove its journals.

        Args:
            part: number of the part.
            rows: all of its rows, in the order of the list.
        """
        arrays = to_arrays(table_of(rows, len(self.class_names)))
        # Listed before: a journal that appears later is of a worker that is not done.
        journals = self._journals(part)
        with atomic_write(self._sealed_path(part)) as file:
            write_npz(file, {"run": np.array(self.key), **arrays})
        for path in journals:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def old_files(self) -> Iterator[Path]:
        """Yield the files of earlier versions, without temporary files of killed processes."""
        for entry in os.scandir(self.folder):
            if _OLD_FOLDER.fullmatch(entry.name) and entry.is_dir():
                for path in Path(entry.path).glob("*.json"):
                    if not path.name.startswith("."):
                        yield path

    def _sealed_path(self, part: int) -> Path:
        return self.folder / f"{part:06d}.npz"

    def _journals(self, part: int) -> list[Path]:
        """Return the journals of a part, the one that was written last at the end."""
        found = []
        for path in self.folder.glob(f"{part:06d}.*.jsonl"):
            state = file_state(path)
            if _JOURNAL.fullmatch(path.name) and state is not None:
                found.append((state[1], path))
        return [path for _, path in sorted(found)]

    def _journal_rows(self, path: Path) -> Iterator[PartRow]:
        """Yield the rows of a journal, without a last one that a killed worker left incomplete."""
        try:
            text = path.read_text(encoding="utf-8", errors="backslashreplace")
        except FileNotFoundError:
            # Sealed by another worker in between.
            return
        # JSON lines end with \n alone: other separators of lines may be part of a name.
        for line in text.split("\n"):
            row = self._row(line)
            if row is not None:
                yield row

    def _old_row(self, name: str) -> PartRow | None:
        try:
            row = self._row(old_part_path(self.out, name).read_text(encoding="utf-8"))
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return row if row is not None and row.result.name == name else None

    def _row(self, line: str) -> PartRow | None:
        """Return the row of a line, None where it is damaged or of another run."""
        try:
            content = json.loads(line)
            if content["run"] != self.key:
                return None
            result = from_plain(content["row"], self.class_names)
            state = content.get("file", NOT_KEPT) or NO_FILE
            return PartRow(result, (int(state[0]), int(state[1])))
        except DAMAGE:
            return None


def open_parts(out: Path, key: str, class_names: Sequence[str], num_items: int) -> Parts:
    """Open the parts of a run, and make their folder if it is new.

    Args:
        out: folder of the run.
        key: hash of the run.
        class_names: names of its K classes.
        num_items: videos of the list. The first list of a run decides on the size of its parts.

    Raises:
        UserError: if the layout cannot be read.
    """
    folder = out / PARTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LAYOUT
    if not path.exists():
        # Workers that start together write the same content.
        rows = min(max(math.ceil(num_items / MOST_PARTS), 1), MOST_ROWS)
        _write_json(path, {"rows": rows})
    num_rows: Any = _read_json(path).get("rows")
    if type(num_rows) is not int or not 0 < num_rows <= MOST_ROWS:
        raise UserError(
            f"{path}: was not written by a prediction (rows is {num_rows!r}): give another --out"
        )
    has_old = any(_OLD_FOLDER.fullmatch(name) for name in os.listdir(folder))
    return Parts(out, key, tuple(class_names), num_rows, has_old)
