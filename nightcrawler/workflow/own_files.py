"""Files in a task's folder that are its own to remove, and those that are only moved aside.

A task state is a file like any other: it may come from a download, a shared disk or another user.
So the plan alone says which files a task may remove: its outputs, and names that match its own
patterns. Links are left in place, and no file is reached through one.
"""

from __future__ import annotations

import fnmatch
import os
import shutil
import stat
import time
from collections.abc import Iterable
from pathlib import Path

from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.task import Task

# Folder inside a task's folder of the finished runs that a new one took the place of.
SUPERSEDED = ".superseded"


def find_own_files(task: Task, recorded: Iterable[str] = ()) -> list[Path]:
    """Return the existing files that a task may remove before it starts from scratch.

    Args:
        task: The task.
        recorded: Outputs of its last run, relative to its folder, as its state names them. Those
            that do not match the task's own names are left out.

    Returns:
        Regular files, each once, in the order of the outputs, then of the patterns.
    """
    found = [path for path in task.outputs if _is_regular_file(path)]
    for pattern in task.leftovers:
        found += _matches(task.folder, pattern)
    for name in recorded:
        # A plain name: one with a slash could lead anywhere.
        if "/" not in name and any(fnmatch.fnmatchcase(name, one) for one in task.earlier_outputs):
            found += [path for path in (task.folder / name,) if _is_regular_file(path)]
    return list(dict.fromkeys(found))


def _matches(folder: Path, pattern: str) -> list[Path]:
    """Return the regular files whose path below a folder matches, `*` within one name only."""
    *folders, last = pattern.split("/")
    place = folder.joinpath(*folders)
    try:
        names = sorted(os.listdir(place))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [place / name for name in names if fnmatch.fnmatchcase(name, last)]
    return [path for path in found if _is_regular_file(path)]


def _is_regular_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        # A name that a file recorded may hold what no path can.
        return False


def refuse_links(task: Task, paths: Iterable[Path]) -> None:
    """Refuse to remove files that lie behind a symbolic link.

    Args:
        task: The task.
        paths: The files.

    Raises:
        UserError: If a folder between the task's root and a file is a link.
    """
    root = task.root or task.folder
    for path in paths:
        for parent in path.parents:
            if parent == root or not parent.is_relative_to(root):
                break
            if parent.is_symlink():
                raise UserError(
                    f"{parent}: is a link, and {task.name} would remove {path.name} behind it: "
                    "remove that file yourself, or put a folder in the place of the link"
                )


def remove_own_files(task: Task, recorded: Iterable[str] = ()) -> None:
    """Remove the files of earlier runs of a task. See `find_own_files` for the arguments.

    Raises:
        UserError: If one lies behind a link. Then none is removed.
    """
    paths = find_own_files(task, recorded)
    refuse_links(task, paths)
    for path in paths:
        path.unlink()


def move_own_files_aside(task: Task, recorded: Iterable[str] = ()) -> Path:
    """Move the files of earlier runs of a task into `.superseded/<time>` of its folder.

    Args:
        task: The task.
        recorded: Outputs of its last run, as for `find_own_files`.

    Returns:
        The folder that they were moved to.

    Raises:
        UserError: If one lies behind a link. Then none is moved.
    """
    paths = find_own_files(task, recorded)
    refuse_links(task, paths)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    target = task.folder / SUPERSEDED / stamp
    number = 1
    while target.exists():
        number += 1
        target = task.folder / SUPERSEDED / f"{stamp}-{number}"
    refuse_links(task, [target])
    for path in paths:
        place = target / os.path.relpath(path, task.folder)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, place)
    return target
