"""Audit of videos: measure every file once, in parallel processes, and continue after a stop."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

from nightcrawler.data.video.integrity.limits import OVER_LIMIT
from nightcrawler.data.video.remote import video_state
from nightcrawler.download.addresses import is_elsewhere
from nightcrawler.prepare.duplicates import has_content
from nightcrawler.prepare.folders import printable
from nightcrawler.prepare.measure import UNEXPECTED, Measurement, measure
from nightcrawler.prepare.sources import AuditSource
from nightcrawler.utils.io import plain_cell, write_spreadsheet_rows
from nightcrawler.utils.process import follow_parent

CSV_NAME = "audit.csv"
PAGE_NAME = "audit.html"
PAGE_MARK = "<title>Video audit"
COLUMNS = [field.name for field in fields(Measurement)]
EXTRA_COLUMNS = ["lists", "same_as"]
CASTS: dict[str, Callable[[str], str | int | float]] = {"str": str, "int": int, "float": float}
# Seconds between writes of the table, so that a killed audit loses little.
SAVE_SEC = 10.0
# Files per process and pool. A new pool after each chunk bounds the work that is repeated when a
# file ends its process, and returns memory that decoders leak.
CHUNK = 64
KILLED = "it ends the process that decodes it"

Measure = Callable[[str], Measurement]
Show = Callable[[Iterable[Measurement], int], Iterable[Measurement]]


def read_rows(path: Path) -> dict[str, Measurement]:
    """Read the measurements of an earlier audit.

    Args:
        path: its `audit.csv`.

    Returns:
        Printable path to measurement. No rows are returned of a file that is missing, damaged or of
        another version.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
        if header != COLUMNS + EXTRA_COLUMNS:
            return {}
        measurements = {}
        for row in rows:
            measurement = _parse([plain_cell(text) for text in row])
            measurements[measurement.path] = measurement
        return measurements
    except (OSError, ValueError, IndexError, csv.Error):
        # A table that cannot be used is written anew, like one that does not exist.
        return {}


def _parse(row: Sequence[str]) -> Measurement:
    # Annotations are text in this package (`from __future__ import annotations`).
    values: list[Any] = []
    for position, field in enumerate(fields(Measurement)):
        values.append(CASTS[str(field.type)](row[position]))
    return Measurement(*values)


def _is_unchanged(path: str, known: Measurement) -> bool:
    # The limit may be another one now, and a file over it is refused at once.
    if OVER_LIMIT in known.cause:
        return False
    # These causes may be due to a lack of memory, which the next audit may have.
    if known.cause.startswith((KILLED, UNEXPECTED)):
        return False
    state = video_state(path)
    if is_elsewhere(path):
        # Of an archive, the size is not that of the video.
        return state is not None and state[1] == known.mtime_ns and known.size_bytes >= 0
    return state == (known.size_bytes, known.mtime_ns)


def audit(
    sources: Sequence[AuditSource],
    out: Path,
    jobs: int,
    show: Show | None = None,
    function: Measure = measure,
) -> list[Measurement]:
    """Measure every file of the sources once and write `audit.csv`.

    The table is written every few seconds. Rows of files that kept their size and modification time
    are taken from an existing `audit.csv`, so that a stopped audit continues.

    Args:
        sources: folders and lists to audit.
        out: folder of `audit.csv`.
        jobs: number of processes.
        show: displays progress, and is called with an iterable of rows and its length.
        function: measures one file.

    Returns:
        One measurement per file, in the order of the sources.

    Example:
        >>> rows = audit([read_source(Path("data/Test"))], Path("audit"), jobs=4)
    """
    paths: list[str] = []
    for source in sources:
        paths += source.paths
    paths = list(dict.fromkeys(paths))
    known = read_rows(out / CSV_NAME)
    rows = {}
    path_of = {}
    todo = []
    for path in paths:
        text = printable(path)
        # Rows name files by their printable form, which no other file has.
        path_of[text] = path
        if text in known and _is_unchanged(path, known[text]):
            rows[path] = known[text]
        else:
            todo.append(path)
    measured = _measure_all(todo, jobs, function)
    shown = show(measured, len(todo)) if show else measured
    saved = time.monotonic()
    try:
        for row in shown:
            rows[path_of[row.path]] = row
            if time.monotonic() - saved > SAVE_SEC:
                _save(out, sources, paths, rows)
                saved = time.monotonic()
    finally:
        # Closing ends the processes, also after Ctrl-C.
        measured.close()
        _save(out, sources, paths, rows)
    return [rows[path] for path in paths]


def _save(
    out: Path, sources: Sequence[AuditSource], paths: Sequence[str], rows: dict[str, Measurement]
) -> None:
    """Write the measured rows, each with its sources and the first file of equal content."""
    sources_of: dict[str, list[str]] = {}
    for source in sources:
        for path in dict.fromkeys(source.paths):
            sources_of.setdefault(path, []).append(source.name)
    first_of_content: dict[str, str] = {}
    table = [COLUMNS + EXTRA_COLUMNS]
    for path in paths:
        if path not in rows:
            continue
        row = rows[path]
        same_as = ""
        if has_content(row):
            original = first_of_content.setdefault(row.sha256, row.path)
            if original != row.path:
                same_as = original
        table.append([*map(str, astuple(row)), ";".join(sources_of[path]), same_as])
    write_spreadsheet_rows(out / CSV_NAME, table)


def _measure_all(
    paths: Sequence[str], jobs: int, function: Measure
) -> Generator[Measurement, None, None]:
    """Measure files in processes and yield rows in the order of completion.

    A file that ends its process (a crash of the decoder, no memory) breaks the pool. The remaining
    files of the chunk are then measured again, each in a process of its own.
    """
    for start in range(0, len(paths), CHUNK * jobs):
        left = dict.fromkeys(paths[start : start + CHUNK * jobs])
        try:
            for path, row in _in_pool(list(left), jobs, function):
                del left[path]
                yield row
        except BrokenProcessPool:
            for path in left:
                yield _alone(path, function)


def _alone(path: str, function: Measure) -> Measurement:
    try:
        ((_, row),) = _in_pool([path], 1, function)
        return row
    except BrokenProcessPool:
        return Measurement(printable(path), "bad", KILLED)


def _in_pool(
    paths: Sequence[str], jobs: int, function: Measure
) -> Iterator[tuple[str, Measurement]]:
    # Workers ignore Ctrl-C, which this process handles, and exit if it is killed.
    pool = ProcessPoolExecutor(jobs, initializer=follow_parent)
    try:
        futures = {}
        for path in paths:
            futures[pool.submit(function, path)] = path
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        # Reached also when the consumer stops early: files that have not begun are dropped.
        pool.shutdown(cancel_futures=True)
