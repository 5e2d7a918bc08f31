"""Checksums of videos.

They are the only sure sign of damage, as most codecs decode a wrong byte to a wrong picture.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nightcrawler.data.video.decode import Decoded, VideoReader
from nightcrawler.data.video.integrity.file_identity import FileState, settled_state
from nightcrawler.data.video.integrity.limits import Limits, check_regular_file
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.data.video.remote import reader_path
from nightcrawler.download.addresses import is_address
from nightcrawler.utils.errors import UserError, VideoError
from nightcrawler.utils.io import list_lines, sha256_file
from nightcrawler.utils.lru import LruMapping

# About 300 bytes each.
MOST_REMEMBERED_SUMS = 100_000

_remembered: LruMapping[FileState, str] = LruMapping(MOST_REMEMBERED_SUMS)


def content_sha256(path: str) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    A process reads an unchanged file once for it.

    Raises:
        OSError: if the file cannot be read.
    """
    state = settled_state(path)
    if state is None:
        return sha256_file(path)
    found = _remembered.get(state)
    if found is None:
        found = sha256_file(path)
        _remembered.put(state, found)
    return found


def read_checksums(path: Path, folder: Path) -> dict[str, str]:
    """Read the output of `sha256sum`.

    A line holds 64 hexadecimal digits, two characters and the path of a file, or the name that a
    video at an address or in an archive has in lists.

    Args:
        path: file with the output.
        folder: folder that `sha256sum` ran in.

    Returns:
        SHA-256 of each file, by its path without symbolic links.

    Raises:
        UserError: if the file cannot be read or a line has another form, with file and line.
    """
    try:
        lines = list_lines(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: the list of checksums cannot be read: {error}") from None
    checksums = {}
    for row, line in enumerate(lines, 1):
        match = re.fullmatch(r"([0-9a-fA-F]{64}) [ *](.+)", line)
        if match is None:
            form = "64 hex digits, two spaces, a path"
            raise UserError(f"{path}, line {row}: expected the form of sha256sum: {form}")
        name = match[2]
        # Of videos of another place, readers see a file in the cache of downloads.
        local = reader_path(name if is_address(name) else str(folder / name))
        checksums[os.path.realpath(local)] = match[1].lower()
    return checksums


@dataclass(frozen=True)
class ChecksumReader:
    """Read only files whose bytes have the expected checksum.

    Attributes:
        reader: reads the files.
        checksums: SHA-256 by path, see `read_checksums`.
        limits: largest file that is read.
    """

    reader: VideoReader
    checksums: Mapping[str, str]
    limits: Limits = field(default_factory=Limits)

    def probe(self, path: str) -> StreamInfo:
        """Compare the bytes of a file with its checksum, then probe it.

        Raises:
            VideoError: also if the file has no checksum or another one.
        """
        check_regular_file(path, self.limits)
        expected = self.checksums.get(os.path.realpath(path))
        if expected is None:
            raise VideoError(path, "the list of checksums has no line for it", "checksum")
        if content_sha256(path) != expected:
            cause = "damaged: its bytes are not those of the list of checksums"
            raise VideoError(path, cause, "checksum")
        return self.reader.probe(path)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Decode frames of a file that `probe` has checked."""
        return self.reader.decode(path, indices, info)
