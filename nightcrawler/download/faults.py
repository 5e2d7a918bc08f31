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


class WebPageError(DownloadError):
    """A web page in the place of a file: a question, a sign-in, a network that blocks."""

    def __init__(self) -> None:
        super().__init__(
            "answers with a web page instead of a file",
            f"open the address in a browser to see what it asks, {BY_HAND}",
        )
