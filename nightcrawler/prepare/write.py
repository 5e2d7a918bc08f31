"""Writing of planned lists without silent replacement, and of folders of the user's own data."""

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
    TRAIN,
    VAL_DRY,
    ListPlan,
    Tree,
)
from nightcrawler.prepare.published import ListRow
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write

# The published lists of bright clips end their lines with CR LF, the others with LF.
LINE_ENDS = {TRAIN: "\r\n", VAL_DRY: "\r\n"}


@dataclass(frozen=True)
class ListChange:
    """Effect of writing one list.

    Attributes:
        path: the file.
        rows: its new rows.
        kind: `new`, `same` (it holds these rows already) or `differs`.
        difference: between the rows of the file and the new ones, in words.
    """

    path: Path
    rows: list[ListRow]
    kind: str
    difference: str = ""


def compare_lists(root: Path, plan: ListPlan) -> list[ListChange]:
    """Compare the lists of a plan with existing files.

    Args:
        root: the data folder.
        plan: lists to write below it.
    """
    changes = []
    for name, rows in plan.lists.items():
        changes.append(_compare(root / name, rows))
    return changes


def _compare(path: Path, rows: list[ListRow]) -> ListChange:
    if not path.exists():
        return ListChange(path, rows, "new")
    expected = _texts(rows)
    found = _read_rows(path)
    if found is None:
        return ListChange(path, rows, "differs", "the file is no list")
    if found == expected:
        return ListChange(path, rows, "same")
    num_gone = len(set(found) - set(expected))
    num_added = len(set(expected) - set(found))
    difference = "the same rows in another order"
    if num_gone or num_added:
        difference = f"{num_gone} of its {len(found)} rows would go, {num_added} would be added"
    return ListChange(path, rows, "differs", difference)


def _texts(rows: Iterable[ListRow]) -> list[tuple[str, ...]]:
    return [(name, str(label)) for name, label in rows]


def _read_rows(path: Path) -> list[tuple[str, ...]] | None:
    """Return the fields of a list's rows without its header, `None` for a file of another kind."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            found = [tuple(fields) for fields in csv.reader(file, strict=True) if fields]
    except (UnicodeDecodeError, csv.Error):
        return None
    # The header is optional in lists.
    return found[1:] if found[:1] == [("path", "label")] else found


def refuse_outdated_validation(root: Path, plan: ListPlan) -> None:
    """Refuse a validation list that the plan leaves as it is and whose rows are others by now.

    Args:
        root: the data folder.
        plan: lists of a tree, whose training list holds all clips.

    Raises:
        UserError: if a row of it is not in the training list, with the same class number.
    """
    path = root / VAL_DRY
    if VAL_DRY in plan.lists or not path.exists():
        return
    found = _read_rows(path) or []
    others = set(found) - set(_texts(plan.lists[TRAIN]))
    if others:
        raise UserError(
            f"{path}: {len(others)} of its {len(found)} rows have other clips or class numbers "
            f"than {TRAIN} will have: remove it, or give --val-fraction to write it anew"
        )


def refuse_to_replace(changes: Iterable[ListChange]) -> None:
    """Refuse to replace existing lists that differ, before anything is written.

    Args:
        changes: of all lists.

    Raises:
        UserError: naming all that differ.
    """
    # All are named at once, so that the user decides once.
    differing = []
    for change in changes:
        if change.kind == "differs":
            differing.append(f"{change.path}: {change.difference}")
    if differing:
        raise UserError(f"existing lists differ: {'; '.join(differing)}; --force replaces them")


def write_lists(changes: Iterable[ListChange]) -> int:
    """Write the lists that are new or differ, and return their number."""
    todo = [change for change in changes if change.kind != "same"]
    for change in todo:
        line_end = LINE_ENDS.get(change.path.name, "\n")
        with atomic_write(change.path, "w") as file:
            csv.writer(file, lineterminator=line_end).writerows(change.rows)
    return len(todo)


def files_to_copy(
    tree: Tree, source: Path, dark: Path | None, out: Path
) -> list[tuple[Path, Path]]:
    """Return each file of a tree with its destination in the layout.

    Args:
        tree: names of the videos.
        source: folder of the bright clips.
        dark: folder of the dark clips, if any.
        out: the data folder.
    """
    parts = [(source, BRIGHT_FOLDER, tree.train), (source, DRY_FOLDER, tree.val)]
    if dark is not None:
        parts.append((dark, DARK_FOLDER, tree.dark))
    files = []
    for folder, destination, names in parts:
        for name in names:
            files.append((folder / name, out / destination / name))
    return files


def folders_to_link(
    tree: Tree, source: Path, dark: Path | None, out: Path
) -> list[tuple[Path, Path]]:
    """Return each folder of a tree, resolved, with the place of its link in the layout.

    Folders are linked instead of files, because lists refuse a file that leads out of its folder.

    Args:
        tree: names of the videos.
        source: folder of the bright clips.
        dark: folder of the dark clips, if any.
        out: the data folder.
    """
    # Both splits lead to the same folder: the lists tell which of its clips belong to which.
    links = [(source.resolve(), out / BRIGHT_FOLDER)]
    if tree.val:
        links.append((source.resolve(), out / DRY_FOLDER))
    if dark is not None:
        links.append((dark.resolve(), out / DARK_FOLDER))
    return links


def refuse_nested(source: Path, dark: Path | None, out: Path, names: tuple[str, str, str]) -> None:
    """Refuse folders inside one another, whose videos would be read twice, with two meanings.

    Args:
        source: folder of the bright clips.
        dark: folder of the dark clips, if any.
        out: the data folder.
        names: names of the three options, for messages.

    Raises:
        UserError: naming the inner folder and its option.
    """
    pairs = [
        (names[1], dark, source),
        (names[2], out, source),
        (names[0], source, dark),
        (names[2], out, dark),
    ]
    for option, folder, outer in pairs:
        if folder and outer and folder.resolve().is_relative_to(outer.resolve()):
            content = "labelled clips" if outer is source else "unlabelled clips"
            raise UserError(
                f"{option} {folder}: is inside {outer}, where all videos are {content}; "
                "give a folder outside of it"
            )


def check_places(
    pairs: Sequence[tuple[Path, Path]], copy: bool, advice: str = "give another --out"
) -> None:
    """Refuse destinations that exist with another content.

    Args:
        pairs: origin and destination.
        copy: files are copied, else folders are linked.
        advice: how the user chooses other destinations.

    Raises:
        UserError: naming the first such destination.
    """
    for origin, place in pairs:
        if copy:
            _refuse_a_link_to_the_origin(origin, place)
        if os.path.lexists(place) and not _is_in_place(origin, place, copy):
            raise UserError(f"{place}: exists with another content; {advice}")


def _refuse_a_link_to_the_origin(origin: Path, place: Path) -> None:
    """Refuse to copy through a link to the origin's folder: it would overwrite the originals."""
    for folder in place.parents:
        if folder.is_symlink():
            if folder.resolve() in (origin.resolve(), *origin.resolve().parents):
                raise UserError(
                    f"{folder}: links to the videos already; "
                    "remove the link first, or leave --copy out"
                )
            return


def _is_in_place(origin: Path, place: Path, copy: bool) -> bool:
    """Return whether a copy has its origin's size and time, or a link leads to its folder."""
    if not copy:
        return place.is_symlink() and place.resolve() == origin
    if place.is_symlink():
        return False
    found = place.stat()
    wanted = origin.stat()
    return (found.st_size, found.st_mtime_ns) == (wanted.st_size, wanted.st_mtime_ns)


def link_or_copy(pairs: Sequence[tuple[Path, Path]], copy: bool) -> Iterator[Path]:
    """Link folders or copy files to destinations that do not exist, and yield each destination.

    Args:
        pairs: origin and destination.
        copy: files are copied, else folders are linked.
    """
    for origin, place in pairs:
        if not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            if copy:
                _copy(origin, place)
            else:
                place.symlink_to(origin, target_is_directory=True)
        yield place


def _copy(origin: Path, place: Path) -> None:
    """Copy a file with its modification time, through a temporary name."""
    # In the same folder, so that the rename cannot cross file systems.
    descriptor, temporary = tempfile.mkstemp(dir=place.parent, prefix=".copy.", suffix=".tmp")
    os.close(descriptor)
    try:
        shutil.copy2(origin, temporary)
        os.replace(temporary, place)
    finally:
        Path(temporary).unlink(missing_ok=True)
