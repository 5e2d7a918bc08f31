"""List files: `path,label` rows, and pseudo-labels `path,label,p0,...`; every bad row is named."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import check_relative

MAX_LIST_BYTES = 1 << 30
SHOWN_FAULTS = 5
PROB_SUM_LEAST, PROB_SUM_MOST = 0.05, 1.01


@dataclass(frozen=True)
class VideoItem:
    """One row of a list.

    Attributes:
        name: the path as written in the list; predictions are joined by it.
        label: class index, -1 where unknown.
        path: the file, absolute.
        row: line number in the list, from 1.
        probs: K probabilities of a pseudo-label, where the list has them.
    """

    name: str
    label: int
    path: Path
    row: int
    probs: tuple[float, ...] | None = None


def read_list(
    csv_path: str | Path, folders: Sequence[str | Path], num_classes: int
) -> list[VideoItem]:
    """Read `path,label` rows (comma; optional header, byte-order mark and CRLF).

    Args:
        csv_path: the list.
        folders: where videos are looked for; the first folder that has a name wins.
        num_classes: K; labels are -1 .. K-1.

    Raises:
        UserError: if the list is missing or empty, rows are bad (the first five are named), or none of the videos
            exists.
    """

    def parse(fields: list[str]) -> tuple[int, None]:
        if len(fields) != 2:
            raise UserError(f"has {len(fields)} fields, expected path,label")
        return _label(fields[1], num_classes), None

    return _read(csv_path, folders, parse)


def read_pseudo(
    csv_path: str | Path, folders: Sequence[str | Path], num_classes: int
) -> list[VideoItem]:
    """Read `path,label,p0,...,p{K-1}` rows, or `path,label` rows (hard pseudo-labels).

    The published files hold rows whose probabilities sum to less than 1 (mixing weights that sum to 0.95 or 0.3):
    they are accepted and normalised.

    Raises:
        UserError: as `read_list`; also for another number of probabilities than K, a probability outside [0, 1], or a
            label that is not the most probable class.
    """

    def parse(fields: list[str]) -> tuple[int, tuple[float, ...] | None]:
        if len(fields) not in (2, 2 + num_classes):
            raise UserError(
                f"has {len(fields) - 2} probabilities, expected {num_classes} (MODEL.NUM_CLASSES)"
            )
        label = _label(fields[1], num_classes)
        if label < 0:
            raise UserError("label -1: a pseudo-label must be a class")
        return label, _probs(fields[2:], label) if len(fields) > 2 else None

    return _read(csv_path, folders, parse)


def _label(text: str, num_classes: int) -> int:
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise UserError(f"label {text!r} is not a whole number")
    label = int(text)
    if not -1 <= label < num_classes:
        raise UserError(
            f"label {label} is out of range, expected -1 (unknown) or 0..{num_classes - 1}"
        )
    return label


def _probs(texts: list[str], label: int) -> tuple[float, ...]:
    try:
        probs = [float(text) for text in texts]
    except ValueError as error:
        raise UserError(f"a probability is not a number ({error})") from None
    total = sum(probs)
    if (
        not all(0 <= p <= 1 for p in probs)
        or not PROB_SUM_LEAST <= total <= PROB_SUM_MOST
        or math.isnan(total)
    ):
        raise UserError(
            f"probabilities {min(probs):g}..{max(probs):g} that sum to {total:g}: expected 0..1, sum 1"
        )
    if probs[label] < max(probs):
        raise UserError(f"label {label} is not the most probable class {probs.index(max(probs))}")
    return tuple(p / total for p in probs)


def _read_rows(csv_path: Path) -> list[tuple[int, list[str]]]:
    """(row number, fields) of every row that is not blank, without the header."""
    if not csv_path.is_file():
        raise UserError(
            f"{csv_path}: no such list; see DATASET.md for the files a data folder needs"
        )
    if csv_path.stat().st_size > MAX_LIST_BYTES:
        raise UserError(f"{csv_path}: larger than 1 GiB: not a list")
    try:
        text = csv_path.read_text(encoding="utf-8-sig")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        rows = [
            (reader.line_num, [field.strip() for field in fields]) for fields in reader if fields
        ]
    except UnicodeDecodeError as error:
        raise UserError(f"{csv_path}: not UTF-8 text (byte {error.start})") from None
    except csv.Error as error:
        raise UserError(f"{csv_path}: row {reader.line_num}: {error}") from None
    if rows and rows[0][1][:2] == ["path", "label"]:
        rows = rows[1:]
    if not rows:
        raise UserError(f"{csv_path}: the list is empty")
    return rows


def _read(
    csv_path: str | Path,
    folders: Sequence[str | Path],
    parse: Callable[[list[str]], tuple[int, tuple[float, ...] | None]],
) -> list[VideoItem]:
    csv_path = Path(csv_path)
    locate = _Locator(folders)
    items: list[VideoItem] = []
    faults: list[str] = []
    first_row: dict[str, int] = {}
    for row, fields in _read_rows(csv_path):
        try:
            check_relative(fields[0])
            if fields[0] in first_row:
                raise UserError(f"'{fields[0]}' is in row {first_row[fields[0]]} already")
            first_row[fields[0]] = row
            label, probs = parse(fields)
            items.append(VideoItem(fields[0], label, locate(fields[0]), row, probs))
        except UserError as error:
            faults.append(f"row {row}: {error}")
    if faults:
        more = f"; and {len(faults) - SHOWN_FAULTS} more" if len(faults) > SHOWN_FAULTS else ""
        raise UserError(f"{csv_path}: {'; '.join(faults[:SHOWN_FAULTS])}{more}")
    if locate.num_found == 0:
        looked = ", ".join(str(folder) for folder in folders)
        raise UserError(
            f"{csv_path}: none of its {len(items)} videos is in {looked}; set DATA.PATH_PREFIX"
        )
    return items


class _Locator:
    """Finds names in folders, listing each folder once; a file that leads out of its folder is refused."""

    def __init__(self, folders: Sequence[str | Path]) -> None:
        self._roots = [os.path.realpath(folder) for folder in folders]
        self._listed: dict[str, dict[str, bool]] = {}
        self.num_found = 0

    def _entries(self, folder: str) -> dict[str, bool]:
        """Names in a folder, and whether each is a symbolic link."""
        if folder not in self._listed:
            try:
                with os.scandir(folder) as entries:
                    self._listed[folder] = {entry.name: entry.is_symlink() for entry in entries}
            except OSError:
                self._listed[folder] = {}
        return self._listed[folder]

    def __call__(self, name: str) -> Path:
        parent, _, last = name.rpartition("/")
        for root in self._roots:
            folder = os.path.realpath(os.path.join(root, parent)) if parent else root
            entries = self._entries(folder)
            if last in entries:
                path = os.path.join(folder, last)
                target = os.path.realpath(path) if entries[last] else path
                if not target.startswith(root + os.sep):
                    raise UserError(f"'{name}' leads out of {root} through a link")
                self.num_found += 1
                return Path(target)
        return Path(self._roots[0], name)
