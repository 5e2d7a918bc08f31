"""Download of one file over https, continued where it broke off.

The standard library is enough: iopath, which the project uses elsewhere, neither continues a
download nor waits when a server asks for it.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import json
import math
import os
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from nightcrawler.download.faults import (
    BY_HAND,
    DownloadError,
    InterruptedDownloadError,
    OutdatedPartError,
    TooLargeError,
    WebPageError,
    check_size,
)
from nightcrawler.utils.errors import is_disk_full
from nightcrawler.utils.io import atomic_write, open_own
from nightcrawler.utils.progress import progress

BLOCK = 1 << 20
MAX_BYTES = 64 << 30
LOOPBACK = ("127.0.0.1", "::1", "localhost")
AGENT = "nightcrawler-video"
# Behind the name of an unfinished file: which version of the file on the server it is a part of.
STATE_SUFFIX = ".state"
TRY_AGAIN = "run the command again, which continues where it broke off"


@dataclass(frozen=True)
class Patience:
    """Waits and attempts of a download.

    Attributes:
        silent_sec: longest wait for the next byte.
        slow_sec: seconds after which a connection that brings next to nothing is given up.
        slow_bytes: least number of bytes in that time.
        attempts: number of connections.
        first_wait_sec: wait before the second connection. Each further one doubles it.
        longest_wait_sec: longest wait that a server may ask for.
    """

    silent_sec: float = 30.0
    slow_sec: float = 60.0
    slow_bytes: int = 1 << 16
    attempts: int = 5
    first_wait_sec: float = 1.0
    longest_wait_sec: float = 120.0


PATIENCE = Patience()


def is_allowed(address: str, origin: str = "") -> bool:
    """Return whether an address may be read: https, or http on this machine.

    Args:
        address: the address.
        origin: address that redirects to it. Only one of this machine may lead to this machine.
    """
    try:
        parts = urllib.parse.urlsplit(address)
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(parts.hostname) and parts.username is None
    is_local = parts.scheme == "http" and parts.hostname in LOOPBACK
    return is_local and (not origin or urllib.parse.urlsplit(origin).hostname in LOOPBACK)


class _CheckedRedirects(urllib.request.HTTPRedirectHandler):
    """Redirects to https only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Return the request of the new address.

        Raises:
            DownloadError: if it is not of https.
        """
        if not is_allowed(newurl, req.full_url):
            raise DownloadError(
                f"redirects to {newurl[:200]}, expected an https address",
                f"do not trust this address, {BY_HAND}",
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str,
    part: Path,
    name: str,
    patience: Patience | None = None,
    max_bytes: int = MAX_BYTES,
) -> None:
    """Download a file, or the rest of it.

    Args:
        url: address, https only.
        part: unfinished file. Its bytes of the same file are kept.
        name: name of the file in the progress line, empty for no such line.
        patience: waits and attempts.
        max_bytes: largest size, checked before the file comes and while it does.

    Raises:
        DownloadError: if the file cannot be had. The part is then kept to be continued, or removed
            if it is no part of the file or the disk is full.
    """
    waits = patience or PATIENCE
    keep_trying(lambda: _transfer(url, part, name, waits, max_bytes), part, waits)


def keep_trying(transfer: Callable[[], None], part: Path, patience: Patience) -> None:
    """Make connections until one brings a file whole, with longer and longer waits between them.

    Args:
        transfer: makes one connection.
        part: unfinished file.
        patience: waits and attempts.

    Raises:
        DownloadError: as `download`.
    """
    wait_sec = patience.first_wait_sec
    for attempt in range(1, patience.attempts + 1):
        try:
            transfer()
            return
        except InterruptedDownloadError as fault:
            if isinstance(fault, OutdatedPartError):
                discard(part)
            if attempt == patience.attempts or fault.wait_sec > patience.longest_wait_sec:
                raise
            time.sleep(max(wait_sec, fault.wait_sec))
            wait_sec *= 2
        except OSError as error:
            if not is_disk_full(error):
                raise
            discard(part)
            raise disk_full(part, str(error.strerror)) from None


def discard(part: Path) -> None:
    """Remove an unfinished file."""
    part.unlink(missing_ok=True)
    _state_file(part).unlink(missing_ok=True)


def _state_file(part: Path) -> Path:
    return part.with_name(part.name + STATE_SUFFIX)


def _transfer(url: str, part: Path, name: str, patience: Patience, max_bytes: int) -> None:
    """Make one connection and append its bytes."""
    version = _version_of(url, part)
    with open_own(part, "ab") as file:
        start = os.fstat(file.fileno()).st_size
        if not version:
            # Nothing says that the file on the server is still the same.
            start = 0
            file.truncate(0)
        with _opened(url, start, version, patience) as response:
            if response.status != http.client.PARTIAL_CONTENT:
                start = 0
                file.truncate(0)
            total = _total_size(response, start)
            _write_state(url, part, response)
            _check_room(part, start, total, max_bytes)
            num_blocks = None if total is None else math.ceil((total - start) / BLOCK)
            blocks = _blocks(response, patience, is_first=start == 0)
            every = _every(num_blocks)
            shown = progress(blocks, num_blocks, f"{name} (MiB)", every, enabled=bool(name))
            for block in shown:
                file.write(block)
                if file.tell() > max_bytes:
                    raise TooLargeError(f"brings {file.tell()} bytes and more", max_bytes)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
    if total is not None and size < total:
        raise InterruptedDownloadError(f"broke off after {size} of {total} bytes", TRY_AGAIN)


def _every(num_blocks: int | None) -> int:
    """Return the blocks between two lines of progress: ten lines a file."""
    return 64 if num_blocks is None else max(num_blocks // 10, 1)


def _version_of(url: str, part: Path) -> str:
    """Return the version of the file that an unfinished one is a part of, empty if unknown."""
    try:
        state = json.loads(_state_file(part).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    if not isinstance(state, dict) or state.get("url") != url:
        return ""
    return str(state.get("version", ""))


def _write_state(url: str, part: Path, response: Any) -> None:
    """Record the version of a file on the server, by which a later connection continues it."""
    version = response.headers.get("ETag", "")
    # A weak tag does not promise the same bytes.
    if not version or version.startswith("W/"):
        version = response.headers.get("Last-Modified", "")
    with atomic_write(_state_file(part), "w") as file:
        json.dump({"url": url, "version": version}, file)


@contextlib.contextmanager
def _opened(url: str, start: int, version: str, patience: Patience) -> Iterator[Any]:
    """Open a connection, and turn its errors into faults."""
    headers = {"User-Agent": AGENT, "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": version}
    handlers: list[urllib.request.BaseHandler] = [_CheckedRedirects()]
    if urllib.parse.urlsplit(url).hostname in LOOPBACK:
        # A proxy cannot reach this machine.
        handlers.append(urllib.request.ProxyHandler({}))
    opener = urllib.request.build_opener(*handlers)
    try:
        # Only addresses that `is_allowed` has let through come here.
        response = opener.open(
            urllib.request.Request(url, headers=headers),  # noqa: S310
            timeout=patience.silent_sec,
        )
    except urllib.error.HTTPError as error:
        error.close()
        raise _fault_of_status(error) from None
    except ValueError:
        # Such as letters that addresses do not have.
        raise DownloadError("is no address that can be read", f"check it, {BY_HAND}") from None
    except (OSError, http.client.HTTPException) as error:
        raise _fault_of_connection(error, start) from None
    with response:
        if response.headers.get_content_type() == "text/html":
            raise WebPageError()
        yield response


def _fault_of_status(error: urllib.error.HTTPError) -> DownloadError:
    """Return the fault behind a status of HTTP."""
    code = error.code
    # Not the words of the server, which may be anything.
    cause = f"answers with status {code} ({http.client.responses.get(code, 'unknown')})"
    if 300 <= code < 400:
        return DownloadError(f"{cause}: not followed", f"check the address, {BY_HAND}")
    if code in (404, 410):
        return DownloadError(cause, f"look for it where it is published, {BY_HAND}")
    if code in (401, 403):
        return DownloadError(cause, f"the file is not public: ask its owner, {BY_HAND}")
    if code in (429, 503):
        wait_sec = _retry_after(error.headers.get("Retry-After", ""))
        when = f"in {wait_sec:.0f} s" if wait_sec else "later"
        return InterruptedDownloadError(
            f"{cause}: too many requests", f"try again {when}", wait_sec
        )
    if code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
        return OutdatedPartError(f"{cause}: the file has changed", TRY_AGAIN)
    if code >= 500 or code == http.client.REQUEST_TIMEOUT:
        return InterruptedDownloadError(cause, f"try again later, {BY_HAND}")
    return DownloadError(cause, f"check the address, {BY_HAND}")


def _retry_after(text: str) -> float:
    """Return the seconds of a `Retry-After`, which is a number or a date."""
    with contextlib.suppress(ValueError):
        return max(float(text), 0.0)
    with contextlib.suppress(ValueError, TypeError):
        return max(email.utils.parsedate_to_datetime(text).timestamp() - time.time(), 0.0)
    return 0.0


def _fault_of_connection(error: Exception, start: int) -> DownloadError:
    """Return the fault behind a connection that was not made."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return DownloadError(
            f"shows a certificate that is not trusted ({reason.verify_message})",
            f"check the clock and the proxy of this machine, {BY_HAND}",
        )
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    cause = f"cannot be reached ({text})"
    advice = f"check the network, {BY_HAND}"
    # A connection that a server ends, or one that worked before, is worth another attempt.
    passing = (ConnectionResetError, TimeoutError, http.client.HTTPException)
    if start or isinstance(reason, passing):
        return InterruptedDownloadError(cause, f"{advice}; what came is kept and continued")
    return DownloadError(cause, advice)


def _total_size(response: Any, start: int) -> int | None:
    """Return the size of the whole file, `None` if the server does not say it.

    Raises:
        InterruptedDownloadError: if the server continues at another place than was asked for.
    """
    if start:
        sent = response.headers.get("Content-Range", "")
        place, _, total = sent.removeprefix("bytes ").partition("/")
        if not place.startswith(f"{start}-"):
            raise InterruptedDownloadError(
                f"continues with {sent!r} instead of byte {start}", TRY_AGAIN
            )
        return int(total) if total.isdecimal() else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _check_room(part: Path, start: int, total: int | None, max_bytes: int) -> None:
    """Refuse a file that is too large, or that the disk has no room for."""
    if total is None:
        return
    check_size(total, max_bytes)
    free = shutil.disk_usage(part.parent).free
    if total - start > free:
        raise disk_full(part, f"{total - start} bytes are to come")


def disk_full(part: Path, reason: str) -> DownloadError:
    """Return the error of a file that the disk has no room for."""
    free = shutil.disk_usage(part.parent).free
    return DownloadError(
        f"has no room on the disk of {part.parent} ({reason}, {free} bytes are free)",
        "make room, or set NIGHTCRAWLER_CACHE to a folder on another disk",
    )


def _blocks(response: Any, patience: Patience, is_first: bool) -> Iterator[bytes]:
    """Yield the bytes of a connection, in blocks of a MiB.

    Raises:
        InterruptedDownloadError: if it breaks off or stalls. Earlier bytes are yielded first.
        WebPageError: if it is a web page.
    """
    gathered = bytearray()
    fault: DownloadError | None = None
    since = time.monotonic()
    brought = 0
    while True:
        try:
            some = response.read1(BLOCK - len(gathered))
        except (OSError, http.client.HTTPException) as error:
            text = getattr(error, "strerror", None) or str(error) or type(error).__name__
            fault = InterruptedDownloadError(f"broke off ({text})", TRY_AGAIN)
            break
        if not some:
            break
        gathered += some
        brought += len(some)
        if is_first and _looks_like_page(gathered):
            raise WebPageError()
        if len(gathered) == BLOCK:
            yield bytes(gathered)
            gathered.clear()
            is_first = False
        seconds = time.monotonic() - since
        if seconds > patience.slow_sec:
            if brought < patience.slow_bytes:
                cause = f"brings only {brought} bytes in {seconds:.0f} s"
                fault = InterruptedDownloadError(cause, f"{TRY_AGAIN}, {BY_HAND}")
                break
            since = time.monotonic()
            brought = 0
    if gathered:
        yield bytes(gathered)
    if fault is not None:
        raise fault


def _looks_like_page(content: bytearray) -> bool:
    """Return whether a file begins as a web page does."""
    return bytes(content[:100]).lstrip().lower().startswith((b"<!doctype html", b"<html"))
