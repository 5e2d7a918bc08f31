"""Names of files that are not on this machine, and of members of tar archives.

`s3://BUCKET/KEY`, `https://HOST/FILE`, `hf://OWNER/NAME/FILE`, `hf://datasets/OWNER/NAME/FILE`, and
any of these or a path that ends in `.tar::MEMBER`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from nightcrawler.download import client, hub
from nightcrawler.utils.errors import UserError, mask_credentials
from nightcrawler.utils.io import check_relative

MEMBER = ".tar::"
# A path has one of two slashes.
_ADDRESS = re.compile(r"(s3|https?|hf):/{1,2}(?=[^/])")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def is_address(text: str) -> bool:
    """Return whether a name in a list is that of a file on another machine."""
    return bool(_ADDRESS.match(text))


def is_elsewhere(text: str) -> bool:
    """Return whether a path is no file of its own: of another machine, or in an archive."""
    return is_address(text) or (MEMBER in text and not os.path.exists(text))


def check_address(address: str) -> None:
    """Refuse an address that cannot be read, or that holds a secret.

    Raises:
        UserError: with the form that was expected.
    """
    shown = mask_credentials(address.partition("?")[0])
    scheme, _, rest = address.partition("://")
    if any(part in ("", ".") for part in rest.split("/")):
        raise UserError(f"{shown}: holds an empty part or '.': rename the file")
    if any(character in address for character in "?#@") and scheme != "hf":
        # Signed addresses would be in every list of results.
        raise UserError(
            f"{shown}: expected an address without ?, # and @: keys of access come from the "
            "environment (AWS_ACCESS_KEY_ID, ..., HF_TOKEN)"
        )
    archive, member = split_member(address)
    check_member(member)
    if scheme == "s3":
        bucket, _, key = archive.removeprefix("s3://").partition("/")
        if not _BUCKET.fullmatch(bucket) or not key:
            raise UserError(f"{shown}: expected s3://BUCKET/KEY")
    elif scheme == "hf":
        hub.parse_hub_address(archive)
    elif not client.is_allowed(archive):
        raise UserError(f"{shown}: expected an https:// address")


def check_member(member: str) -> None:
    """Refuse the name of a member that leaves its archive.

    Raises:
        UserError: with the name.
    """
    if not member:
        return
    try:
        check_relative(member)
    except UserError as error:
        raise UserError(f"member of an archive: {error}") from None


def split_member(text: str) -> tuple[str, str]:
    """Return an archive and the name of a member, which is empty for a file of its own.

    Example:
        >>> split_member("shards/000.tar::a.mp4")
        ('shards/000.tar', 'a.mp4')
    """
    archive, separator, member = text.partition(MEMBER)
    return (f"{archive}.tar", member) if separator else (text, "")


def holder_of(path: str) -> tuple[str, str]:
    """Return the file that holds a video, and the name of a member, empty for a file of its own.

    Args:
        path: a file, an address, or a member of an archive.

    Example:
        >>> holder_of("Test/night.tar::a.mp4")
        ('Test/night.tar', 'a.mp4')
    """
    return split_member(address_of_path(path)) if is_elsewhere(path) else (path, "")


def path_of_address(address: str) -> Path:
    """Return the path that stands for an address in a list's rows."""
    return Path(address)


def address_of_path(path: str) -> str:
    """Return the address that a path stands for, or the path.

    Example:
        >>> address_of_path("s3:/bucket/a.mp4")
        's3://bucket/a.mp4'
    """
    match = _ADDRESS.match(path)
    return f"{match[1]}://{path[match.end() :]}" if match else path
