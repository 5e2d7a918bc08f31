"""An audit of folders and lists: every file measured once, in parallel, resumable; what is in them twice."""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

from nightcrawler.data.lists import VideoItem, read_list
from nightcrawler.data.splits import SPLITS, get_split
from nightcrawler.prepare.folders import printable, stop_at
from nightcrawler.prepare.measure import UNEXPECTED, Measurement, measure
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import write_csv_rows
from nightcrawler.utils.process import follow_parent

CSV_NAME, PAGE_NAME = "audit.csv", "audit.html"
# Files of a data folder that are no videos; everything else is tried.
NOT_VIDEOS = frozenset({
    ".csv", ".txt", ".md", ".json", ".jsonl", ".html", ".yaml", ".yml", ".png", ".jpg", ".jpeg", ".pkl", ".pyth",
})  # fmt: skip
COLUMNS = [field.name for field in fields(Measurement)]
EXTRA_COLUMNS = ["lists", "same_as"]
CASTS: dict[str, Callable[[str], str | int | float]] = {"str": str, "int": int, "float": float}
SAVE_SEC = 10.0
CHUNK = 64
KILLED = "it ends the process that decodes it"
ANY_LABEL = 1 << 30

Measure = Callable[[str], Measurement]
Show = Callable[[Iterable[Measurement], int], Iterable[Measurement]]


@dataclass(frozen=True)
class Source:
    """A folder or a list.

    Attributes:
        name: as it was given.
        paths: its files, resolved.
    """

    name: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """Clips that two sources share.

    Attributes:
        first, second: names of the sources.
        same_file: how many files both name.
        copies: how many more have equal bytes under another name.
        examples: up to five pairs of paths, copies first.
    """

    first: str
    second: str
    same_file: int
    copies: int
    examples: tuple[tuple[str, str], ...]


def read_source(given: Path) -> Source:
    """A folder's files, or those of a `path,label` list (see `read_videos`).

    Raises:
        UserError: if it is neither, or holds nothing.
    """
    items = read_videos(given, ANY_LABEL)
    return Source(printable(str(given)), tuple(os.path.realpath(item.path) for item in items))


def read_videos(given: Path, num_classes: int) -> list[VideoItem]:
    """A folder's videos, named by their paths below it, without labels; or those of a `path,label` list.

    A list of the layout (DATASET.md) is looked up in its split's folders, any other beside itself.

    Raises:
        UserError: if it is neither, or holds nothing.
    """
    if given.is_dir():
        root, paths = os.path.realpath(given), list(dict.fromkeys(_files_below(given)))
        if not paths:
            raise UserError(f"{given}: no file in it that could be a video")
        named = enumerate(paths, start=1)
        return [VideoItem(os.path.relpath(path, root), -1, Path(path), row) for row, path in named]
    if given.suffix != ".csv":
        raise UserError(f"{given}: expected a folder, or a list with the suffix .csv")
    split_of = {list_name: name for name, (list_name, _, _) in SPLITS.items()}
    split = get_split(split_of.get(given.name, given.stem), given.parent)
    return read_list(given, split.folders, num_classes)


def _files_below(folder: Path) -> Iterator[str]:
    """Files of a folder and all folders in it, resolved, each folder once; hidden ones are passed over."""
    visited = set()
    for parent, names, files in os.walk(folder, onerror=stop_at, followlinks=True):
        real = os.path.realpath(parent)
        names[:] = (
            sorted(name for name in names if not name.startswith("."))
            if real not in visited
            else []
        )
        visited.add(real)
        for name in sorted(files) if real in visited else []:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() not in NOT_VIDEOS:
                yield os.path.realpath(os.path.join(parent, name))


def read_rows(path: Path) -> dict[str, Measurement]:
    """The measurements of an earlier audit by path; none where the file is not one of this version."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file, strict=True)
        if header != COLUMNS + EXTRA_COLUMNS:
            return {}
        return {row[0]: _parse(row) for row in rows}
    except (OSError, ValueError, IndexError, csv.Error):
        return {}


def _parse(row: Sequence[str]) -> Measurement:
    values: list[Any] = [
        CASTS[str(field.type)](row[at]) for at, field in enumerate(fields(Measurement))
    ]
    return Measurement(*values)


def _is_unchanged(path: str, known: Measurement) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    passing = known.cause.startswith((KILLED, UNEXPECTED))  # with more memory it may go well
    return (status.st_size, status.st_mtime_ns) == (
        known.size_bytes,
        known.mtime_ns,
    ) and not passing


def audit(
    sources: Sequence[Source],
    out: Path,
    jobs: int,
    show: Show | None = None,
    function: Measure = measure,
) -> list[Measurement]:
    """Measure every file of the sources once and write `audit.csv`, again and again while it goes on.

    Rows of files that kept size and time are taken from the `audit.csv` that is there, so an audit that was stopped
    goes on where it was.

    Args:
        sources: what to audit.
        out: folder of `audit.csv`.
        jobs: processes.
        show: shows progress: called with an iterable and its length.
        function: measures a file.

    Returns:
        A measurement a file, in the order of the sources.
    """
    paths = list(dict.fromkeys(path for source in sources for path in source.paths))
    known = read_rows(out / CSV_NAME)
    rows = {
        path: known[printable(path)]
        for path in paths
        if printable(path) in known and _is_unchanged(path, known[printable(path)])
    }
    todo = [path for path in paths if path not in rows]
    measured = _measure_all(todo, jobs, function)
    saved = time.monotonic()
    by_text = {printable(path): path for path in todo}
    try:
        for row in show(measured, len(todo)) if show else measured:
            rows[by_text[row.path]] = row
            if time.monotonic() - saved > SAVE_SEC:
                _save(out, sources, paths, rows)
                saved = time.monotonic()
    finally:
        measured.close()
        _save(out, sources, paths, rows)
    return [rows[path] for path in paths]


def _save(
    out: Path, sources: Sequence[Source], paths: Sequence[str], rows: dict[str, Measurement]
) -> None:
    """Write the rows there are: measurements, the sources that name the file, the first file of equal content."""
    named: dict[str, list[str]] = {}
    for source in sources:
        for path in dict.fromkeys(source.paths):
            named.setdefault(path, []).append(source.name)
    done = [path for path in paths if path in rows]
    first: dict[str, str] = {}
    table = [COLUMNS + EXTRA_COLUMNS]
    for path in done:
        row = rows[path]
        original = first.setdefault(row.sha256, row.path) if _has_content(row) else row.path
        table.append(
            [
                *map(str, astuple(row)),
                ";".join(named[path]),
                "" if original == row.path else original,
            ]
        )
    write_csv_rows(out / CSV_NAME, table)


def _has_content(row: Measurement) -> bool:
    """Empty files are equal, but no duplicates."""
    return bool(row.sha256) and row.size_bytes > 0


def _measure_all(
    paths: Sequence[str], jobs: int, function: Measure
) -> Generator[Measurement, None, None]:
    """Measure files in processes, in the order they finish.

    A file that ends its process (a crash of the decoder, no memory) takes the others of its chunk with it: they are
    measured again, each in a process of its own.
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
        return next(row for _, row in _in_pool([path], 1, function))
    except BrokenProcessPool:
        return Measurement(printable(path), "bad", KILLED)


def _in_pool(
    paths: Sequence[str], jobs: int, function: Measure
) -> Iterator[tuple[str, Measurement]]:
    pool = ProcessPoolExecutor(jobs, initializer=follow_parent)
    try:
        futures = {pool.submit(function, path): path for path in paths}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def duplicates(rows: Iterable[Measurement]) -> list[list[Measurement]]:
    """Files of equal content, grouped."""
    groups: dict[str, list[Measurement]] = {}
    for row in rows:
        if _has_content(row):
            groups.setdefault(row.sha256, []).append(row)
    return [group for group in groups.values() if len(group) > 1]


def leakage(sources: Sequence[Source], rows: Iterable[Measurement]) -> list[Overlap]:
    """Clips that are in two sources, for each pair that shares any."""
    by_path = {row.path: row for row in rows}
    found = []
    for at, first in enumerate(sources):
        for second in sources[at + 1 :]:
            overlap = _overlap(first, second, by_path)
            if overlap.same_file or overlap.copies:
                found.append(overlap)
    return found


def _overlap(first: Source, second: Source, by_path: dict[str, Measurement]) -> Overlap:
    names = {printable(path) for path in first.paths}
    by_content = {
        by_path[name].sha256: name for name in sorted(names) if _has_content(by_path[name])
    }
    same, copies = [], []
    for name in dict.fromkeys(printable(path) for path in second.paths):
        if name in names:
            same.append((name, name))
        elif _has_content(by_path[name]) and by_path[name].sha256 in by_content:
            copies.append((by_content[by_path[name].sha256], name))
    return Overlap(first.name, second.name, len(same), len(copies), tuple((copies + same)[:5]))
