"""A web server on this machine that serves files and has every fault that a test asks for."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.http_server import served

# What a request finds in the place of a file: it writes the whole answer.
Fault = Callable[[Any, bytes], None]


class Handler(BaseHTTPRequestHandler):
    """Answers with the next fault of a path, and after those with its file."""

    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        site = self.server.site
        path = self.path.partition("?")[0]
        site.requests.append((self.command, self.path, dict(self.headers)))
        faults = site.faults.get(path, [])
        content = site.files.get(path)
        if faults:
            faults.pop(0)(self, content or b"")
        elif content is None:
            self.send_error(404)
        else:
            self.send_file(content)

    def send_file(self, content: bytes, most: int | None = None) -> None:
        """The file, or the range that is asked for; `most` bytes of it, then the line goes dead."""
        site = self.server.site
        asked = self.headers.get("Range", "")
        start = 0
        if asked and self.headers.get("If-Range") in (None, site.etag):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("ETag", site.etag)
        for name, value in site.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content[start:][:most])


class Server(ThreadingHTTPServer):
    """The server behind a `Site`."""

    daemon_threads = True
    site: Site

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: clients that go away are what is tested."""


@dataclass
class Site:
    """Files by path, faults by path (each is had once), and what was asked for."""

    address: str
    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[Fault]] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = '"v1"'
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)


@contextlib.contextmanager
def serving() -> Iterator[Site]:
    """A site that is served during the block."""
    server = Server(("127.0.0.1", 0), Handler)
    server.site = Site(f"http://127.0.0.1:{server.server_address[1]}")
    with served(server):
        yield server.site


def breaks_after(size: int) -> Fault:
    """The line goes dead after so many bytes."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.send_file(content, size)
        handler.close_connection = True

    return answer


def status(code: int, **headers: str) -> Fault:
    """An answer without a file."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def page(handler: Handler, content: bytes) -> None:
    """A web page, as Google Drive and the sign-in of a network give it."""
    text = b"<!DOCTYPE html><html><body>Sign in</body></html>"
    handler.send_response(200)
    handler.send_header("Content-Type", "text/html; charset=utf-8")
    handler.send_header("Content-Length", str(len(text)))
    handler.end_headers()
    handler.wfile.write(text)


def silent(seconds: float) -> Fault:
    """The first bytes, and then nothing for so long."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.send_file(content, 10)
        handler.wfile.flush()
        time.sleep(seconds)

    return answer


def dripping(pause_sec: float) -> Fault:
    """A byte at a time, with a pause before each."""

    def answer(handler: Handler, content: bytes) -> None:
        handler.send_file(content, 1)
        for byte in content[1:]:
            time.sleep(pause_sec)
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()

    return answer
