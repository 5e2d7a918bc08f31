"""Scan of a folder of videos: names that a list can hold, and others with the reason."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import check_relative

VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".asf", ".flv", ".mpg", ".mpeg",
    ".ts", ".3gp", ".ogv",
})  # fmt: skip
# ASCII control characters, and the three others that end a line in some readers.
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


@dataclass(frozen=True)
class VideoFolder:
    """The videos below a folder.

    Attributes:
        path: the folder, which need not exist.
        videos: names relative to it, with forward slashes, in natural order (2.mp4 before 10.mp4).
        refused: names that no list can hold, each with the reason, as printable text.
        num_others: number of files whose suffix is none of a video.
        empty: first-level subfolders without a video.
    """

    path: Path
    videos: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    num_others: int = 0
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


def scan_folder(path: Path) -> VideoFolder:
    """Find the videos of a folder and its subfolders, without hidden ones.

    The folder itself may be a symbolic link. Links in it that lead outside, and links to folders,
    are refused, as lists refuse them.

    Args:
        path: the folder, which has no videos if it does not exist.

    Raises:
        UserError: if a folder exists but cannot be read.
    """
    root = os.path.realpath(path)
    videos: list[str] = []
    refused: list[str] = []
    num_others = 0
    first_level: list[str] = []
    for parent, folders, files in os.walk(root, onerror=raise_unless_missing):
        # os.walk descends into the names that are left in this list, in its order.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(parent, root).replace(os.sep, "/")
        start = f"{below}/"
        if below == ".":
            start = ""
            first_level += folders
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                reason = f"a link to a folder (link the whole of {path} instead)"
                refused.append(f"{printable(start + name)}: {reason}")
        for name in files:
            if name.startswith("."):
                continue
            if os.path.splitext(name)[1].lower() not in VIDEO_SUFFIXES:
                num_others += 1
            elif reason := _reason_to_refuse(root, start + name):
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
    return VideoFolder(path, ordered, tuple(sorted(refused)), num_others, tuple(empty))


def raise_unless_missing(error: OSError) -> None:
    """Handle an error of `os.walk`: a folder that exists must be readable, or videos would be lost.

    Args:
        error: of listing a folder.

    Raises:
        UserError: naming the folder, unless it does not exist.
    """
    if not isinstance(error, FileNotFoundError):
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})")


def _reason_to_refuse(root: str, name: str) -> str:
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
    if os.path.islink(path) and not os.path.realpath(path).startswith(root + os.sep):
        return "a link that leads out of the folder"
    if not os.path.isfile(path):
        return "not a file"
    return ""
