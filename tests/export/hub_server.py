"""A stand-in of the Hugging Face hub on this machine: the requests of a push and of downloads, with faults."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.http_server import served

TOKEN = "hf_a_token_of_the_tests"
COMMIT = "1" * 40


@dataclass
class Repository:
    """One repository: whether it is private, and its files."""

    private: bool = False
    files: dict[str, bytes] = field(default_factory=lambda: {".gitattributes": b""})
    commits: list[list[str]] = field(default_factory=list)


@dataclass
class Hub:
    """Repositories by name, and the faults of the next requests by the kind of request.

    A fault is a status with headers, or `None` for a connection that breaks.
    """

    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[tuple[int, dict[str, str]] | None]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


KINDS = {
    "create": re.compile(r"POST /api/repos/create"),
    "validate": re.compile(r"POST /api/validate-yaml"),
    "info": re.compile(r"GET /api/models/(?P<repository>[^/]+/[^/?]+)(\?.*)?"),
    "preupload": re.compile(r"POST /api/models/(?P<repository>[^/]+/[^/]+)/preupload/main"),
    "batch": re.compile(r"POST /(?P<repository>[^/]+/[^/]+)\.git/info/lfs/objects/batch"),
    "upload": re.compile(r"PUT /storage/(?P<oid>\w+)"),
    "commit": re.compile(r"POST /api/models/(?P<repository>[^/]+/[^/]+)/commit/main"),
    "file": re.compile(
        r"(GET|HEAD) /(?P<repository>[^/]+/[^/]+)/resolve/(main|1{40})/(?P<file>[^?]+)"
    ),
}


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_any(self) -> None:
        hub = self.server.hub
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        line = f"{self.command} {self.path}"
        matches = {kind: pattern.fullmatch(line) for kind, pattern in KINDS.items()}
        found = [(kind, match) for kind, match in matches.items() if match]
        if not found:
            self.answer(404, {"error": f"the stand-in does not know {line}"})
            return
        ((kind, match),) = found
        hub.requests.append(kind)
        if hub.faults.get(kind):
            fault = hub.faults[kind].pop(0)
            if fault is None:
                self.close_connection = True
                self.connection.close()
            else:
                self.answer(fault[0], {"error": "a fault of the test"}, **fault[1])
            return
        if kind != "upload" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.answer(401, {"error": "Invalid credentials"})
            return
        getattr(self, f"on_{kind}")(match.groupdict(), body)

    do_GET = do_HEAD = do_POST = do_PUT = do_any

    def answer(self, code: int, content: Any, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def on_create(self, named: dict[str, str], body: bytes) -> None:
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        repositories = self.server.hub.repositories
        if asked["organization"] != "me" and name not in repositories:
            self.answer(403, {"error": "You don't have the rights"})
        elif name in repositories:
            address = f"{self.server.hub.address}/{name}"
            self.answer(409, {"error": "You already created this model repo", "url": address})
        else:
            repositories[name] = Repository(asked.get("visibility") == "private")
            self.answer(200, {"url": f"{self.server.hub.address}/{name}"})

    def on_validate(self, named: dict[str, str], body: bytes) -> None:
        assert json.loads(body)["content"].startswith("---\n")
        self.answer(200, {"errors": [], "warnings": []})

    def on_info(self, named: dict[str, str], body: bytes) -> None:
        found = self.server.hub.repositories.get(named["repository"])
        if found is None:
            self.answer(404, {"error": "not found"}, X_Error_Code="RepoNotFound")
            return
        siblings = [{"rfilename": name} for name in found.files]
        about = {"id": named["repository"], "private": found.private, "sha": COMMIT}
        self.answer(200, {**about, "siblings": siblings})

    def on_preupload(self, named: dict[str, str], body: bytes) -> None:
        files = []
        for one in json.loads(body)["files"]:
            mode = "lfs" if one["path"].endswith((".safetensors", ".onnx")) else "regular"
            files.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False})
        self.answer(200, {"files": files})

    def on_batch(self, named: dict[str, str], body: bytes) -> None:
        objects = []
        for one in json.loads(body)["objects"]:
            href = f"{self.server.hub.address}/storage/{one['oid']}"
            objects.append({**one, "actions": {"upload": {"href": href, "header": {}}}})
        self.answer(200, {"transfer": "basic", "objects": objects})

    def on_upload(self, named: dict[str, str], body: bytes) -> None:
        assert hashlib.sha256(body).hexdigest() == named["oid"]
        self.server.hub.stored[named["oid"]] = body
        self.answer(200, {})

    def on_commit(self, named: dict[str, str], body: bytes) -> None:
        hub = self.server.hub
        repository = hub.repositories[named["repository"]]
        names = []
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                repository.files[value["path"]] = hub.stored[value["oid"]]
            names += [value["path"]] if "path" in value else []
        repository.commits.append(names)
        address = f"{hub.address}/{named['repository']}/commit/{COMMIT}"
        self.answer(200, {"success": True, "commitOid": COMMIT, "commitUrl": address})

    def on_file(self, named: dict[str, str], body: bytes) -> None:
        repository = self.server.hub.repositories.get(named["repository"], Repository())
        content = repository.files.get(named["file"])
        if content is None:
            self.answer(404, {"error": "not found"}, X_Error_Code="EntryNotFound")
            return
        digest = hashlib.sha256(content).hexdigest()
        self.answer(200, content, ETag=f'"{digest}"', X_Repo_Commit=COMMIT)


class Server(ThreadingHTTPServer):
    """The server behind a `Hub`."""

    daemon_threads = True
    hub: Hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silent: connections that break are what is tested."""


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A hub that is served during the block."""
    server = Server(("127.0.0.1", 0), Handler)
    server.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    with served(server):
        yield server.hub
