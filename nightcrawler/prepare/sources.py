"""Sources of an audit or a prediction: the videos of a folder, or of a `path,label` list."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.data.lists import VideoItem, read_list
from nightcrawler.data.splits import SPLITS, get_split
from nightcrawler.data.video.suffixes import NOT_VIDEOS, is_csv_list, suffix_of
from nightcrawler.download.addresses import address_of_path, is_address
from nightcrawler.prepare.folders import printable, walk_folders
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import plain_name, video_name

# Number of classes that accepts every label: an audit does not use labels.
ANY_LABEL = 1 << 30


@dataclass(frozen=True)
class AuditSource:
    """A folder or a list to audit.

    Attributes:
        name: the path as given, printable.
        paths: its files, in resolved folders, and addresses.
    """

    name: str
    paths: tuple[str, ...]

    @property
    def names(self) -> list[str]:
        """Return the printable paths, each once."""
        return list(dict.fromkeys(map(printable, self.paths)))


def read_source(given: Path) -> AuditSource:
    """Read a folder's files, or those of a `path,label` list (see `read_videos`).

    Args:
        given: the folder or list.

    Raises:
        UserError: if it is neither, or names no file.
    """
    paths = []
    for item in read_videos(given, ANY_LABEL):
        # Two links to one folder are one folder. A link to a file keeps its name, since the file
        # behind it may be named by a hash (caches of downloads, DVC).
        folder, name = os.path.split(item.path)
        if is_address(str(item.path)):
            paths.append(address_of_path(str(item.path)))
        else:
            paths.append(os.path.join(os.path.realpath(folder), name))
    return AuditSource(printable(str(given)), tuple(paths))


def read_videos(given: Path, num_classes: int) -> list[VideoItem]:
    """Read a folder's videos, named by their paths below it, or those of a `path,label` list.

    Videos of a folder have the label -1. A list with a name of the layout (DATASET.md) is looked up
    in its split's folders, any other list in its own folder. Links are followed: these videos are
    read only.

    Args:
        given: the folder or list.
        num_classes: labels of a list must be below it.

    Raises:
        UserError: if `given` is neither, names no file, or names two by one name.
    """
    if given.is_dir():
        items, twins = read_folder(given)
        if twins:
            raise UserError(twins_fault(given, twins[0], "rename one of them"))
        if not items:
            raise UserError(f"{given}: no file in it that could be a video")
        return items
    if not is_csv_list(given):
        raise UserError(f"{given}: expected a folder, or a list with the suffix .csv")
    split_name = given.stem
    for name, (list_name, _, _) in SPLITS.items():
        if list_name == given.name:
            split_name = name
    split = get_split(split_name, given.parent)
    # A list `LIST.CSV` is no split by its name.
    list_file = split.list_file if split_name in SPLITS else given
    return read_list(list_file, split.folders, num_classes, follow_links=True)


def read_folder(folder: Path) -> tuple[list[VideoItem], list[tuple[str, str]]]:
    """Return the videos of a folder, perhaps none, and the names of files that are left out.

    Args:
        folder: the folder.

    Returns:
        The videos, and pairs of names that are one name in two Unicode forms: results are joined
        by name.
    """
    names = list(_names_below(folder))
    twins = _find_twins(names)
    left_out = {name for pair in twins for name in pair}
    items = []
    for row, name in enumerate((name for name in names if name not in left_out), start=1):
        items.append(VideoItem(video_name(name), -1, Path(os.path.abspath(folder / name)), row))
    return items, twins


def _find_twins(names: Sequence[str]) -> list[tuple[str, str]]:
    first: dict[str, str] = {}
    twins = []
    for name in names:
        other = first.setdefault(plain_name(name), name)
        if other != name:
            twins.append((other, name))
    return twins


def twins_fault(folder: Path, pair: tuple[str, str], advice: str) -> str:
    """Return the fault of two files of one name.

    Args:
        folder: their folder.
        pair: their names in it.
        advice: what happens, or what is to be done.
    """
    other, name = pair
    return (
        f"{folder}: '{printable(name)}' is the name of two files, in two Unicode forms "
        f"({other!a}, {name!a}); {advice}"
    )


def _names_below(folder: Path) -> Iterator[str]:
    """Yield the files of a folder and its subfolders by their names in it, without hidden ones."""
    for parent, _, files in walk_folders(folder, follow_links=True):
        for name in files:
            if suffix_of(name) not in NOT_VIDEOS:
                yield os.path.relpath(os.path.join(parent, name), folder).replace(os.sep, "/")
