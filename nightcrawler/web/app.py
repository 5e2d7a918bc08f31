"""The page's server: takes a clip at a time, asks the worker, hands out two small videos of each of the last clips."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import urllib.parse
from collections import OrderedDict
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nightcrawler.utils.errors import UserError
from nightcrawler.web.inference import AFTER, BEFORE
from nightcrawler.web.worker import Failed, Refused, Worker

HOSTS = ("127.0.0.1", "localhost")
SUFFIXES = (
    *(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg"),
    *(".wmv", ".asf", ".flv", ".ogv", ".gif", ".3gp"),
)
MEDIA_TYPES = {"style.css": "text/css", "script.js": "text/javascript", "icon.svg": "image/svg+xml"}
DRAIN_SEC = 3.0
MOST_WAITING, MOST_KEPT, MOST_NAME = 4, 12, 200
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Site:
    """What the page says and allows.

    Attributes:
        models: names of the models.
        class_names: the K classes.
        enhancement: how clips are lit, in words.
        labels: `label-free` or `oracle`.
        most_bytes: of a clip.
        most_sec: length of a clip.
        upload_sec: how long an upload may take.
        answer_sec: how long looking may take.
    """

    models: tuple[str, ...]
    class_names: tuple[str, ...]
    enhancement: str
    labels: str
    most_bytes: int
    most_sec: float
    upload_sec: float
    answer_sec: float


class Unusable(Exception):
    """A request that is not answered: HTTP status, and a sentence for the person."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


class SafeHeaders:
    """Every answer tells the browser to load nothing from elsewhere and to keep nothing."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, with headers."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *more]}
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


class ClipStore:
    """Folders of the last clips, by names that cannot be guessed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: OrderedDict[str, Path] = OrderedDict()

    def make(self) -> tuple[str, Path]:
        """A new name and its folder."""
        name = secrets.token_urlsafe(16)
        self._folders[name] = self.root / name
        self._folders[name].mkdir()
        return name, self._folders[name]

    def keep_last(self) -> None:
        """Remove the oldest ones of more than `MOST_KEPT`."""
        while len(self._folders) > MOST_KEPT:
            self.drop(next(iter(self._folders)))

    def drop(self, name: str) -> None:
        """Remove a clip."""
        if folder := self._folders.pop(name, None):
            shutil.rmtree(folder, ignore_errors=True)

    def find(self, name: str, part: str) -> Path | None:
        """A file of a clip, where there is one."""
        folder = self._folders.get(name)
        path = folder / part if folder and part in (BEFORE, AFTER) else None
        return path if path and path.is_file() else None


class Server:
    """The answers to requests."""

    def __init__(self, worker: Worker, root: Path, site: Site) -> None:
        self.worker, self.site, self.clips = worker, site, ClipStore(root)
        self._num_waiting = 0

    async def page(self, request: Request) -> Response:
        """The page itself."""
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        text = _resource("page.html").decode()
        html = environment.from_string(text).render(site=self.site, suffixes=SUFFIXES)
        return Response(html, media_type="text/html")

    async def part(self, request: Request) -> Response:
        """Style and script."""
        name = request.path_params["name"]
        if name not in MEDIA_TYPES:
            return JSONResponse({"error": "no such page"}, 404)
        return Response(_resource(name), media_type=MEDIA_TYPES[name])

    async def picture(self, request: Request) -> Response:
        """A clip before or after it is lit."""
        path = self.clips.find(request.path_params["clip"], request.path_params["part"])
        if path is None:
            return JSONResponse({"error": "this clip is not kept any more: drop it again"}, 404)
        return FileResponse(path, media_type="video/mp4")

    async def take(self, request: Request) -> Response:
        """A clip comes as the body, its name in `X-File-Name` (percent-encoded); what is seen goes back."""
        try:
            return JSONResponse(await self._take(request))
        except Unusable as error:
            await _drain(request)
            # What is still not read of the body would be taken for the next request.
            return JSONResponse({"error": error.why}, error.status, headers={"connection": "close"})

    async def _take(self, request: Request) -> dict[str, Any]:
        name = self._check(request)
        if self._num_waiting >= MOST_WAITING:
            raise Unusable(503, "other clips are being looked at: try again in a moment")
        self._num_waiting += 1
        clip, folder = self.clips.make()
        try:
            path = folder / f"upload{Path(name).suffix.lower()}"
            await self._save(request, path)
            question = {"path": str(path), "name": name, "folder": str(folder)}
            answer = await asyncio.to_thread(self.worker.ask, question)
            path.unlink(missing_ok=True)
        except BaseException as error:
            self.clips.drop(clip)
            raise _unusable(error) from None
        finally:
            self._num_waiting -= 1
        self.clips.keep_last()
        return {
            **answer,
            "name": name,
            "before": f"clips/{clip}/{BEFORE}",
            "after": f"clips/{clip}/{AFTER}",
        }

    def _check(self, request: Request) -> str:
        """The file's name, of a request that may be answered."""
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise Unusable(403, "clips are taken from this page only")
        # Another site's page cannot set this header without being asked first, which nothing here allows.
        if "x-file-name" not in request.headers:
            raise Unusable(400, "X-File-Name is missing: it holds the clip's name, percent-encoded")
        name = urllib.parse.unquote(request.headers["x-file-name"], errors="replace")
        name = Path(name.replace("\\", "/")).name[-MOST_NAME:]
        if Path(name).suffix.lower() not in SUFFIXES:
            shown = ", ".join(suffix[1:] for suffix in SUFFIXES)
            raise Unusable(415, f"'{name}' is not a video by its name: expected one of {shown}")
        length = request.headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self.site.most_bytes:
            raise self._too_large()
        return name

    def _too_large(self) -> Unusable:
        return Unusable(
            413, f"the file is larger than {self.site.most_bytes >> 20} MiB: cut or scale it down"
        )

    async def _save(self, request: Request, path: Path) -> None:
        taken = 0
        async with asyncio.timeout(self.site.upload_sec):
            with open(path, "xb") as file:
                async for block in request.stream():
                    taken += len(block)
                    if taken > self.site.most_bytes:
                        raise self._too_large()
                    file.write(block)


async def _drain(request: Request) -> None:
    """Read on for a while: a browser that is still sending would take an answer for a broken connection."""
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(DRAIN_SEC):
            async for _ in request.stream():
                pass


def _unusable(error: BaseException) -> BaseException:
    """The same as an error of HTTP, where it is one of the clip's."""
    if isinstance(error, Refused):
        return Unusable(422, f"this clip cannot be used: {error}")
    if isinstance(error, Failed):
        return Unusable(500, str(error))
    if isinstance(error, UserError):
        return Unusable(500, f"the models cannot be loaded: {error}")
    if isinstance(error, TimeoutError):
        return Unusable(408, "the upload took too long")
    if isinstance(error, ClientDisconnect):
        return Unusable(400, "the upload was broken off")
    return error


def _resource(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()


def make_app(worker: Worker, root: Path, site: Site) -> Starlette:
    """The server as an ASGI application.

    Args:
        worker: looks at clips, started; it is the caller's to stop.
        root: an empty folder for what is kept of clips.
        site: what the page says and allows.
    """
    server = Server(worker, root, site)

    return Starlette(
        routes=[
            Route("/", server.page),
            Route("/clips", server.take, methods=["POST"]),
            Route("/clips/{clip}/{part}", server.picture),
            Route("/{name}", server.part),
        ],
        middleware=[
            Middleware(SafeHeaders),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS)),
        ],
    )
