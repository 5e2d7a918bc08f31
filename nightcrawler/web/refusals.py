"""Refusals of requests: JSON with the reason, whatever the method, the address or the fault."""

from __future__ import annotations

import functools
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from nightcrawler.utils.logging import get_logger
from nightcrawler.web.uploads import RequestError, drain

logger = get_logger(__name__)

# Names of this machine: the page has no users to tell apart, so it is for one machine only.
HOSTS = ("127.0.0.1", "localhost")
_HOST = re.compile(rf"({'|'.join(map(re.escape, HOSTS))})(:\d*)?", re.IGNORECASE)
# Methods of requests that have no body.
BODILESS = ("GET", "HEAD", "DELETE")
Handler = Callable[[Request], Awaitable[Response]]


async def refuse(
    request: Request, error: RequestError, headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer to a refused request, after its body was read for a while.

    Args:
        request: that is refused.
        error: status and reason.
        headers: more headers of the answer.
    """
    await drain(request)
    headers = dict(headers or {})
    if request.method not in BODILESS:
        # The server would take an unread rest of the body for the next request.
        headers["connection"] = "close"
    content = error.failure.model_dump(mode="json", by_alias=True)
    return JSONResponse(content, error.status, headers)


def answering(handler: Handler) -> Handler:
    """Return a handler that answers a `RequestError` with its status and its reason."""

    @functools.wraps(handler)
    async def handle(request: Request) -> Response:
        try:
            return await handler(request)
        except RequestError as error:
            return await refuse(request, error)

    return handle


def refuse_unrouted(routes: Iterable[Route]) -> Callable[[Request, Exception], Awaitable[Response]]:
    """Return the handler of requests that no route takes: unknown addresses, other methods.

    Args:
        routes: of the application.
    """

    async def handle(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        methods = _methods(routes, request.url.path)
        if error.status_code != 405 or not methods:
            return await refuse(request, RequestError(error.status_code, "no such page"))
        allowed = ", ".join(methods)
        reason = f"{request.method} is not taken at this address: expected {allowed}; see /docs"
        return await refuse(request, RequestError(405, reason), {"allow": allowed})

    return handle


def _methods(routes: Iterable[Route], path: str) -> list[str]:
    """Return the methods that an address takes."""
    methods: set[str] = set()
    taken = ""
    for route in routes:
        # The first pattern counts: later ones, such as that of the page's files, are wider.
        if route.path == taken or (not taken and route.path_regex.match(path)):
            taken = route.path
            methods.update(route.methods or ())
    return sorted(methods)


async def refuse_fault(request: Request, error: Exception) -> Response:
    """Return the answer to a request that met a fault of the server, which its log names."""
    reason = f"this request failed: an unexpected {type(error).__name__}, see the server's log"
    return await refuse(request, RequestError(500, reason))


class HostCheck:
    """Middleware that refuses requests for another host than this machine.

    A page of another site reaches the server by a name of its own that resolves to this machine
    (DNS rebinding), which its requests tell.

    Args:
        app: the application to wrap.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) == 1 and _HOST.fullmatch(hosts[0]):
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            # Closed before it was accepted.
            await send({"type": "websocket.close"})
            return
        reason = f"invalid host header {', '.join(hosts)!r}: expected {' or '.join(HOSTS)}"
        request = Request(scope, receive)
        await (await refuse(request, RequestError(400, reason)))(scope, receive, send)
