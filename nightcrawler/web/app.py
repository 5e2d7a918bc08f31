"""Server of the page: takes one clip at a time, asks the worker, and serves the previews."""

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

from nightcrawler.data.video.suffixes import VIDEO_SUFFIXES, has_video_suffix, suffix_of
from nightcrawler.utils.clip_worker import (
    FULL,
    ClipError,
    StorageFullError,
    Worker,
    WorkerError,
    is_disk_full,
)
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.logging import get_logger
from nightcrawler.web.inference import AFTER, BEFORE

logger = get_logger(__name__)

# Names of this machine: the page has no users to tell apart, so it is for one machine only.
HOSTS = ("127.0.0.1", "localhost")
MEDIA_TYPES = {"style.css": "text/css", "script.js": "text/javascript", "icon.svg": "image/svg+xml"}
# Seconds to read on after an upload is refused.
DRAIN_SEC = 3.0
# Clips that wait for the worker, and clips whose previews are kept.
MAX_WAITING = 4
MAX_KEPT = 12
MAX_NAME_CHARS = 200
# The page loads its own files only, so a clip's name cannot bring in a script.
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
    """Texts and limits of the page.

    Attributes:
        models: names of the models.
        class_names: names of the K classes.
        enhancement: enhancement of clips, for people.
        labels: label use of the models: `label-free` or `oracle`.
        max_bytes: largest clip, in bytes.
        max_sec: longest clip, in seconds.
        upload_sec: seconds that an upload may take.
        answer_sec: seconds that inference may take.
    """

    models: tuple[str, ...]
    class_names: tuple[str, ...]
    enhancement: str
    labels: str
    max_bytes: int
    max_sec: float
    upload_sec: float
    answer_sec: float


class RequestError(Exception):
    """A refused request.

    Args:
        status: HTTP status.
        reason: sentence for the visitor.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class SecurityHeaders:
    """Middleware that adds `HEADERS` to every response, error responses included.

    Args:
        app: the application to wrap.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with headers added to its response."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", ()), *added]}
            await send(message)

        if scope["type"] == "http":
            await self.app(scope, receive, send_with_headers)
        else:
            await self.app(scope, receive, send)


class ClipStore:
    """Folders of the most recent clips, under names that cannot be guessed.

    Args:
        root: folder that holds them.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: OrderedDict[str, Path] = OrderedDict()

    def create(self) -> tuple[str, Path]:
        """Create a folder, and return its name and path."""
        name = secrets.token_urlsafe(16)
        folder = self.root / name
        folder.mkdir()
        self._folders[name] = folder
        return name, folder

    def trim(self) -> None:
        """Remove the oldest clips beyond `MAX_KEPT`."""
        while len(self._folders) > MAX_KEPT:
            self.remove(next(iter(self._folders)))

    def remove(self, name: str) -> None:
        """Remove a clip, if it exists."""
        folder = self._folders.pop(name, None)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)

    def find(self, name: str, part: str) -> Path | None:
        """Return a preview of a clip, None where it does not exist."""
        folder = self._folders.get(name)
        # Both names come from the address: only known ones become a path.
        if folder is None or part not in (BEFORE, AFTER):
            return None
        path = folder / part
        return path if path.is_file() else None


class Server:
    """Handlers of the page's requests.

    Args:
        worker: started worker.
        root: folder of kept clips.
        site: texts and limits of the page.
    """

    def __init__(self, worker: Worker, root: Path, site: Site) -> None:
        self.worker = worker
        self.site = site
        self.clips = ClipStore(root)
        self._num_waiting = 0

    async def page(self, request: Request) -> Response:
        """Return the page."""
        environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
        text = _resource("page.html").decode()
        html = environment.from_string(text).render(site=self.site, suffixes=VIDEO_SUFFIXES)
        return Response(html, media_type="text/html")

    async def static(self, request: Request) -> Response:
        """Return the style, script or icon."""
        name = request.path_params["name"]
        if name not in MEDIA_TYPES:
            return JSONResponse({"error": "no such page"}, 404)
        return Response(_resource(name), media_type=MEDIA_TYPES[name])

    async def preview(self, request: Request) -> Response:
        """Return a preview of a clip, before or after enhancement."""
        path = self.clips.find(request.path_params["clip"], request.path_params["part"])
        if path is None:
            return JSONResponse({"error": "this clip is no longer kept: send it again"}, 404)
        return FileResponse(path, media_type="video/mp4")

    async def upload(self, request: Request) -> Response:
        """Predict the clip in the body, named by `X-File-Name` (percent-encoded)."""
        try:
            return JSONResponse(await self._upload(request))
        except RequestError as error:
            await _drain(request)
            # The server would take an unread rest of the body for the next request.
            headers = {"connection": "close"}
            return JSONResponse({"error": error.reason}, error.status, headers=headers)

    async def _upload(self, request: Request) -> dict[str, Any]:
        name = self._check(request)
        if self._num_waiting >= MAX_WAITING:
            raise RequestError(503, "other clips are being processed: try again in a moment")
        self._num_waiting += 1
        clip = ""
        try:
            clip, folder = self.clips.create()
            path = folder / f"upload{suffix_of(name)}"
            await self._save(request, path)
            question = {"path": str(path), "name": name, "folder": str(folder)}
            # In a thread, as the worker answers questions one after the other and blocks.
            answer = await asyncio.to_thread(self.worker.ask, question)
            path.unlink(missing_ok=True)
        except BaseException as error:
            self.clips.remove(clip)
            raise _as_request_error(error) from None
        finally:
            self._num_waiting -= 1
        self.clips.trim()
        return {
            **answer,
            "name": name,
            "before": f"clips/{clip}/{BEFORE}",
            "after": f"clips/{clip}/{AFTER}",
        }

    def _check(self, request: Request) -> str:
        """Return the file name of an acceptable request.

        Raises:
            RequestError: if the request comes from another site, or is no clip of an allowed size.
        """
        if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
            raise RequestError(403, "clips are accepted from this page only")
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
        if not length.isdigit() or int(length) > self.site.max_bytes:
            raise self._too_large()
        # A chunked upload tells no length: `_save` counts its bytes.
        return name

    def _too_large(self) -> RequestError:
        limit = self.site.max_bytes >> 20
        return RequestError(413, f"the file is larger than {limit} MiB: cut or scale it down")

    async def _save(self, request: Request, path: Path) -> None:
        """Write the body to a file.

        Raises:
            RequestError: if it is longer than allowed, whatever its header says.
            TimeoutError: if it takes too long.
        """
        num_bytes = 0
        async with asyncio.timeout(self.site.upload_sec):
            # "x": a name that is taken would be a clip of somebody else.
            with open(path, "xb") as file:
                async for block in request.stream():
                    num_bytes += len(block)
                    if num_bytes > self.site.max_bytes:
                        raise self._too_large()
                    file.write(block)


async def _drain(request: Request) -> None:
    """Read the rest of a refused upload for a while.

    A browser that is still sending would report a broken connection in place of the response.
    """
    with contextlib.suppress(TimeoutError, ClientDisconnect, RuntimeError):
        async with asyncio.timeout(DRAIN_SEC):
            async for _ in request.stream():
                pass


def _as_request_error(error: BaseException) -> BaseException:
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


def _resource(name: str) -> bytes:
    return resources.files(__package__).joinpath(name).read_bytes()


def make_app(worker: Worker, root: Path, site: Site) -> ASGIApp:
    """Make the ASGI application.

    Args:
        worker: started worker, stopped by the caller.
        root: empty folder for kept clips.
        site: texts and limits of the page.
    """
    server = Server(worker, root, site)
    app = Starlette(
        routes=[
            Route("/", server.page),
            Route("/clips", server.upload, methods=["POST"]),
            Route("/clips/{clip}/{part}", server.preview),
            Route("/{name}", server.static),
        ],
        middleware=[
            # Another site's name that resolves to this machine (DNS rebinding) is refused.
            Middleware(TrustedHostMiddleware, allowed_hosts=list(HOSTS)),
        ],
    )
    # Around the whole, as Starlette answers failures outside of its middleware.
    return SecurityHeaders(app)
