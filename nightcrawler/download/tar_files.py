"""Members of plain tar archives by name, as those of WebDataset.

The standard library's reader can be sent in circles by a header. This one goes forwards only, and
reads nothing but regular files: no links, no devices, no holes, no compression.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from nightcrawler.download.faults import DownloadError, check_size
from nightcrawler.utils.lru import LruMapping

BLOCK = 512
COPY_BYTES = 1 << 20
# Longer names than a file system takes.
MAX_HEADER_BYTES = 1 << 16
MAX_MEMBERS = 1 << 20
# Longer ones are above all sizes that there are.
MAX_DIGITS = 20
_REGULAR = (b"0", b"\0", b"7")
_LONG_NAME = b"L"
_PAX = b"x"
# Archives that are remembered together hold so many members.
_remembered: LruMapping[tuple[str, int, int], dict[str, tuple[int, int]]] = LruMapping(1 << 20)
ADVICE = "make it again with tar, uncompressed"


def copy_member(archive: Path, member: str, max_bytes: int, target: Path) -> None:
    """Copy a member of an archive to a file.

    Args:
        archive: plain tar archive.
        member: name of a regular file in it.
        max_bytes: largest size of a member.
        target: file to write.

    Raises:
        DownloadError: if there is no such member, or the archive is damaged.
        OSError: if a file cannot be read or written.
    """
    with open(archive, "rb") as file:
        start, size = find_member(archive, file, member)
        check_size(size, max_bytes)
        file.seek(start)
        with open(target, "wb") as copy:
            while size:
                block = file.read(min(size, COPY_BYTES))
                if not block:
                    raise DownloadError("the archive became shorter", ADVICE)
                copy.write(block)
                size -= len(block)


def find_member(archive: Path, file: IO[bytes], member: str) -> tuple[int, int]:
    """Return the first byte and the size of a member.

    Args:
        archive: plain tar archive.
        file: the same, open.
        member: name of a regular file in it.

    Raises:
        DownloadError: if there is no such member, or the archive is damaged.
    """
    start, size = _places(archive, file).get(member, (-1, 0))
    if start < 0:
        raise DownloadError(f"no regular file {member!r} in the archive", "check the list")
    return start, size


def _places(archive: Path, file: IO[bytes]) -> dict[str, tuple[int, int]]:
    """Return start and size of each member, remembered until the archive changes."""
    status = os.fstat(file.fileno())
    key = (str(archive), status.st_size, status.st_mtime_ns)
    found = _remembered.get(key)
    if found is None:
        found = {}
        for name, start, size in members(file, status.st_size):
            if name in found:
                raise DownloadError(f"holds {name!r} twice", ADVICE)
            found[name] = (start, size)
        _remembered.put(key, found, size=max(len(found), 1))
    return found


def members(file: IO[bytes], file_size: int) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and size of the regular files of an archive.

    Args:
        file: the archive.
        file_size: its size in bytes.

    Raises:
        DownloadError: if it is damaged, or no plain tar archive.
    """
    place = 0
    count = 0
    name_before, size_before = "", -1
    while place + BLOCK <= file_size:
        file.seek(place)
        header = file.read(BLOCK)
        if header == bytes(BLOCK):
            return
        if _checksum(header) != _number(header[148:156]):
            raise DownloadError(f"is no plain tar archive, or damaged (byte {place})", ADVICE)
        kind = header[156:157]
        size = _size(header)
        if size_before >= 0 and kind not in (_LONG_NAME, _PAX):
            size = size_before
        start = place + BLOCK
        if start + size > file_size:
            raise DownloadError(f"is cut short (byte {place})", ADVICE)
        if kind in (_LONG_NAME, _PAX):
            if size > MAX_HEADER_BYTES:
                raise DownloadError(f"has a header of {size} bytes (byte {place})", ADVICE)
            content = file.read(size)
            if kind == _LONG_NAME:
                name_before = _text(content)
            else:
                name_before, size_before = _pax(content, name_before, size_before)
        else:
            if kind in _REGULAR:
                yield (name_before or _name(header)).removeprefix("./"), start, size
            name_before, size_before = "", -1
        count += 1
        if count > MAX_MEMBERS:
            raise DownloadError(f"holds more than {MAX_MEMBERS} members", "split it")
        place = start + -(-size // BLOCK) * BLOCK
    if not count:
        raise DownloadError("is no plain tar archive", ADVICE)


def _checksum(header: bytes) -> int:
    return sum(header[:148]) + sum(b" " * 8) + sum(header[156:])


def _number(field: bytes) -> int:
    """Return an octal number, -1 where it is none."""
    try:
        return int(field.strip(b" \0") or b"0", 8)
    except ValueError:
        return -1


def _size(header: bytes) -> int:
    """Return the size of a member, which is never negative."""
    field = header[124:136]
    # Sizes of 8 GiB and more are binary.
    size = int.from_bytes(field[1:], "big") if field[0] == 0x80 else _number(field)
    if size < 0:
        raise DownloadError("has a member of a size that is no number", ADVICE)
    return size


def _name(header: bytes) -> str:
    name = _text(header[:100])
    # Only POSIX archives keep the first folders of a long name there.
    prefix = _text(header[345:500]) if header[257:265] == b"ustar\x0000" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _pax(content: bytes, name: str, size: int) -> tuple[str, int]:
    """Return name and size of the next member as records of `LENGTH KEY=VALUE` say."""
    while content:
        length = content.partition(b" ")[0]
        if not length.isdigit() or not len(length) < _decimal(length) <= len(content):
            raise DownloadError("has a header that is damaged", ADVICE)
        record = content[len(length) + 1 : int(length)].rstrip(b"\n")
        key, _, value = record.partition(b"=")
        if key == b"path":
            name = _text(value)
        elif key == b"size" and value.isdigit():
            size = _decimal(value)
        elif key.startswith(b"GNU.sparse"):
            raise DownloadError("has a member with holes", ADVICE)
        content = content[int(length) :]
    return name, size


def _decimal(digits: bytes) -> int:
    """Return a decimal number, which is refused where Python would refuse to read it."""
    if len(digits) > MAX_DIGITS:
        raise DownloadError(f"has a number of {len(digits)} digits in a header", ADVICE)
    return int(digits)
