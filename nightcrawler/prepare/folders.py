"""Scan of a folder of videos: names that a list can hold, and others with the reason."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nightcrawler.data.video.suffixes import has_video_suffix, suffix_of
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import check_relative

# ASCII control characters, and the three others that end a line in some readers.
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


@dataclass(frozen=True)
class VideoFolder:
    """The videos below a folder.

    Attributes:
        path: the folder, which need not exist.
        videos: names relative to it, with forward slashes, in natural order (2.mp4 before 10.mp4).
        refused: names that no list can hold, each with the reason, as printable text.
        others: suffix to the number of its files, of those whose suffix is none of a video.
        empty: first-level subfolders without a video.
    """

    path: Path
    videos: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    others: Mapping[str, int] = field(default_factory=dict)
    empty: tuple[str, ...] = ()


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Return a sorting key that compares numbers in names by value.

    The name itself is the second part, which separates names such as `1.mp4` and `01.mp4`.
    """
    parts: list[tuple[int, int, str]] = []
    for part in re.findall(r"[0-9]+|[^0-9]+", name):
        if part[0] in "0123456789":
            parts.append((0, int(part), ""))
        else:
            parts.append((1, 0, part))
    return parts, name


def printable(name: str) -> str:
    """Return a file's name as text, with invalid UTF-8 and control characters as escapes.

    Backslashes are escaped too, so that no two names give the same text.
    """
    text = os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def scan_folder(path: Path, follow_links: bool = False) -> VideoFolder:
    """Find the videos of a folder and its subfolders, without hidden ones.

    The folder itself may be a symbolic link. Links in it that lead outside, and links to folders,
    are refused, as lists refuse them.

    Args:
        path: the folder, which has no videos if it does not exist.
        follow_links: take in what links lead to, for folders whose files will be copied.

    Raises:
        UserError: if a folder exists but cannot be read.
    """
    root = os.path.realpath(path)
    videos: list[str] = []
    refused: list[str] = []
    others: Counter[str] = Counter()
    first_level: list[str] = []
    for parent, folders, files in walk_folders(root, follow_links):
        below = os.path.relpath(parent, root).replace(os.sep, "/")
        start = f"{below}/"
        if below == ".":
            start = ""
            first_level += folders
        for name in folders:
            if not follow_links and os.path.islink(os.path.join(parent, name)):
                reason = f"a link to a folder (link the whole of {path} instead)"
                refused.append(f"{printable(start + name)}: {reason}")
        for name in files:
            if not has_video_suffix(name):
                others[suffix_of(name)] += 1
            elif reason := _reason_to_refuse(root, start + name, follow_links):
                refused.append(f"{printable(start + name)}: {reason}")
            else:
                videos.append(start + name)
    # Empty class folders are usually a download that was forgotten.
    filled = {video.split("/")[0] for video in videos}
    empty = []
    for name in first_level:
        if name not in filled:
            empty.append(printable(name))
    ordered = tuple(sorted(videos, key=natural_key))
    return VideoFolder(path, ordered, tuple(sorted(refused)), others, tuple(empty))


def walk_folders(
    root: str | Path, follow_links: bool
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield path, subfolders and files of a folder and those below it, without hidden ones.

    Args:
        root: the folder.
        follow_links: visit folders that links lead to, each once, so that circular links end.

    Raises:
        UserError: if a folder exists but cannot be read.
    """
    visited = set()
    walk = os.walk(root, onerror=raise_unless_missing, followlinks=follow_links)
    for parent, folders, files in walk:
        real = os.path.realpath(parent)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        # os.walk descends into the names that are left in this list, in its order.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield parent, folders, sorted(name for name in files if not name.startswith("."))


def raise_unless_missing(error: OSError) -> None:
    """Handle an error of `os.walk`: a folder that exists must be readable, or videos would be lost.

    Args:
        error: of listing a folder.

    Raises:
        UserError: naming the folder, unless it does not exist.
    """
    if not isinstance(error, FileNotFoundError):
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})")


def _reason_to_refuse(root: str, name: str, follow_links: bool) -> str:
    """Return why a list cannot hold a name, or an empty text if it can."""
    try:
        name.encode("utf-8")
        check_relative(name)
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    except UserError as error:
        return str(error)
    if CONTROL.search(name) or name != name.strip():
        return "the name holds control characters, or begins or ends with a blank"
    # Lists refuse names that lead outside (see `safe_join`), so training would fail later.
    path = os.path.join(root, name)
    leads_out = os.path.islink(path) and not os.path.realpath(path).startswith(root + os.sep)
    if leads_out and not follow_links:
        return "a link that leads out of the folder"
    if not os.path.isfile(path):
        return "not a file"
    return ""
