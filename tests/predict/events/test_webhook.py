"""Webhooks: what arrives, in which order, and what happens while nobody is there."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from nightcrawler.predict.events.rules import Event
from nightcrawler.predict.events.webhook import Patience, Webhook
from nightcrawler.utils.errors import UserError
from tests.http_server import served
from tests.waiting import wait_until

QUICK = Patience(silent_sec=0.5, first_wait_sec=0.01, longest_wait_sec=0.05, close_sec=2)


def event(number: int) -> Event:
    return Event("ended", "cam", f"class {number}", 0.5, "sure", 0.0, float(number))


class Hook(ThreadingHTTPServer):
    """Answers with the next of some statuses, 200 after those, and keeps the bodies it took."""

    daemon_threads = True

    def __init__(self, statuses: list[Any], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), HookHandler)
        self.statuses = statuses
        self.taken: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []

    def handle_error(self, *_: Any) -> None:
        """Silent: clients that go away are tested."""

    @property
    def classes(self) -> list[str]:
        return [one["class"] for one in self.taken]


class HookHandler(BaseHTTPRequestHandler):
    server: Hook

    def log_message(self, *_: Any) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        if callable(status):
            status(self)
            return
        if status == 200:
            self.server.taken.append(json.loads(body))
            self.server.headers.append(dict(self.headers))
            self.server.paths.append(self.path)
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/elsewhere")
        self.end_headers()


@contextlib.contextmanager
def hook(*statuses: Any, port: int = 0) -> Iterator[Hook]:
    server = Hook(list(statuses), port)
    with served(server):
        yield server


def address(server: Hook, path: str = "/hook?token=t0psecret") -> str:
    return f"http://127.0.0.1:{server.server_port}{path}"


def test_events_arrive_in_order_as_json() -> None:
    with hook() as server:
        user = address(server).replace("http://", "http://me:p%40ss@")
        receiver = Webhook(user, QUICK)
        for number in range(20):
            receiver.send(event(number))
        receiver.close()
        assert server.classes == [f"class {number}" for number in range(20)]
        assert server.taken[3] == event(3).record()
        assert server.headers[0]["Content-Type"] == "application/json"
        assert server.headers[0]["Authorization"] == "Basic bWU6cEBzcw=="
        assert server.paths[0] == "/hook?token=t0psecret"


def test_passing_faults_are_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    with hook(503, 429, 500, lambda handler: handler.connection.close()) as server:
        receiver = Webhook(address(server), QUICK)
        receiver.send(event(0))
        receiver.send(event(1))
        receiver.close()
        assert server.classes == ["class 0", "class 1"]
    first, second = caplog.messages
    where = f"webhook http://127.0.0.1:{server.server_port}"
    assert first == f"{where}: answers 503: it is tried again, and events wait"
    assert second == f"{where}: takes events again"


def test_a_refused_event_is_dropped_and_the_next_is_not(caplog: pytest.LogCaptureFixture) -> None:
    with hook(404, 302, 200) as server:
        receiver = Webhook(address(server), QUICK)
        for number in range(3):
            receiver.send(event(number))
        receiver.close()
        assert server.classes == ["class 2"]
    assert "answers 404: the event is dropped" in caplog.messages[0]
    assert "events that were not delivered: 2" in caplog.text
    assert "t0psecret" not in caplog.text


def test_a_server_that_starts_later_gets_what_waits(caplog: pytest.LogCaptureFixture) -> None:
    with hook() as server:
        port = server.server_port
    receiver = Webhook(f"http://127.0.0.1:{port}/", QUICK)
    begun = time.monotonic()
    for number in range(5):
        receiver.send(event(number))
    assert time.monotonic() - begun < 0.5, "sending waits for nobody"
    wait_until(lambda: bool(caplog.messages))
    assert "Connection refused: it is tried again, and events wait" in caplog.messages[0]
    with hook(port=port) as server:
        wait_until(lambda: len(server.taken) == 5)
        receiver.close()
    assert "takes events again" in caplog.messages[-1]


def test_nobody_there_costs_bounded_memory_and_time(caplog: pytest.LogCaptureFixture) -> None:
    with hook() as server:
        port = server.server_port
    patience = Patience(0.5, 0.01, 0.05, close_sec=0.3, most_waiting=10)
    receiver = Webhook(f"http://127.0.0.1:{port}/", patience)
    for number in range(1000):
        receiver.send(event(number))
    begun = time.monotonic()
    receiver.close()
    assert time.monotonic() - begun < 2
    assert any("the oldest are dropped" in line for line in caplog.messages)
    assert "events that were not delivered: 1000" in caplog.text
    assert len(caplog.messages) == 3


def test_a_server_that_is_silent_does_not_keep_the_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stop = threading.Event()
    with hook(*[lambda handler: stop.wait(20)] * 50) as server:
        receiver = Webhook(address(server), Patience(30, 0.01, 0.05, close_sec=0.3))
        receiver.send(event(0))
        begun = time.monotonic()
        receiver.close()
        assert time.monotonic() - begun < 3
        stop.set()
    assert "events that were not delivered: 1" in caplog.text


@pytest.mark.parametrize(
    "address",
    [
        "",
        "ftp://host/x",
        "host/x",
        "http://",
        "http://host:99999/",
        "file:///etc/passwd",
        "http://h/ x",
    ],
)
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UserError, match="expected an address such as https://host/path"):
        Webhook(address)


@pytest.mark.parametrize("address", ["https://host/\u00fc", "http://a..b/x", "http://h\u00f6st/"])
def test_addresses_that_cannot_be_asked_for_are_refused(address: str) -> None:
    """Each ended the thread that sends, and all events after were lost."""
    with pytest.raises(UserError, match="expected an address such as https://host/path"):
        Webhook(address, QUICK)


def test_an_error_of_the_library_costs_one_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It ended the thread that sends, and all events after were lost."""
    with hook() as server:
        sender = Webhook(address(server), QUICK)
        opening = sender._opener.open
        failures = iter([ValueError("label too long")])

        def failing_once(*arguments: Any, **options: Any) -> Any:
            for failure in failures:
                raise failure
            return opening(*arguments, **options)

        monkeypatch.setattr(sender._opener, "open", failing_once)
        sender.send(event(1))
        sender.send(event(2))
        sender.close()
    assert server.taken[-1]["class"] == "class 2"
    assert "label too long" in caplog.text
