"""Merge the parts of a large prediction, with one of them in memory at a time."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.ensemble import run_hash
from nightcrawler.predict.part_table import PartTable, table_of
from nightcrawler.predict.parts import Parts, old_part_path, open_parts, read_about
from nightcrawler.predict.shards import refuse_others
from nightcrawler.predict.video_result import (
    TIMELINE_HEADER,
    VideoResult,
    csv_header,
    csv_rows,
    timeline_rows,
)
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, write_spreadsheet_rows
from nightcrawler.utils.npz import ArrayBlocks, write_npz
from nightcrawler.utils.outputs import refuse_other_file

SHOWN_NAMES = 5
BLOCK_ROWS = 1 << 14


@dataclass(frozen=True)
class Merged:
    """Outcome of a merge.

    Attributes:
        files: the written files.
        num_rows: number of videos.
        num_without: number of these without a prediction.
        num_damaged: number of these of which a part was predicted.
    """

    files: list[Path]
    num_rows: int
    num_without: int
    num_damaged: int


@dataclass
class _Survey:
    """Figures of all parts, which the headers of arrays need."""

    num_without: int = 0
    num_damaged: int = 0
    has_segments: bool = False
    name_width: int = 1
    status_width: int = 1

    def add(self, table: PartTable) -> None:
        """Count the rows of a part."""
        self.num_without += int((~table.ok).sum())
        self.num_damaged += int(table.is_damaged.sum())
        self.has_segments |= any(table.segments)
        self.name_width = max(self.name_width, *map(len, table.names))
        self.status_width = max(self.status_width, *map(len, table.plain_status))


class _Columns:
    """Columns of a results file, kept on the disk until all rows are there.

    Args:
        folder: of the temporary files, which have no names.
        survey: figures of all parts.
        num_rows: number of videos.
        num_classes: K.
    """

    def __init__(self, folder: Path, survey: _Survey, num_rows: int, num_classes: int) -> None:
        self.num_rows = num_rows
        self._take: dict[str, tuple[np.dtype, int, Callable[[PartTable], Any]]] = {
            "video_preds": (np.dtype(np.float32), num_classes, lambda table: table.logits),
            "video_probs": (np.dtype(np.float32), num_classes, lambda table: table.probs),
            "video_labels": (np.dtype(np.int64), 0, lambda table: table.labels),
            "video_names": (np.dtype(f"U{survey.name_width}"), 0, lambda table: table.names),
            "num_clips": (np.dtype(np.int64), 0, lambda table: table.num_clips),
            "status": (np.dtype(f"U{survey.status_width}"), 0, lambda table: table.plain_status),
        }
        self._files: dict[str, IO[bytes]] = {}
        for name in self._take:
            # Closed by `close`. On the disk of the output, which has room for them.
            self._files[name] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def add(self, table: PartTable) -> None:
        """Append the rows of a part."""
        for name, (dtype, _, take) in self._take.items():
            self._files[name].write(np.ascontiguousarray(take(table), dtype).tobytes())

    def arrays(self) -> dict[str, ArrayBlocks]:
        """Return the columns as arrays, under the names that `Predictions.save` writes."""
        found = {}
        for name, (dtype, width, _) in self._take.items():
            shape = (self.num_rows, width) if width else (self.num_rows,)
            file = self._files[name]
            found[name] = ArrayBlocks(dtype, shape, functools.partial(_blocks, file, dtype, shape))
        return found

    def close(self) -> None:
        """Remove the temporary files."""
        for file in self._files.values():
            file.close()


def _blocks(file: IO[bytes], dtype: np.dtype, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield the rows of a file, `BLOCK_ROWS` at a time."""
    row_bytes = dtype.itemsize * math.prod(shape[1:])
    file.seek(0)
    while content := file.read(BLOCK_ROWS * row_bytes):
        yield np.frombuffer(content, dtype).reshape(-1, *shape[1:])


def merge(out: Path, items: Sequence[VideoItem], top: int, reject: bool = False) -> Merged:
    """Check that a run is complete, and write one result of all parts.

    Writes `predictions.csv`, `predictions.npz` and, for windows, `timeline.csv`.

    Args:
        out: folder of the run.
        items: every video of the list.
        top: number of classes per row of the CSV file.
        reject: name no class of an answer that is not sure.

    Raises:
        UserError: if a video has no prediction, a part is of a video outside the list, or a table
            of something else would be replaced.
    """
    about = read_about(out)
    key = run_hash(about)
    parts = open_parts(out, key, about["class_names"], len(items))
    refuse_unlisted(parts, items)
    survey = _survey(parts, items)
    files = _targets(out, survey.has_segments)

    columns = _Columns(out, survey, len(items), len(parts.class_names))
    with contextlib.closing(columns):
        rows = csv_rows(_results(parts, items, columns.add), top, reject)
        write_spreadsheet_rows(files[0], rows)
        arrays: dict[str, np.ndarray | ArrayBlocks] = {**columns.arrays()}
        arrays["class_names"] = np.array(parts.class_names, np.str_)
        arrays["meta"] = np.array(json.dumps({**about, "run": key}))
        with atomic_write(files[1]) as file:
            write_npz(file, arrays)
    if survey.has_segments:
        write_spreadsheet_rows(files[2], timeline_rows(_results(parts, items), reject))
    return Merged(files, len(items), survey.num_without, survey.num_damaged)


def _targets(out: Path, has_segments: bool) -> list[Path]:
    """Return the files to write.

    Raises:
        UserError: if a table of something else is in the place of one.
    """
    files = [out / "predictions.csv", out / "predictions.npz"]
    refuse_other_file(files[0], ",".join(csv_header(1)), "a prediction")
    if has_segments:
        files.append(out / "timeline.csv")
        # Earlier versions wrote fewer columns.
        refuse_other_file(files[2], ",".join(TIMELINE_HEADER[:3]), "a prediction")
    return files


def _results(
    parts: Parts, items: Sequence[VideoItem], also: Callable[[PartTable], None] | None = None
) -> Iterator[VideoResult]:
    """Yield the results of all videos, and hand each part to another function."""
    for part in range(parts.count(items)):
        table, _ = _complete_table(parts, part, items)
        if also is not None:
            also(table)
        yield from table.results(parts.class_names)


def refuse_unlisted(parts: Parts, items: Sequence[VideoItem]) -> None:
    """Refuse parts behind the end of a list, and old ones of videos that it does not have.

    Raises:
        UserError: with their number: the list changed after the shards had started.
    """
    behind = [part for part in parts.sealed() if part >= parts.count(items)]
    extra = [str(part) for part in behind]
    if parts.has_old:
        known = {old_part_path(parts.out, item.name) for item in items}
        extra += sorted(str(path) for path in parts.old_files() if path not in known)
    if extra:
        raise UserError(
            f"{parts.out}: {len(extra)} parts are of videos that the list does not have, such as "
            f"{extra[0]}"
        )


def _survey(parts: Parts, items: Sequence[VideoItem]) -> _Survey:
    """Check that every video has a row, and count.

    Raises:
        UserError: naming the first videos without a row.
    """
    survey = _Survey()
    lacking: list[str] = []
    for part in range(parts.count(items)):
        table, lacking_here = _complete_table(parts, part, items)
        lacking += lacking_here
        if not lacking:
            survey.add(table)
    if lacking:
        shown = ", ".join(f"'{name}'" for name in lacking[:SHOWN_NAMES])
        raise UserError(
            f"{parts.out}: {len(lacking)} of {len(items)} videos have no prediction: {shown}; "
            "run the shards again to add them"
        )
    return survey


def _complete_table(
    parts: Parts, part: int, items: Sequence[VideoItem]
) -> tuple[PartTable, list[str]]:
    """Return the table of a part, sealed or not, and the names of the videos that it lacks."""
    mine = parts.items_of(part, items)
    names = [item.name for item in mine]
    table = parts.table(part)
    if table is None or table.names != names:
        rows = parts.rows(part, mine)
        refuse_others(parts, part, rows, mine)
        there = [rows[name] for name in names if name in rows]
        table = table_of(there, len(parts.class_names))
        return table, [name for name in names if name not in rows]
    return table, []
