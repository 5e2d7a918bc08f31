"""Local files of videos that a list names on another machine or in an archive."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from pathlib import Path

from nightcrawler.download import client, hub, s3
from nightcrawler.download.addresses import MEMBER, address_of_path, is_address, split_member
from nightcrawler.download.cache import cache_root, offline_switch
from nightcrawler.download.faults import DownloadError
from nightcrawler.download.file_cache import LIMIT, FileCache
from nightcrawler.download.tar_files import copy_member
from nightcrawler.utils.errors import UserError

FOLDER = "videos"
DEFAULT_GIB = 20.0
# A video that does not come costs its row: fewer attempts than for weights, without which nothing
# goes on.
PATIENCE = client.Patience(attempts=4)


@functools.cache
def _cache(root: Path, text: str) -> FileCache:
    try:
        gib = float(text)
    except ValueError:
        gib = math.nan
    if not 0 < gib < math.inf:
        raise UserError(f"{LIMIT} is {text!r}: expected a number of GiB above 0")
    return FileCache(root / FOLDER, int(gib * 2**30))


def video_cache() -> FileCache:
    """Return the cache of videos: `videos` in the cache's folder, of `NIGHTCRAWLER_VIDEOS_GIB`.

    Raises:
        UserError: if the size is no number.
    """
    return _cache(cache_root(), os.environ.get(LIMIT, "") or str(DEFAULT_GIB))


def local_path(path: str) -> Path:
    """Return where the local file of a video is, or will be once it is fetched.

    Args:
        path: address, or path in an archive.
    """
    key, name = _key_of(address_of_path(path))
    return video_cache().path_of(key, name)


def fetch_video(path: str) -> Path:
    """Return the local file of a video, after it was fetched if it was not there.

    A file that was fetched before is not asked for again.

    Args:
        path: address, or path in an archive.

    Raises:
        DownloadError: if the video cannot be had.
        UserError: if a setting or an extra is missing.
        OSError: if the cache cannot be written to.
    """
    address = address_of_path(path)
    key, name = _key_of(address)
    cache = video_cache()
    found = cache.find(key, name)
    if found is not None:
        return found
    archive, member = split_member(address)
    if not member:
        return cache.add(key, name, functools.partial(_download, address, cache.max_bytes))
    # Before the lock on the member's folder: two locks could wait for each other.
    local = fetch_video(archive) if is_address(archive) else Path(archive)
    copy = functools.partial(copy_member, local, member, cache.max_bytes)
    return cache.add(key, name, copy)


def _key_of(address: str) -> tuple[str, str]:
    """Return the key of a file in the cache, and its name."""
    archive, member = split_member(address)
    if not member:
        return address, address.rpartition("/")[2]
    key = address
    if not is_address(archive):
        # A local archive may be replaced.
        key = f"{os.path.realpath(archive)}{MEMBER}{member}"
        with contextlib.suppress(OSError):
            status = os.stat(archive)
            key = f"{status.st_size} {status.st_mtime_ns} {key}"
    return key, member


def _download(address: str, max_bytes: int, part: Path) -> None:
    switch = offline_switch()
    if switch:
        raise DownloadError(f"is not fetched, as {switch} is set", f"unset {switch}")
    if address.startswith("s3://"):
        s3.download_from_s3(address, part, PATIENCE, max_bytes)
    elif address.startswith(hub.SCHEME):
        hub.download_from_hub(address, part, max_bytes)
    else:
        client.download(address, part, "", PATIENCE, max_bytes)
