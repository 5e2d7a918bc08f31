"""Files of the Hugging Face hub: `hf://OWNER/REPOSITORY/FILE`, `hf://datasets/OWNER/...`.

A branch, tag or commit follows the repository's name behind an `@`. Without a file, it is the
weights that `nightcrawler push` sends.
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nightcrawler.download.client import MAX_BYTES, disk_full
from nightcrawler.download.faults import BY_HAND, DownloadError, check_size
from nightcrawler.utils.errors import UserError, is_disk_full
from nightcrawler.utils.io import check_relative

SCHEME = "hf://"
# File of an address without one.
DEFAULT_FILE = "model.safetensors"
DATASETS = "hf://datasets/"
SHA256_DIGITS = 64
# Owners and repositories: the hub allows no other characters, and no dot at the start.
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class HubFile:
    """One file of the hub.

    Attributes:
        repository: `OWNER/NAME`.
        file: path within it.
        revision: branch, tag or commit, empty for the newest.
        kind: `model` or `dataset`.
    """

    repository: str
    file: str
    revision: str = ""
    kind: str = "model"


def parse_hub_address(address: str) -> HubFile:
    """Return the parts of an address of the hub.

    Raises:
        UserError: if it does not name a file of a repository.
    """
    is_dataset = address.startswith(DATASETS)
    parts = address.removeprefix(DATASETS).removeprefix(SCHEME).split("/")
    if len(parts) == 2 and not is_dataset:
        parts.append(DEFAULT_FILE)
    if len(parts) < 3 or not all(parts):
        raise UserError(f"{address}: expected hf://OWNER/REPOSITORY/FILE")
    name, _, revision = parts[1].partition("@")
    file = "/".join(parts[2:])
    # They are folders of the cache, too.
    if not (_NAME.fullmatch(parts[0]) and _NAME.fullmatch(name)):
        raise UserError(
            f"{address}: expected hf://OWNER/REPOSITORY/FILE, names of letters, digits, - _ and ."
        )
    try:
        check_relative(file)
    except UserError as error:
        raise UserError(f"{address}: {error}") from None
    kind = "dataset" if is_dataset else "model"
    return HubFile(f"{parts[0]}/{name}", file, revision, kind)


def check_repository(name: str) -> None:
    """Refuse a text that is no name of a repository.

    Args:
        name: expected to be `OWNER/NAME`.

    Raises:
        UserError: if it is not.
    """
    parts = name.split("/")
    if len(parts) != 2 or not all(_NAME.fullmatch(part) for part in parts):
        raise UserError(
            f"{name}: expected OWNER/NAME of the hub, names of letters, digits, - _ and ."
        )


def download_from_hub(address: str, part: Path, max_bytes: int = MAX_BYTES) -> str:
    """Download a file of the hub, or the rest of it.

    Args:
        address: see above.
        part: file to write.
        max_bytes: largest size, checked before the file comes.

    Returns:
        The SHA-256 that the hub publishes of it, empty where it does not.

    Raises:
        DownloadError: if the file cannot be had. Its bytes are kept, to be continued.
    """
    # Imported here: offline commands need not wait for it.
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url

    wanted = parse_hub_address(address)
    revision = wanted.revision or None
    staging = part.with_name(part.name + ".hub")
    try:
        kind = wanted.kind
        url = hf_hub_url(wanted.repository, wanted.file, revision=revision, repo_type=kind)
        metadata = get_hf_file_metadata(url)
        check_size(metadata.size or 0, max_bytes)
        path = hf_hub_download(
            wanted.repository, wanted.file, revision=revision, repo_type=kind, local_dir=staging
        )
        os.replace(path, part)
    except DownloadError:
        raise
    except Exception as error:
        # Errors of the network are those of the library's HTTP client, which changes with versions.
        if is_disk_full(error):
            shutil.rmtree(staging, ignore_errors=True)
            raise disk_full(part, _first_line(error)) from None
        raise _fault(wanted, error) from None
    shutil.rmtree(staging, ignore_errors=True)
    etag = metadata.etag or ""
    # Large files are known by their SHA-256, small ones by a hash of git.
    return etag if len(etag) == SHA256_DIGITS else ""


def list_files(name: str) -> list[str]:
    """Return the files of a repository of the hub.

    Args:
        name: `OWNER/NAME` or `OWNER/NAME@REVISION`.

    Raises:
        UserError: if there is no such repository, or the hub cannot be reached.
    """
    from huggingface_hub import HfApi

    repository, _, revision = name.partition("@")
    try:
        # One request, which is not tried again for half a minute where there is no network.
        found = HfApi().model_info(repository, revision=revision or None)
        return sorted(one.rfilename for one in found.siblings or ())
    except Exception as error:
        fault = _fault(HubFile(repository, "", revision), error)
        raise UserError(f"{SCHEME}{name}: {fault.cause}: {fault.advice}") from None


def _fault(wanted: HubFile, error: Exception) -> DownloadError:
    """Return the fault behind an error of the hub's library."""
    from huggingface_hub import errors

    reason = _first_line(error)
    if isinstance(error, errors.GatedRepoError):
        page = f"https://huggingface.co/{wanted.repository}"
        return DownloadError(
            "asks to accept its terms", f"accept them on {page} and set HF_TOKEN, {BY_HAND}"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return DownloadError(
            f"no public repository {wanted.repository}",
            f"check the name, or set HF_TOKEN for a private one, {BY_HAND}",
        )
    if isinstance(error, (errors.RemoteEntryNotFoundError, errors.RevisionNotFoundError)):
        return DownloadError(f"no such file or revision ({reason})", f"check the names, {BY_HAND}")
    if isinstance(error, errors.HfHubHTTPError):
        return DownloadError(f"the hub refuses ({reason})", f"try again later, {BY_HAND}")
    return DownloadError(
        f"cannot be reached ({reason})", f"check the network and try again, {BY_HAND}"
    )


def _first_line(error: Any) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
