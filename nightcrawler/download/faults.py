"""Faults of downloads, each with its cause and advice."""

from __future__ import annotations

BY_HAND = "or get the file by hand"


class DownloadError(Exception):
    """A download that cannot succeed.

    Args:
        cause: a clause without the address.
        advice: a clause that says how to go on.
    """

    def __init__(self, cause: str, advice: str) -> None:
        super().__init__(cause)
        self.cause = cause
        self.advice = advice


class InterruptedDownloadError(DownloadError):
    """A download that may succeed when it is tried again.

    Args:
        cause: a clause without the address.
        advice: a clause that says how to go on, once all attempts have failed.
        wait_sec: seconds that the server asks to wait for.
    """

    def __init__(self, cause: str, advice: str, wait_sec: float = 0.0) -> None:
        super().__init__(cause, advice)
        self.wait_sec = wait_sec


class OutdatedPartError(InterruptedDownloadError):
    """An unfinished file that cannot be continued."""


class TooLargeError(DownloadError):
    """A file that is larger than its place allows.

    Args:
        found: a clause with the size that was announced, or that came so far.
        max_bytes: largest size.
    """

    def __init__(self, found: str, max_bytes: int) -> None:
        super().__init__(f"{found}, more than {max_bytes}", "name another file")
        self.found = found


def check_size(num_bytes: int, max_bytes: int) -> None:
    """Refuse a file that is larger than its place allows.

    Raises:
        TooLargeError: with its size.
    """
    if num_bytes > max_bytes:
        raise TooLargeError(f"has {num_bytes} bytes", max_bytes)


class WebPageError(DownloadError):
    """A web page in the place of a file: a question, a sign-in, a network that blocks."""

    def __init__(self) -> None:
        super().__init__(
            "answers with a web page instead of a file",
            f"open the address in a browser to see what it asks, {BY_HAND}",
        )
