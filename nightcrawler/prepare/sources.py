"""Sources of an audit or a prediction: the videos of a folder, or of a `path,label` list."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.data.lists import VideoItem, read_list
from nightcrawler.data.splits import SPLITS, get_split
from nightcrawler.prepare.folders import printable, raise_unless_missing
from nightcrawler.utils.errors import UserError

# Suffixes of files in a data folder that are no videos. All other files are decoded, because a
# video with an unusual suffix must not be missing from an audit without a word.
NOT_VIDEOS = frozenset({
    ".csv", ".txt", ".md", ".json", ".jsonl", ".html", ".yaml", ".yml", ".png", ".jpg", ".jpeg",
    ".pkl", ".pyth",
})  # fmt: skip
# Number of classes that accepts every label: an audit does not use labels.
ANY_LABEL = 1 << 30


@dataclass(frozen=True)
class AuditSource:
    """A folder or a list to audit.

    Attributes:
        name: the path as given, printable.
        paths: its files, resolved.
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
        paths.append(os.path.realpath(item.path))
    return AuditSource(printable(str(given)), tuple(paths))


def read_videos(given: Path, num_classes: int) -> list[VideoItem]:
    """Read a folder's videos, named by their paths below it, or those of a `path,label` list.

    Videos of a folder have the label -1. A list with a name of the layout (DATASET.md) is looked up
    in its split's folders, any other list in its own folder.

    Args:
        given: the folder or list.
        num_classes: labels of a list must be below it.

    Raises:
        UserError: if `given` is neither, or names no file.
    """
    if given.is_dir():
        root = os.path.realpath(given)
        # A file that two links lead to is one video.
        paths = list(dict.fromkeys(_files_below(given)))
        if not paths:
            raise UserError(f"{given}: no file in it that could be a video")
        items = []
        for row, path in enumerate(paths, start=1):
            items.append(VideoItem(os.path.relpath(path, root), -1, Path(path), row))
        return items
    if given.suffix != ".csv":
        raise UserError(f"{given}: expected a folder, or a list with the suffix .csv")
    split_name = given.stem
    for name, (list_name, _, _) in SPLITS.items():
        if list_name == given.name:
            split_name = name
    split = get_split(split_name, given.parent)
    return read_list(given, split.folders, num_classes)


def _files_below(folder: Path) -> Iterator[str]:
    """Yield the resolved files of a folder and its subfolders, without hidden ones.

    Links to folders are followed. Each folder is visited once, so that circular links end.
    """
    visited = set()
    for parent, names, files in os.walk(folder, onerror=raise_unless_missing, followlinks=True):
        real = os.path.realpath(parent)
        if real in visited:
            names.clear()
            continue
        visited.add(real)
        # os.walk descends into the names that are left in this list, in its order.
        names[:] = sorted(name for name in names if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() not in NOT_VIDEOS:
                yield os.path.realpath(os.path.join(parent, name))
