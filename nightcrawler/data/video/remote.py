"""Open videos that a list names on another machine or in an archive as local files."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from nightcrawler.download.addresses import (
    address_of_path,
    holder_of,
    is_address,
    is_elsewhere,
)
from nightcrawler.download.faults import DownloadError
from nightcrawler.download.videos import fetch_video, local_path
from nightcrawler.utils.errors import VideoError
from nightcrawler.utils.io import file_state

# State of a video at an address: its file here comes and goes, and is not asked for again.
AT_ADDRESS = (-1, -1)


@contextlib.contextmanager
def local_video(path: str) -> Iterator[str]:
    """Yield the path of a video's local file; errors in the block name the video as it was given.

    Args:
        path: a file, an address, or a member of an archive.

    Raises:
        VideoError: if the video cannot be had, or of the block.

    Example:
        >>> with local_video("s3://night/Run/1.mp4") as local:  # doctest: +SKIP
        ...     info = probe(local, limits)
    """
    if not is_elsewhere(path):
        yield path
        return
    given = address_of_path(path)
    try:
        local = str(fetch_video(path))
    except DownloadError as fault:
        raise VideoError(given, f"{fault.cause}; {fault.advice}", "open") from None
    except OSError as error:
        cause = f"cannot be fetched ({error.strerror or error})"
        raise VideoError(given, cause, "open") from None
    try:
        yield local
    except VideoError as error:
        # The name in the cache says nothing to anybody.
        if error.path == local:
            error.path = given
            error.args = (str(error).replace(local, given, 1),)
        raise


def reader_path(path: str) -> str:
    """Return the path by which readers know a video: that of its local file, fetched or not."""
    return str(local_path(path)) if is_elsewhere(path) else path


def video_state(path: str | Path) -> tuple[int, int] | None:
    """Return size and modification time (ns) of the file that holds a video, None where it is not.

    Answers are taken up again while this is the same. Of a member it is that of its archive.
    """
    if is_address(str(path)):
        return AT_ADDRESS
    return file_state(holder_of(str(path))[0])
