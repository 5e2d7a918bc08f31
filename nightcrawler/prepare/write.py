"""Writing planned lists: what would change, and never over another list unasked; folders of one's own data."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.prepare.lists import (
    BRIGHT_FOLDER,
    DARK_FOLDER,
    DRY_FOLDER,
    LINE_ENDS,
    ListPlan,
    Tree,
)
from nightcrawler.prepare.published import ListRow
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write


@dataclass(frozen=True)
class Change:
    """What writing a list means.

    Attributes:
        path: the file.
        rows: what it is to hold.
        kind: `new`, `same` (it holds these rows already) or `differs`.
        what: how it differs.
    """

    path: Path
    rows: list[ListRow]
    kind: str
    what: str = ""


def compare(root: Path, plan: ListPlan) -> list[Change]:
    """What writing the lists of a plan below `root` would change."""
    return [_compare(root / name, rows) for name, rows in plan.lists.items()]


def _compare(path: Path, rows: list[ListRow]) -> Change:
    if not path.exists():
        return Change(path, rows, "new")
    expected = [(name, str(label)) for name, label in rows]
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            found = [tuple(fields) for fields in csv.reader(file, strict=True) if fields]
    except (UnicodeDecodeError, csv.Error):
        return Change(path, rows, "differs", "it is no list")
    if found[:1] == [("path", "label")]:
        found = found[1:]
    if found == expected:
        return Change(path, rows, "same")
    gone, added = len(set(found) - set(expected)), len(set(expected) - set(found))
    how = (
        f"{gone} of its {len(found)} rows would go, {added} would come"
        if gone or added
        else "rows in another order"
    )
    return Change(path, rows, "differs", how)


def refuse_to_replace(changes: Iterable[Change]) -> None:
    """Stop before anything is written, where lists differ from those that are there.

    Raises:
        UserError: naming all of them.
    """
    differing = [f"{change.path}: {change.what}" for change in changes if change.kind == "differs"]
    if differing:
        raise UserError(f"other lists are there: {'; '.join(differing)}; --force replaces them")


def write_lists(changes: Iterable[Change]) -> int:
    """Write the lists that are new or differ; returns how many."""
    todo = [change for change in changes if change.kind != "same"]
    for change in todo:
        with atomic_write(change.path, "w") as file:
            csv.writer(file, lineterminator=LINE_ENDS.get(change.path.name, "\n")).writerows(
                change.rows
            )
    return len(todo)


def tree_files(tree: Tree, source: Path, dark: Path | None, out: Path) -> list[tuple[Path, Path]]:
    """The files of a tree, each with its place in the layout, for copies."""
    files = [(source / name, out / BRIGHT_FOLDER / name) for name in tree.train]
    files += [(source / name, out / DRY_FOLDER / name) for name in tree.val]
    if dark is not None:
        files += [(dark / name, out / DARK_FOLDER / name) for name in tree.dark]
    return files


def tree_links(tree: Tree, source: Path, dark: Path | None, out: Path) -> list[tuple[Path, Path]]:
    """The folders of a tree, each with its place in the layout, for links.

    Folders are linked, not files: lists refuse a file that leads out of its folder.
    """
    links = [(source, out / BRIGHT_FOLDER)]
    if tree.val:
        links.append((source, out / DRY_FOLDER))
    if dark is not None:
        links.append((dark, out / DARK_FOLDER))
    return [(target.resolve(), place) for target, place in links]


def check_places(pairs: Sequence[tuple[Path, Path]], copy: bool) -> None:
    """Refuse places that something else holds.

    Raises:
        UserError: naming the first of them.
    """
    for origin, place in pairs:
        holder = (
            next((folder for folder in place.parents if folder.is_symlink()), None)
            if copy
            else None
        )
        if holder is not None and holder.resolve() in (origin.resolve(), *origin.resolve().parents):
            raise UserError(
                f"{holder}: links to the videos already; remove the link first, or leave --copy out"
            )
        if os.path.lexists(place) and not _is_in_place(origin, place, copy):
            raise UserError(f"{place}: something else is there; take another --out")


def _is_in_place(origin: Path, place: Path, copy: bool) -> bool:
    """A copy is in place where size and time are those of the original; a link, where it leads to the folder."""
    if place.is_symlink() or not copy:
        return not copy and place.is_symlink() and place.resolve() == origin
    there, wanted = place.stat(), origin.stat()
    return (there.st_size, there.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns)


def put_in_place(pairs: Sequence[tuple[Path, Path]], copy: bool) -> Iterator[Path]:
    """Link folders or copy files to their places, those that are not there; yields each place."""
    for origin, place in pairs:
        if not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            if copy:
                _copy(origin, place)
            else:
                place.symlink_to(origin, target_is_directory=True)
        yield place


def _copy(origin: Path, place: Path) -> None:
    """Copy a file with its time; it is whole or absent."""
    descriptor, temporary = tempfile.mkstemp(dir=place.parent, prefix=".copy.", suffix=".tmp")
    os.close(descriptor)
    try:
        shutil.copy2(origin, temporary)
        os.replace(temporary, place)
    finally:
        Path(temporary).unlink(missing_ok=True)
