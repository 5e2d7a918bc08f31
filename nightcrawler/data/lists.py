"""List files: rows `path,label`, and pseudo-labels `path,label,p0,...`.

An error names the bad rows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.download.addresses import (
    MEMBER,
    check_address,
    check_member,
    is_address,
    path_of_address,
    split_member,
)
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import check_relative, plain_name, read_csv_rows

MAX_LIST_BYTES = 1 << 30
SHOWN_FAULTS = 5
# The published pseudo-labels sum to 0.95 or 0.3, see `read_pseudo`.
PROB_SUM_LEAST = 0.05
PROB_SUM_MOST = 1.01

# Label and probabilities of a row, from its fields.
ParseRow = Callable[[list[str]], tuple[int, tuple[float, ...] | None]]


class MissingVideosError(UserError):
    """None of the videos of a list is in its folders."""


@dataclass(frozen=True)
class VideoItem:
    """One row of a list.

    Attributes:
        name: path in the list, spelled as `plain_name` does. Predictions are joined by it.
        label: class index, -1 where unknown.
        path: absolute path of the file.
        row: line number in the list, from 1.
        probs: K probabilities of a pseudo-label, or `None`.
    """

    name: str
    label: int
    path: Path
    row: int
    probs: tuple[float, ...] | None = None


def read_list(
    csv_path: str | Path,
    folders: Sequence[str | Path],
    num_classes: int,
    follow_links: bool = False,
    suffix: str = "",
) -> list[VideoItem]:
    """Read rows `path,label` (comma, optional header, byte-order mark and CRLF).

    Args:
        csv_path: the list.
        folders: folders that videos are looked for in. The first that has a name wins.
        num_classes: number of classes K. Labels are -1 .. K-1.
        follow_links: accept files that are links out of the folders, for videos that are only read
            (caches of downloads keep their files elsewhere).
        suffix: end of the names of files, which names in the list may lack.

    Returns:
        One item per row, in order.

    Raises:
        MissingVideosError: if none of the videos exists.
        UserError: if the list is missing or empty, or rows are bad (the first five are named).

    Example:
        >>> read_list("data/test.csv", ["data/Test"], num_classes=11)[0].name
        '0.mp4'
    """

    def parse(fields: list[str]) -> tuple[int, None]:
        if len(fields) != 2:
            raise UserError(f"has {len(fields)} fields, expected path,label")
        return _label(fields[1], num_classes), None

    return _read(csv_path, folders, parse, follow_links, suffix)


def read_pseudo(
    csv_path: str | Path, folders: Sequence[str | Path], num_classes: int, suffix: str = ""
) -> list[VideoItem]:
    """Read rows `path,label,p0,...,p{K-1}`, or `path,label` (hard pseudo-labels).

    The published files hold rows whose probabilities sum to less than 1 (mixing weights that sum to
    0.95 or 0.3). They are accepted and normalised.

    Args:
        csv_path: the list.
        folders: folders that videos are looked for in. The first that has a name wins.
        num_classes: K.
        suffix: end of the names of files, which names in the list may lack.

    Returns:
        One item per row, in order.

    Raises:
        MissingVideosError: if none of the videos exists.
        UserError: as `read_list`, and for another number of probabilities than K, a probability
            outside [0, 1], or a label that is not the most probable class.
    """

    def parse(fields: list[str]) -> tuple[int, tuple[float, ...] | None]:
        if len(fields) not in (2, 2 + num_classes):
            raise UserError(
                f"has {len(fields) - 2} probabilities, expected {num_classes}, one for each class"
            )
        label = _label(fields[1], num_classes)
        if label < 0:
            raise UserError("label -1: a pseudo-label must be a class")
        if len(fields) == 2:
            return label, None
        return label, _probs(fields[2:], label)

    return _read(csv_path, folders, parse, suffix=suffix)


def _label(text: str, num_classes: int) -> int:
    # Not int() alone, which takes `1_0` and digits of other scripts.
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise UserError(
            f"label {text!r} is not a whole number: expected the index of a class, or -1 if it is "
            "not known (a .txt list has one path in each line, without labels)"
        )
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
    # Comparisons with NaN are false, so that a NaN fails the first test.
    in_range = all(0 <= prob <= 1 for prob in probs)
    if not in_range or not PROB_SUM_LEAST <= total <= PROB_SUM_MOST:
        found = f"probabilities {min(probs):g}..{max(probs):g} that sum to {total:g}"
        raise UserError(f"{found}: expected 0..1, sum 1")
    if probs[label] < max(probs):
        raise UserError(f"label {label} is not the most probable class {probs.index(max(probs))}")
    return tuple(prob / total for prob in probs)


def require_list(csv_path: Path) -> None:
    """Refuse a list that is not there.

    Args:
        csv_path: the list.

    Raises:
        UserError: if it is no file.
    """
    if not csv_path.is_file():
        raise UserError(
            f"{csv_path.absolute()}: no such list; see DATASET.md for the files a data folder needs"
        )


def _read_rows(csv_path: Path) -> list[tuple[int, list[str]]]:
    """Return (row number, fields) of every row that is not blank, without the header."""
    require_list(csv_path)
    if csv_path.stat().st_size > MAX_LIST_BYTES:
        raise UserError(f"{csv_path}: larger than 1 GiB: not a list")
    # The published lists have no header, those of spreadsheets have one.
    rows = read_csv_rows(csv_path, ("path", "label"))
    if not rows:
        raise UserError(f"{csv_path}: the list is empty")
    return rows


def _read(
    csv_path: str | Path,
    folders: Sequence[str | Path],
    parse: ParseRow,
    follow_links: bool = False,
    suffix: str = "",
) -> list[VideoItem]:
    """Read all rows, so that one error names several bad ones."""
    csv_path = Path(csv_path)
    locator = _Locator(folders, follow_links, suffix)
    items: list[VideoItem] = []
    faults: list[str] = []
    first_row: dict[str, int] = {}
    for row, fields in _read_rows(csv_path):
        # One file must not come twice, nor be missed when names are joined, for its spelling.
        name = plain_name(fields[0])
        try:
            check_name(fields[0])
            check_relative(name)
            if name in first_row:
                raise UserError(f"'{name}' is in row {first_row[name]} already")
            first_row[name] = row
            label, probs = parse(fields)
            items.append(VideoItem(name, label, locator.locate(fields[0]), row, probs))
        except UserError as error:
            faults.append(f"row {row}: {error}")
    if faults:
        raise UserError(f"{csv_path}: {_summary(faults)}")
    if locator.num_found == 0:
        looked = ", ".join(str(folder) for folder in folders)
        raise MissingVideosError(f"{csv_path}: none of its {len(items)} videos is in {looked}")
    return items


def locate_videos(
    csv_path: Path, folders: Sequence[str | Path], suffix: str = ""
) -> list[tuple[str, Path]]:
    """Return the name and the path of each video of a list of any kind, whether it exists or not.

    Args:
        csv_path: the list.
        folders: folders that videos are looked for in. The first that has a name wins.
        suffix: end of the names of files, which names in the list may lack.

    Raises:
        UserError: if the list cannot be read, or a name leads out of the folders.
    """
    locator = _Locator(folders, suffix=suffix)
    found = []
    for _, fields in _read_rows(csv_path):
        check_name(fields[0])
        found.append((fields[0], locator.locate(fields[0])))
    return found


def check_name(name: str) -> None:
    """Refuse a name in a list that leads out of its folder or archive, or cannot be an address.

    Raises:
        UserError: with the reason.
    """
    if is_address(name):
        check_address(name)
        return
    check_relative(name)
    check_member(split_member(name)[1])


def _summary(faults: list[str]) -> str:
    shown = "; ".join(faults[:SHOWN_FAULTS])
    if len(faults) <= SHOWN_FAULTS:
        return shown
    return f"{shown}; and {len(faults) - SHOWN_FAULTS} more"


class _Locator:
    """Find names in folders, and refuse a file outside them.

    Each folder is listed once: to ask for thousands of files one by one is slow on network file
    systems.

    Args:
        folders: searched in order.
        follow_links: accept links that lead out of them.
        suffix: end of the names of files, which names in the list may lack.
    """

    def __init__(
        self, folders: Sequence[str | Path], follow_links: bool = False, suffix: str = ""
    ) -> None:
        self._roots = [os.path.realpath(folder) for folder in folders]
        self._follow_links = follow_links
        self._suffix = suffix
        self._listed: dict[str, dict[str, bool]] = {}
        self._composed: dict[str, dict[str, str]] = {}
        self.num_found = 0

    def _entries(self, folder: str) -> dict[str, bool]:
        """Return the names in a folder, each with whether it is a symbolic link."""
        if folder not in self._listed:
            try:
                with os.scandir(folder) as entries:
                    self._listed[folder] = {entry.name: entry.is_symlink() for entry in entries}
            except OSError:
                self._listed[folder] = {}
        return self._listed[folder]

    def _spelled(self, folder: str, name: str) -> str | None:
        """Return a name as the folder has it, perhaps in another Unicode form, `None` if absent."""
        entries = self._entries(folder)
        if name in entries or name.isascii():
            return name if name in entries else None
        if folder not in self._composed:
            composed = {}
            for entry in entries:
                composed[plain_name(entry)] = entry
            self._composed[folder] = composed
        return self._composed[folder].get(plain_name(name))

    def _find(self, root: str, parts: Sequence[str]) -> str | None:
        """Return the path of a file below a root, its folders resolved, `None` if absent."""
        folder = os.path.realpath(os.path.join(root, *parts[:-1]))
        if self._entries(folder):
            last = self._spelled(folder, parts[-1])
            return None if last is None else os.path.join(folder, last)
        folder = root
        for part in parts[:-1]:
            spelled = self._spelled(folder, part)
            if spelled is None:
                return None
            folder = os.path.realpath(os.path.join(folder, spelled))
        last = self._spelled(folder, parts[-1])
        return None if last is None else os.path.join(folder, last)

    def _has(self, name: str) -> bool:
        """Return whether a folder has a file of this name."""
        return any(self._find(root, name.split("/")) is not None for root in self._roots)

    def locate(self, name: str) -> Path:
        """Return the path of a video in the first folder that has it.

        Where none has it, return the path that it would have in the first folder.

        Raises:
            UserError: if a symbolic link leads out of the folder.
        """
        if is_address(name) and not self._suffix:
            self.num_found += 1
            return path_of_address(name)
        file_name = name.removesuffix(self._suffix) + self._suffix
        if MEMBER in name and not self._suffix and not self._has(file_name):
            archive, member = split_member(name)
            return Path(f"{self.locate(archive)}::{member}")
        parts = [part for part in file_name.split("/") if part not in ("", ".")]
        for root in self._roots:
            target = self._find(root, parts)
            if target is None:
                continue
            folder, last = os.path.split(target)
            if not self._follow_links:
                if self._entries(folder)[last]:
                    target = os.path.realpath(target)
                if not target.startswith(root + os.sep):
                    raise UserError(
                        f"'{name}' leads out of {root} through a link; copies of the files, or a "
                        "link in place of the whole folder, are accepted"
                    )
            self.num_found += 1
            return Path(target)
        # The error that is raised when it is opened names it.
        return Path(self._roots[0], *parts)
