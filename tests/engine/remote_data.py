"""The tiny data folder with videos of another place: of a web server, archives or an object store."""

from __future__ import annotations

import csv
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

from nightcrawler.data.splits import get_split
from tests import tiny

# Splits whose lists the tiny data folder has.
SPLITS = ("train", "val_dry", "arid", "dark_unlabel", "total_unlabel", "test")
# Name in a list of a video, from its path in the data folder.
Rename = Callable[[str], str]


def rename_videos(data: Path, target: Path, rename: Rename) -> Path:
    """Write the lists of a data folder with other names, and no video; returns their folder."""
    for name in SPLITS:
        split = get_split(name, data)
        with open(split.list_file, newline="") as file:
            rows = list(csv.reader(file))
        tiny.write_rows(
            target / split.list_file.name,
            [(rename(_path_in(data, split.folders, video)), *rest) for video, *rest in rows],
        )
    return target


def _path_in(data: Path, folders: tuple[Path, ...], video: str) -> str:
    # Where no folder has it, it is missing from the first.
    found = [folder / video for folder in folders if (folder / video).is_file()]
    return (found or [folders[0] / video])[0].relative_to(data).as_posix()


def videos_of(data: Path) -> list[str]:
    """Paths in a data folder of its videos."""
    files = (path for path in data.rglob("*") if path.suffix in (".mp4", ".avi"))
    return sorted(path.relative_to(data).as_posix() for path in files)


ARCHIVES = {
    "labeled_train/Train": "bright.tar",
    "dry_run/Validation": "val.tar",
    "dark_train/Train": "dark.tar",
    "Test": "test.tar",
}


def member_of(path: str) -> str:
    """Name in a list of a video in an archive."""
    (folder,) = (folder for folder in ARCHIVES if path.startswith(f"{folder}/"))
    return f"{ARCHIVES[folder]}::{path.removeprefix(folder + '/')}"


def name_of_file(name: str) -> str:
    """Name that the file of a video has in the lists of the tiny data folder."""
    for folder in ARCHIVES:
        name = name.rpartition(f"{folder}/")[2]
    return name


def write_archives(data: Path, target: Path) -> Path:
    """Lists of members of archives, one for each folder of videos, and the archives."""
    for folder, name in ARCHIVES.items():
        (target / folder).mkdir(parents=True)
        with tarfile.open(target / folder / name, "w") as archive:
            for video in videos_of(data / folder):
                archive.add(data / folder / video, video)
    return rename_videos(data, target, member_of)


def write_files_like_members(data: Path, target: Path) -> Path:
    """The same lists, and files whose names look like members."""
    for folder, name in ARCHIVES.items():
        for video in videos_of(data / folder):
            file = target / folder / f"{name}::{video}"
            file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data / folder / video, file)
    return rename_videos(data, target, member_of)
