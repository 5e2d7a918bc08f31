"""POST events to a web address, from a thread: the prediction never waits for it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from nightcrawler.predict.events.rules import Event
from nightcrawler.predict.events.tell import to_json
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.logging import get_logger

logger = get_logger(__name__)

# Answers of a server that may take the same event later: timeout, too early, too many, its faults.
PASSING_STATUSES = (408, 425, 429, 500, 502, 503, 504)
AGENT = "nightcrawler-video"


@dataclass(frozen=True)
class Patience:
    """Waits of a delivery.

    Attributes:
        silent_sec: longest wait for an answer.
        first_wait_sec: wait before the second attempt. Each further one doubles it.
        longest_wait_sec: longest wait between two attempts.
        close_sec: time for the events that wait at the end.
        most_waiting: number of events that may wait. The oldest are dropped for new ones.
    """

    silent_sec: float = 10.0
    first_wait_sec: float = 1.0
    longest_wait_sec: float = 30.0
    close_sec: float = 10.0
    most_waiting: int = 1000


class _DeliveryError(Exception):
    """A failed attempt.

    Args:
        cause: the fault, in a few words.
        is_passing: whether a later attempt may succeed.
        wait_sec: wait that the server asks for.
    """

    def __init__(self, cause: str, is_passing: bool = True, wait_sec: float = 0.0) -> None:
        super().__init__(cause)
        self.is_passing = is_passing
        self.wait_sec = wait_sec


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuse redirects: a POST would become a GET without the event."""

    def redirect_request(self, *_: Any) -> None:
        """Return no further request."""


def check_webhook(address: str) -> None:
    """Refuse an address that no event can be sent to.

    Raises:
        UserError: if it is none of the web. The message does not hold it, as it may be a secret.
    """
    try:
        parts = urllib.parse.urlsplit(address)
        is_web = parts.scheme in ("http", "https") and bool(parts.hostname)
        # Reading the port checks it.
        is_web = is_web and parts.port != 0 and address.isascii()
        # A host such as `a..b` has no name that could be asked for.
        (parts.hostname or "").encode("idna")
    except ValueError:
        is_web = False
    if not is_web or not address.isprintable() or " " in address:
        raise UserError(
            "--webhook: expected an address such as https://host/path, other letters as %XX"
        )


class Webhook:
    """Receiver that posts each event as JSON, and tries again while the server is away.

    Args:
        address: `http://` or `https://`, perhaps with `user:password@`.
        patience: waits of a delivery.

    Raises:
        UserError: if the address is none of the web.
    """

    def __init__(self, address: str, patience: Patience | None = None) -> None:
        check_webhook(address)
        parts = urllib.parse.urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
        # Paths of webhooks are secrets, too.
        self.name = f"webhook {parts.scheme}://{host}"
        self._address = urllib.parse.urlunsplit(parts._replace(netloc=host, fragment=""))
        self._headers = {"Content-Type": "application/json", "User-Agent": AGENT}
        if parts.username is not None:
            user = urllib.parse.unquote(parts.username)
            password = urllib.parse.unquote(parts.password or "")
            token = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self._patience = patience or Patience()
        self._opener = urllib.request.build_opener(_NoRedirect)
        self._waiting: queue.Queue[str | None] = queue.Queue(self._patience.most_waiting)
        self._closing = threading.Event()
        self._deadline = float("inf")
        self._num_dropped = 0
        self._is_away = False
        # A daemon: a server that does not answer must not keep the process alive.
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def send(self, event: Event) -> None:
        """Queue an event. The oldest one is dropped if too many wait."""
        while True:
            try:
                self._waiting.put_nowait(to_json(event))
                return
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._waiting.get_nowait()
                    self._num_dropped += 1
                if self._num_dropped == 1:
                    logger.warning("%s: too many events wait, the oldest are dropped", self.name)

    def close(self) -> None:
        """Deliver the events that wait, for a bounded time, and say how many are lost."""
        self._deadline = time.monotonic() + self._patience.close_sec
        self._closing.set()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._thread.join(self._patience.close_sec + 1)
        num_lost = self._num_dropped + self._thread.is_alive()
        while not self._waiting.empty():
            num_lost += self._waiting.get_nowait() is not None
        if num_lost:
            logger.warning("%s: events that were not delivered: %d", self.name, num_lost)

    def _run(self) -> None:
        while not (self._closing.is_set() and self._waiting.empty()):
            body = self._waiting.get()
            if body is None:
                return
            if not self._deliver(body):
                self._num_dropped += 1
            if time.monotonic() > self._deadline:
                return

    def _deliver(self, body: str) -> bool:
        """Post an event until the server takes it, and return whether it did."""
        wait_sec = self._patience.first_wait_sec
        while True:
            try:
                self._post(body)
            except _DeliveryError as error:
                self._tell(error)
                if not error.is_passing or time.monotonic() > self._deadline:
                    return False
                self._wait(max(wait_sec, error.wait_sec))
                wait_sec *= 2
                continue
            if self._is_away:
                self._is_away = False
                logger.warning("%s: takes events again", self.name)
            return True

    def _wait(self, seconds: float) -> None:
        """Wait before the next attempt; at the end, only as long as events are delivered."""
        # Interrupted by `close`, after which a long pause would outlast the time that is left.
        self._closing.wait(min(seconds, self._patience.longest_wait_sec))
        if self._closing.is_set():
            left_sec = max(self._deadline - time.monotonic(), 0.0)
            time.sleep(min(self._patience.first_wait_sec, left_sec))

    def _tell(self, error: _DeliveryError) -> None:
        """Tell a fault, once until an event is delivered."""
        if self._is_away:
            return
        self._is_away = True
        then = "it is tried again, and events wait" if error.is_passing else "the event is dropped"
        logger.warning("%s: %s: %s", self.name, error, then)

    def _post(self, body: str) -> None:
        """Post an event.

        Raises:
            _DeliveryError: if the server does not take it.
        """
        # The scheme was checked: no file is read.
        request = urllib.request.Request(self._address, body.encode(), self._headers)  # noqa: S310
        try:
            # The body of the answer is not read: it may be endless.
            with self._opener.open(request, timeout=self._patience.silent_sec):
                return
        except urllib.error.HTTPError as error:
            with error:
                is_passing = error.code in PASSING_STATUSES
                wait_sec = _seconds(error.headers.get("Retry-After", ""))
                raise _DeliveryError(f"answers {error.code}", is_passing, wait_sec) from None
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            raise _DeliveryError(text) from None


def _seconds(text: str) -> float:
    """Return the seconds that a server asks to wait, 0 for a date or nothing."""
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0.0
