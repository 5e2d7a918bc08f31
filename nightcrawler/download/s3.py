"""Objects of S3 and of stores that speak its language (`AWS_ENDPOINT_URL`), by boto3.

Keys of access come from where boto3 looks for them: environment, files, the machine's role.
"""

from __future__ import annotations

import contextlib
import functools
import os
from pathlib import Path
from typing import Any

from nightcrawler.download.client import BLOCK, Patience, disk_full, keep_trying
from nightcrawler.download.faults import DownloadError, InterruptedDownloadError, check_size
from nightcrawler.utils.errors import is_disk_full, missing_extra

TRY_AGAIN = "run the command again"
# Statuses of a store that is busy or out of order.
PASSING = (408, 429)


def download_from_s3(address: str, part: Path, patience: Patience, max_bytes: int) -> None:
    """Download an object.

    Args:
        address: `s3://BUCKET/KEY`.
        part: file to write.
        patience: waits and attempts.
        max_bytes: largest size, checked before the object comes.

    Raises:
        DownloadError: if the object cannot be had.
        UserError: if boto3 is not installed.
    """
    bucket, _, key = address.removeprefix("s3://").partition("/")
    client = _client(os.getpid(), patience)
    keep_trying(lambda: _transfer(client, bucket, key, part, max_bytes), part, patience)


@functools.cache
def _client(pid: int, patience: Patience) -> Any:
    """Return the client of this process: connections must not be shared with a forked one."""
    try:
        import boto3
        from botocore.config import Config
    except ImportError:
        raise missing_extra("s3://", "remote") from None
    del pid
    config = Config(
        connect_timeout=patience.silent_sec,
        read_timeout=patience.silent_sec,
        # Attempts and waits are those of every download, see `keep_trying`.
        retries={"total_max_attempts": 1},
    )
    return boto3.session.Session().client("s3", config=config)


def _transfer(client: Any, bucket: str, key: str, part: Path, max_bytes: int) -> None:
    """Make one connection and write the object."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        answer = client.get_object(Bucket=bucket, Key=key)
        total = int(answer["ContentLength"])
        # Not as a context of its own, which would hand out the stream without its checks.
        with contextlib.closing(answer["Body"]) as body, open(part, "wb") as file:
            check_size(total, max_bytes)
            for block in body.iter_chunks(BLOCK):
                file.write(block)
            size = file.tell()
    except ClientError as error:
        raise _fault_of_answer(error.response) from None
    except BotoCoreError as error:
        raise _fault_of_connection(error) from None
    except OSError as error:
        if is_disk_full(error):
            raise disk_full(part, str(error.strerror)) from None
        raise InterruptedDownloadError(f"broke off ({type(error).__name__})", TRY_AGAIN) from None
    if size != total:
        raise InterruptedDownloadError(f"broke off after {size} of {total} bytes", TRY_AGAIN)


def _fault_of_answer(answer: dict[str, Any]) -> DownloadError:
    """Return the fault behind a status. The words of a server may hold anything."""
    status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    cause = f"the store answers with status {status}"
    if status == 404:
        return DownloadError(f"{cause} (no such bucket or object)", "check the address")
    if status in (400, 401, 403):
        return DownloadError(
            f"{cause} (not allowed)",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
        )
    if status >= 500 or status in PASSING:
        return InterruptedDownloadError(cause, "try again later")
    return DownloadError(cause, "check the address and AWS_ENDPOINT_URL")


def _fault_of_connection(error: Exception) -> DownloadError:
    from botocore.exceptions import (
        ConnectionError,
        HTTPClientError,
        IncompleteReadError,
        NoCredentialsError,
    )

    # Only its kind: messages of the library may name keys and addresses with signatures.
    kind = type(error).__name__
    if isinstance(error, NoCredentialsError):
        return DownloadError("no key of access", "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if isinstance(error, ConnectionError | HTTPClientError | IncompleteReadError):
        return InterruptedDownloadError(
            f"the store cannot be reached ({kind})", "check the network"
        )
    return DownloadError(f"cannot be asked for ({kind})", "check the settings of AWS")
