"""Requests of the page: which are taken, how a clip is saved, and why one is refused."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.parse
from pathlib import Path

from starlette.requests import ClientDisconnect, Request

from nightcrawler.data.video.suffixes import VIDEO_SUFFIXES, has_video_suffix
from nightcrawler.predict.open_vocabulary import parse_labels
from nightcrawler.utils.clip_worker import FULL, ClipError, StorageFullError, WorkerError
from nightcrawler.utils.errors import UserError, is_disk_full
from nightcrawler.utils.logging import get_logger
from nightcrawler.web.answers import Failure

logger = get_logger(__name__)

# Seconds to read on after an upload is refused.
DRAIN_SEC = 3.0
MAX_NAME_CHARS = 200


class RequestError(Exception):
    """A refused request.

    Args:
        status: HTTP status.
        failure: reason for the visitor, with or without details.
    """

    def __init__(self, status: int, failure: str | Failure) -> None:
        if isinstance(failure, str):
            failure = Failure(error=failure)
        super().__init__(failure.error)
        self.status = status
        self.failure = failure


def check_origin(request: Request) -> None:
    """Refuse a request that a page of another site makes.

    Raises:
        RequestError: for such a request.
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    if site is not None:
        is_own = site in ("same-origin", "none")
    else:
        # Older browsers send the origin alone, and programs neither.
        is_own = origin is None or urllib.parse.urlsplit(origin).netloc == request.headers.get(
            "host"
        )
    if not is_own:
        raise RequestError(403, "clips are accepted from this page only")


def check_upload(request: Request, max_bytes: int) -> str:
    """Return the file name of an acceptable upload.

    Args:
        request: with the clip in its body.
        max_bytes: largest clip.

    Raises:
        RequestError: if the request comes from another site, or is no clip of an allowed size.
    """
    check_origin(request)
    # A page of another site may set this header only after a preflight, which is not allowed.
    if "x-file-name" not in request.headers:
        reason = "X-File-Name is missing: it holds the clip's name, percent-encoded"
        raise RequestError(400, reason)
    name = urllib.parse.unquote(request.headers["x-file-name"], errors="replace")
    name = Path(name.replace("\\", "/")).name[-MAX_NAME_CHARS:]
    if not has_video_suffix(name):
        shown = ", ".join(suffix[1:] for suffix in VIDEO_SUFFIXES)
        reason = f"'{name}' is not a video by its name: expected one of {shown}"
        raise RequestError(415, reason)
    length = request.headers.get("content-length", "0")
    if not length.isdigit() or int(length) > max_bytes:
        raise too_large(max_bytes)
    # A chunked upload tells no length: `save` counts its bytes.
    return name


def find_labels(request: Request, takes_labels: bool) -> tuple[str, ...]:
    """Return the classes that a request wants its answer in, none for those of the server.

    Args:
        request: of a prediction.
        takes_labels: the models compare videos with words.

    Raises:
        RequestError: if the models know their own classes only, or none can be chosen from these.
    """
    text = request.query_params.get("labels", "")
    if not text:
        return ()
    if not takes_labels:
        raise RequestError(
            400, "these models know their own classes only: start the server with --labels"
        )
    try:
        return parse_labels(text, "labels")
    except UserError as error:
        raise RequestError(400, str(error)) from None


def wants_readable_part(request: Request) -> bool:
    """Return whether a request asks for the readable part of a damaged clip.

    Raises:
        RequestError: if its `readable` is neither 0 nor 1.
    """
    value = request.query_params.get("readable", "0")
    if value not in ("0", "1"):
        raise RequestError(400, f"readable={value}: expected 0 or 1")
    return value == "1"


def too_large(max_bytes: int) -> RequestError:
    """Return the refusal of a clip that is larger than `max_bytes`."""
    limit = max_bytes >> 20
    return RequestError(413, f"the file is larger than {limit} MiB: cut or scale it down")


async def save(request: Request, path: Path, max_bytes: int, upload_sec: float) -> None:
    """Write the body of a request to a file.

    Args:
        request: with the clip in its body.
        path: file to write, which must not exist.
        max_bytes: largest clip.
        upload_sec: seconds that it may take.

    Raises:
        RequestError: if it is longer than allowed, whatever its header says.
        TimeoutError: if it takes too long.
    """
    num_bytes = 0
    async with asyncio.timeout(upload_sec):
        # "x": a name that is taken would be a clip of somebody else.
        with open(path, "xb") as file:
            async for block in request.stream():
                num_bytes += len(block)
                if num_bytes > max_bytes:
                    raise too_large(max_bytes)
                file.write(block)


async def drain(request: Request) -> None:
    """Read the rest of a refused upload for a while.

    A browser that is still sending would report a broken connection in place of the response.
    """
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(DRAIN_SEC):
            async for _ in request.stream():
                pass


def as_request_error(error: BaseException) -> BaseException:
    """Return the HTTP error of an error, unchanged where the server itself is told to end."""
    if isinstance(error, StorageFullError) or is_disk_full(error):
        return RequestError(507, FULL)
    if isinstance(error, ClipError):
        return RequestError(422, f"this clip cannot be used: {error}")
    if isinstance(error, WorkerError):
        return RequestError(500, f"{error}; the next one can be sent")
    if isinstance(error, UserError):
        return RequestError(500, f"the models cannot be loaded: {error}")
    if isinstance(error, TimeoutError):
        return RequestError(408, "the upload took too long")
    if isinstance(error, ClientDisconnect):
        return RequestError(400, "the upload was interrupted")
    if isinstance(error, Exception) and not isinstance(error, RequestError):
        logger.error("a clip failed", exc_info=error)
        return RequestError(500, f"this clip failed: an unexpected {type(error).__name__}")
    return error
