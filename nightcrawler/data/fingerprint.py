"""Fingerprints of videos: a list says which names there are, a fingerprint which content.

Lists that number their videos read the same for any data. A fingerprint is made of the size, the
first and the last 64 KiB of each video, so it is quick, and does not depend on where the data are.
Members of archives on this machine count like files. Of a video at an address nothing but the
address counts: it is fetched once, and a changed one needs a new name.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.data.lists import locate_videos
from nightcrawler.data.splits import get_split
from nightcrawler.download.addresses import address_of_path, holder_of, is_address
from nightcrawler.download.faults import DownloadError
from nightcrawler.download.tar_files import find_member
from nightcrawler.download.videos import local_path
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.utils.io import file_state

END_BYTES = 64 << 10
# Files read at a time: on network file systems, waiting takes most of the time.
NUM_READERS = 8
# A kind of hash of its own among the cached ones.
KIND = "ends"
# In the place of the hash of a file that may not be read, before its size and time.
UNREADABLE = "unreadable"


@dataclass(frozen=True)
class VideoList:
    """A list file, the folders in which its files are looked for, and the end of their names."""

    list_file: Path
    folders: tuple[Path, ...]
    suffix: str = ""


def video_list(split: str, prefix: Path, poses: str = "") -> VideoList:
    """Return the list and the folders of a split.

    Args:
        split: Name of the split.
        prefix: Data folder.
        poses: See `get_split`.
    """
    found = get_split(split, prefix, poses)
    return VideoList(found.list_file, found.folders, found.suffix)


def hash_ends(path: Path) -> str:
    """Return the SHA-256 of a video's size, its first and its last 64 KiB, in hex digits.

    Args:
        path: A file, or a member of an archive on this machine. Of an address, its file in the
            cache is meant.

    Raises:
        OSError: If it cannot be read.
    """
    given = str(path)
    holder, member = (str(local_path(given)), "") if is_address(given) else holder_of(given)
    with open(holder, "rb") as file:
        start, size = 0, os.fstat(file.fileno()).st_size
        if member:
            try:
                start, size = find_member(Path(holder), file, member)
            except DownloadError as fault:
                raise OSError(errno.ENOENT, fault.cause, str(path)) from None
        digest = hashlib.sha256(f"{size}\n".encode())
        for place in (start, start + max(size - END_BYTES, 0)):
            file.seek(place)
            digest.update(file.read(min(size, END_BYTES)))
    return digest.hexdigest()


def content_of(path: Path, hashes: FileHashes | None = None) -> str:
    """Return a text that names the content of a video, without fetching it.

    Args:
        path: A file, an address, or a member of an archive.
        hashes: Cached hashes.

    Returns:
        The hash of its ends, or its address. Where it cannot be read, size and time of its file.
    """
    if is_address(str(path)):
        return address_of_path(str(path))
    holder, member = holder_of(str(path))
    try:
        if hashes is None:
            return hash_ends(path)
        kind = f"{KIND} of {member}" if member else KIND
        return hashes.of(Path(holder), kind, lambda _: hash_ends(path))
    except OSError:
        return f"{UNREADABLE} {file_state(holder)}"


def fingerprint(videos: VideoList, hashes: FileHashes) -> str:
    """Return the hash of the content of a list's videos, in the order of the list.

    Args:
        videos: The list.
        hashes: Cached hashes: only videos whose size or time has changed are read.

    Returns:
        Hex digits, or an empty string for a list that is missing or cannot be read: whoever reads
        its rows reports that.

    Example:
        >>> hashes = FileHashes(Path(".hashes.json"))
        >>> fingerprint(video_list("test", Path("data")), hashes)[:4]
        '9f86'
    """
    try:
        status = videos.list_file.stat()
    except OSError:
        return ""
    # Once in a run of many tasks: to ask for the time of each video again takes long, too.
    key = (videos, status.st_size, status.st_mtime_ns)
    return hashes.remember(key, functools.partial(_fingerprint, videos, hashes))


def _fingerprint(videos: VideoList, hashes: FileHashes) -> str:
    try:
        located = locate_videos(videos.list_file, videos.folders, videos.suffix)
    except UserError:
        return ""

    with ThreadPoolExecutor(NUM_READERS) as pool:
        contents = pool.map(lambda one: content_of(one[1], hashes), located)
    digest = hashlib.sha256()
    for (name, _), content in zip(located, contents, strict=True):
        digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def fingerprints(
    splits: Iterable[str], prefix: Path, hashes: FileHashes, poses: str = ""
) -> Mapping[str, str]:
    """Return the fingerprint of each split whose list can be read.

    Args:
        splits: Names of splits.
        prefix: Data folder.
        hashes: Cached hashes.
        poses: See `get_split`.
    """
    found = {name: fingerprint(video_list(name, prefix, poses), hashes) for name in splits}
    return {name: text for name, text in found.items() if text}
