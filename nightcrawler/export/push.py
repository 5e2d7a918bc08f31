"""Send a folder to the Hugging Face hub: one commit, or a fault in one line."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nightcrawler.download.cache import offline_switch
from nightcrawler.download.hub import check_repository
from nightcrawler.export.push_folder import STAMP
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# What the hub puts into a new repository.
HUB_FILES = (".gitattributes",)
ATTEMPTS = 3
WAIT_SEC = 2.0
# Longest wait that the hub may ask for.
LONGEST_WAIT_SEC = 120.0


class BusyHubError(UserError):
    """The hub is busy or cannot be reached: the same command may work later."""


def push(folder: Path, files: Sequence[Path], repository: str, is_private: bool) -> str:
    """Send files as one commit. A repository that does not exist is made.

    Args:
        folder: folder of the files.
        files: files in it.
        repository: `OWNER/NAME`.
        is_private: make the repository private.

    Returns:
        Address of the commit.

    Raises:
        BusyHubError: if the hub is busy, or the connection is lost, and stays so.
        UserError: if the hub refuses, or the repository holds something else.
    """
    check_repository(repository)
    switch = offline_switch()
    if switch:
        raise UserError(f"{repository}: not sent, as {switch} is set: unset it")
    from huggingface_hub import HfApi, get_token

    token = get_token()
    if not token:
        raise UserError(
            f"{repository}: no token of the hub: set HF_TOKEN, or sign in with `hf auth login`"
        )
    api = HfApi(token=token)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _send(api, folder, files, repository, is_private)
        except UserError:
            raise
        except Exception as error:
            # Errors of the network are those of the library's client, which changes with versions.
            fault, wait_sec = _fault(repository, error, token)
            is_last = attempt == ATTEMPTS or wait_sec > LONGEST_WAIT_SEC
            if not isinstance(fault, BusyHubError) or is_last:
                raise fault from None
            logger.warning("%s; again in %.0f s", fault, wait_sec)
            time.sleep(wait_sec)
    raise AssertionError("unreachable")


def _send(api: Any, folder: Path, files: Sequence[Path], repository: str, is_private: bool) -> str:
    """Make the repository where it is missing, and commit the files."""
    from huggingface_hub import CommitOperationAdd

    api.create_repo(repository, private=is_private or None, exist_ok=True)
    found = api.model_info(repository)
    _check_is_ours(repository, [one.rfilename for one in found.siblings or []])
    if is_private and not found.private:
        raise UserError(
            f"{repository}: exists and is public: make it private on its page, or name another"
        )
    operations = []
    for path in files:
        name = path.relative_to(folder).as_posix()
        operations.append(CommitOperationAdd(path_in_repo=name, path_or_fileobj=path))
    commit = api.create_commit(
        repository, operations, commit_message="Weights, configuration and card of nightcrawler"
    )
    return str(commit.commit_url)


def _check_is_ours(repository: str, names: Sequence[str]) -> None:
    """Refuse a repository with files that no push has made.

    Raises:
        UserError: naming one of them.
    """
    others = sorted({*names} - {*HUB_FILES})
    if others and STAMP not in others:
        raise UserError(
            f"{repository}: the name is taken: it holds {others[0]} and no {STAMP}, so it is "
            "nothing that `nightcrawler push` made: name another repository"
        )


def _fault(repository: str, error: Exception, token: str) -> tuple[UserError, float]:
    """Return the fault behind an error of the hub's library, and seconds to wait before a retry."""
    response = _response(error)
    reason = _first_line(error).replace(token, "***")
    if response is None and not _is_of_the_network(error):
        return UserError(
            f"{repository}: the hub answers what its library does not expect ({reason}): update "
            "huggingface_hub"
        ), 0
    if response is None:
        text = (
            f"{repository}: the hub cannot be reached ({reason}): check the network, run it again"
        )
        return BusyHubError(text), WAIT_SEC
    code = response.status_code
    wait_sec = _retry_after(response)
    if code == 401:
        return UserError(
            f"{repository}: the hub does not know the token (401): set HF_TOKEN to a valid one, or "
            "sign in with `hf auth login`"
        ), 0
    if code == 403:
        return UserError(
            f"{repository}: the token may not write there (403): give it write access to "
            f"{repository.partition('/')[0]}, or name a repository of your own"
        ), 0
    if code == 404:
        return UserError(f"{repository}: no such owner or repository (404): check the name"), 0
    if code in (409, 412):
        return UserError(
            f"{repository}: somebody else changed it meanwhile ({code}): run it again"
        ), 0
    if code == 429 or code >= 500:
        text = f"{repository}: the hub is busy ({code}): run it again in {wait_sec:.0f} s"
        return BusyHubError(text), wait_sec
    return UserError(f"{repository}: the hub refuses ({reason})"), 0


def _is_of_the_network(error: BaseException | None) -> bool:
    """Return whether an error or its cause is one of a connection."""
    while error is not None:
        # The library's HTTP client is httpx, or one of the same family.
        if isinstance(error, OSError) or type(error).__module__.startswith(("httpx", "httpcore")):
            return True
        error = error.__cause__
    return False


def _response(error: BaseException | None) -> Any:
    """Return the answer of the hub behind an error or its cause, `None` where there is none."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None and hasattr(response, "status_code"):
            return response
        error = error.__cause__
    return None


def _retry_after(response: Any) -> float:
    try:
        return max(float(response.headers.get("Retry-After", WAIT_SEC)), 0.0)
    except ValueError:
        return WAIT_SEC


def _first_line(error: BaseException) -> str:
    # The cause tells more than "Error while uploading".
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
