"""Fetch a public file by its address: from https, the Hugging Face hub or Google Drive.

A file appears under its name once it is whole, on the disk and checked. Its hash is compared with
the published one where there is one. Where there is none, the first download is trusted and
recorded, and later ones are compared with it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nightcrawler.download import client, hub
from nightcrawler.download.cache import (
    Record,
    offline_switch,
    read_record,
    record_file,
    write_record,
)
from nightcrawler.download.faults import DownloadError, WebPageError
from nightcrawler.utils.errors import UserError, mask_credentials
from nightcrawler.utils.io import fsync_folder, open_own, sha256_file
from nightcrawler.utils.locks import take_record_lock
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

PART_SUFFIX = ".part"
DRIVE_FILE = re.compile(r"https://drive\.google\.com/file/d/([\w-]+)(?:/.*)?")
# Files too large for Drive's check for viruses come only with `confirm`.
DRIVE_DOWNLOAD = "https://drive.usercontent.google.com/download?id={}&export=download&confirm=t"
MAX_NAME = 80


@dataclass(frozen=True)
class Wanted:
    """Expected file of a download.

    Attributes:
        what: its description in messages.
        sha256: its published SHA-256, or the first digits of it; empty if unknown.
        size: in bytes, 0 if unknown.
        by_hand: where a user may put the file.
    """

    what: str
    sha256: str = ""
    size: int = 0
    by_hand: Path | None = None

    def __str__(self) -> str:
        parts = [self.what]
        if self.size:
            parts.append(f"{self.size} bytes")
        parts.append(f"sha256 {self.sha256}..." if self.sha256 else "of unpublished sha256")
        return ", ".join(parts)


def is_address(text: str) -> bool:
    """Return whether a text is an address to download from, not a name or a path."""
    return text.startswith(("https://", "http://", hub.SCHEME))


def file_of_address(address: str) -> str:
    """Return the relative path under which the file of an address is kept.

    Raises:
        UserError: if the address is none of a file, or must not be read.
    """
    if address.startswith(hub.SCHEME):
        wanted = hub.parse_hub_address(address)
        revision = f"@{_plain(wanted.revision)}" if wanted.revision else ""
        kind = "datasets/" if wanted.kind == "dataset" else ""
        return f"hf/{kind}{wanted.repository}{revision}/{wanted.file}"
    if not client.is_allowed(address):
        raise UserError(
            f"{mask_credentials(address)}: expected an https:// address without a password"
        )
    parts = urllib.parse.urlsplit(address)
    digest = hashlib.sha256(address.encode()).hexdigest()[:16]
    # Two addresses never share a file, whatever characters they hold.
    name = _plain(urllib.parse.unquote(parts.path).rpartition("/")[2]) or "file"
    return f"https/{_plain(parts.hostname or '')}/{digest}/{name}"


def _plain(text: str) -> str:
    """Return a text as a part of a path, without separators and leading dots."""
    return re.sub(r"[^\w.+-]", "_", text)[-MAX_NAME:].lstrip(".")


def fetch(address: str, target: Path, wanted: Wanted) -> None:
    """Download a file unless it is there.

    Several processes may call this at the same time: one downloads, the others wait.

    Args:
        address: `https://`, `hf://`, or the page of a file of Google Drive.
        target: where to put it, below the cache.
        wanted: the expected file.

    Raises:
        UserError: if the file cannot be had. It names the address, the expected file and the
            remedy. Then there is no file at `target`.
    """
    switch = offline_switch()
    if switch:
        raise _error(address, wanted, f"not read, as {switch} is set", f"unset {switch}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(target):
        if target.is_file():
            return
        record = read_record(target)
        part = target.with_name(target.name + PART_SUFFIX)
        try:
            published = _transfer(address, part, wanted)
            found = _check(part, record, wanted, published)
        except DownloadError as fault:
            raise _error(address, wanted, fault.cause, fault.advice) from None
        is_published = bool(published or wanted.sha256)
        record = Record(address, found, part.stat().st_size, is_published)
        # Before the file: one without a record would be taken for one that the user put there.
        write_record(target, record)
        os.replace(part, target)
        fsync_folder(target.parent)
        client.discard(part)
    if not is_published:
        logger.warning(
            "%s: no hash of it is published, so this first download is trusted: sha256 %s is "
            "recorded in %s, and later downloads must match it",
            target.name,
            found,
            record_file(target),
        )


@contextlib.contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Let one process at a time download a file."""
    with open_own(target.with_name(f".{target.name}.lock")) as file:
        try:
            take_record_lock(file, wait=True)
        except OSError as error:
            logger.warning(
                "%s cannot be locked (%s): make sure that only one command downloads there",
                target.parent,
                error.strerror or error,
            )
        yield


def _transfer(address: str, part: Path, wanted: Wanted) -> str:
    """Bring a file to the disk, and return the SHA-256 that its server publishes, if any."""
    if address.startswith(hub.SCHEME):
        published = hub.download_from_hub(address, part)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        return published
    drive = DRIVE_FILE.fullmatch(address)
    if drive is None:
        client.download(address, part, wanted.what)
        return ""
    try:
        client.download(DRIVE_DOWNLOAD.format(drive[1]), part, wanted.what)
    except WebPageError:
        client.discard(part)
        raise DownloadError(
            "Google Drive answers with a web page (too many downloads, or a sign-in)",
            "open the address in a browser",
        ) from None
    return ""


def _check(part: Path, record: Record | None, wanted: Wanted, published: str) -> str:
    """Return the SHA-256 of a file that is as expected; remove any other one."""
    found = sha256_file(part)
    size = part.stat().st_size
    fault = ""
    if wanted.size and size != wanted.size:
        fault = f"brought {size} bytes"
    elif not found.startswith(wanted.sha256):
        fault = f"brought a file of sha256 {found}"
    elif published and found != published:
        fault = f"brought a file of sha256 {found}, the server says {published}"
    elif record is not None and found != record.sha256:
        fault = (
            f"brought a file of sha256 {found}, the first download had {record.sha256} "
            "(recorded beside it)"
        )
    if fault:
        client.discard(part)
        raise DownloadError(
            f"{fault}; it was removed",
            "pull it again, and ask those who publish it if it stays so",
        )
    return found


def _error(address: str, wanted: Wanted, cause: str, advice: str) -> UserError:
    """Return the error of a download: address, cause, expected file, remedy."""
    place = ""
    if wanted.by_hand is not None:
        place = f" (and put it at {wanted.by_hand})"
    return UserError(f"{mask_credentials(address)}: {cause}: expected {wanted}; {advice}{place}")
