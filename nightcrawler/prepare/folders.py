"""What a folder of videos holds: names that a list can hold, names that it cannot, and why."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import check_relative

VIDEO_SUFFIXES = frozenset({
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".asf", ".flv", ".mpg", ".mpeg", ".ts", ".3gp", ".ogv",
})  # fmt: skip
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")


@dataclass(frozen=True)
class Folder:
    """The videos below a folder.

    Attributes:
        path: the folder; it need not exist.
        videos: names relative to it, with forward slashes, in natural order (2.mp4 before 10.mp4).
        refused: names that no list can hold, each with the reason, as text that can be printed.
        num_others: files that are no videos by their suffix.
        empty: folders in it, at its first level, without a video.
    """

    path: Path
    videos: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    num_others: int = 0
    empty: tuple[str, ...] = ()


def natural_key(name: str) -> tuple[list[tuple[int, int, str]], str]:
    """Sorts numbers in names as numbers; equal keys are told apart by the name itself."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), "") if part[0] in "0123456789" else (1, 0, part) for part in parts], name


def printable(name: str) -> str:
    """A file's name as text: bytes that are not UTF-8, and control characters, as escapes; no two names give one."""
    text = os.fsencode(name).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    return CONTROL.sub(lambda match: repr(match[0])[1:-1], text)


def scan_folder(path: Path) -> Folder:
    """Find the videos of a folder and of the folders in it; hidden names are passed over.

    The folder itself may be a link. Links in it that lead out, and links to folders, are refused, as lists refuse them.
    """
    root = os.path.realpath(path)
    videos: list[str] = []
    refused: list[str] = []
    num_others = 0
    first_level: list[str] = []
    for parent, folders, files in os.walk(root, onerror=stop_at):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(parent, root).replace(os.sep, "/")
        start = "" if below == "." else f"{below}/"
        first_level += folders if below == "." else []
        for name in [folder for folder in folders if os.path.islink(os.path.join(parent, folder))]:
            refused.append(
                f"{printable(start + name)}: a link to a folder (link the whole of {path} instead)"
            )
        for name in (file for file in files if not file.startswith(".")):
            if os.path.splitext(name)[1].lower() not in VIDEO_SUFFIXES:
                num_others += 1
            elif reason := _reason_to_refuse(root, start + name):
                refused.append(f"{printable(start + name)}: {reason}")
            else:
                videos.append(start + name)
    filled = {video.split("/")[0] for video in videos}
    empty = tuple(printable(name) for name in first_level if name not in filled)
    return Folder(
        path, tuple(sorted(videos, key=natural_key)), tuple(sorted(refused)), num_others, empty
    )


def stop_at(error: OSError) -> None:
    """Refuse to go on without a folder that is there: its videos would be missing without a word.

    Raises:
        UserError: naming it.
    """
    if not isinstance(error, FileNotFoundError):
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})")


def _reason_to_refuse(root: str, name: str) -> str:
    """Why a list cannot hold a name; empty where it can."""
    try:
        name.encode("utf-8")
        check_relative(name)
    except UnicodeEncodeError:
        return "the name is not UTF-8"
    except UserError as error:
        return str(error)
    if CONTROL.search(name) or name != name.strip():
        return "the name holds control characters, or begins or ends with a blank"
    path = os.path.join(root, name)
    if os.path.islink(path) and not os.path.realpath(path).startswith(root + os.sep):
        return "a link that leads out of the folder"
    return "" if os.path.isfile(path) else "not a file"
