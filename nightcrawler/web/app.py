"""Server of the page: takes clips, asks the worker one after the other, and serves the results."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from nightcrawler.data.video.suffixes import VIDEO_SUFFIXES, suffix_of
from nightcrawler.predict.video_result import (
    VideoResult,
    csv_rows,
    from_plain,
    timeline_rows,
    to_plain,
    to_record,
)
from nightcrawler.utils.clip_worker import Worker
from nightcrawler.utils.io import spreadsheet_cell
from nightcrawler.web.answers import AnnotatedVideo, Answer, Content, Failure, Previews
from nightcrawler.web.inference import ANNOTATED
from nightcrawler.web.openapi import describe_api
from nightcrawler.web.previews import AFTER, BEFORE, WHOLE_AFTER, WHOLE_BEFORE
from nightcrawler.web.refusals import (
    Handler,
    HostCheck,
    answering,
    refuse_fault,
    refuse_unrouted,
)
from nightcrawler.web.security import SecurityHeaders
from nightcrawler.web.store import ClipStore, KeptClip
from nightcrawler.web.texts import EXAMPLES, MEDIA_TYPES, Site, render, resource
from nightcrawler.web.uploads import (
    RequestError,
    as_request_error,
    check_origin,
    check_upload,
    find_labels,
    save,
    wants_readable_part,
)

# Requests that wait for the worker.
MAX_WAITING = 4
# Classes per clip on the page and in tables.
SHOWN_CLASSES = 5
# Statuses of failures that are a clip's own, which tables have a row for.
FAILURES_OF_CLIPS = (408, 413, 422, 500)
GONE = "this clip is no longer kept: send it again"


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
        self.clips = ClipStore(root, site.keep_bytes)
        self._num_waiting = 0

    async def page(self, request: Request) -> Response:
        """Return the page."""
        html = render("page.html", site=self.site, suffixes=VIDEO_SUFFIXES, examples=EXAMPLES)
        return Response(html, media_type="text/html")

    async def openapi(self, request: Request) -> Response:
        """Return the description of the interface for programs."""
        return JSONResponse(describe_api(self.site))

    async def docs(self, request: Request) -> Response:
        """Return the description of the interface for people."""
        html = render("docs.html", api=describe_api(self.site), server=str(request.base_url))
        return Response(html, media_type="text/html")

    async def static(self, request: Request) -> Response:
        """Return a style, script or icon."""
        name = request.path_params["name"]
        if name not in MEDIA_TYPES:
            raise RequestError(404, "no such page")
        return Response(resource("static", name), media_type=MEDIA_TYPES[name])

    async def example(self, request: Request) -> Response:
        """Return a clip to try the page with."""
        name = request.path_params["name"]
        if name not in EXAMPLES:
            raise RequestError(404, "no such example")
        return Response(resource("examples", name), media_type="video/mp4")

    async def upload(self, request: Request) -> Response:
        """Predict the clip in the body, named by `X-File-Name` (percent-encoded)."""
        name = check_upload(request, self.site.max_bytes)
        labels = find_labels(request, self.site.takes_labels)
        is_damaged = wants_readable_part(request)
        async with self._place_in_line():
            try:
                clip, folder = self.clips.create()
            except OSError as error:
                raise as_request_error(error) from None
            try:
                path = folder / f"upload{suffix_of(name)}"
                await save(request, path, self.site.max_bytes, self.site.upload_sec)
                kept = await self._predict(clip, name, path, is_damaged, labels)
            except BaseException as error:
                self.clips.discard(clip)
                failed = as_request_error(error)
                if isinstance(failed, RequestError) and failed.status in FAILURES_OF_CLIPS:
                    raise self._keep_failure(clip, name, failed) from None
                raise failed from None
        self.clips.keep(kept)
        return _json(kept.content)

    async def _predict(
        self, clip: str, name: str, path: Path, is_damaged: bool, labels: tuple[str, ...]
    ) -> KeptClip:
        """Ask the worker for the prediction of a saved clip, in its own classes if it has some."""
        said = await self._ask("predict", name, path, is_damaged, labels=labels)
        result = from_plain(said.pop("result"), labels or self.site.class_names)
        record = to_record(result, SHOWN_CLASSES)
        answer = Answer.model_validate(
            {
                **said,
                "clip": clip,
                "name": name,
                "class_names": list(result.class_names),
                **{key: record[key] for key in ("status", "top", "timeline")},
                "before": f"clips/{clip}/{BEFORE}",
                "after": f"clips/{clip}/{AFTER}",
            }
        )
        return KeptClip(clip, result, answer, path, is_damaged)

    def _keep_failure(self, clip: str, name: str, error: RequestError) -> RequestError:
        """Keep the row of a clip that failed, and return the refusal with the row's name."""
        failure = error.failure.model_copy(update={"clip": clip})
        result = VideoResult(name, -1, f"error: {failure.detail or failure.error}")
        self.clips.keep(KeptClip(clip, result, failure))
        return RequestError(error.status, failure)

    async def _ask(
        self, task: str, name: str, path: Path, is_damaged: bool, **more: Any
    ) -> dict[str, Any]:
        """Ask the worker, in a thread: it answers one question after the other and blocks.

        Raises:
            RequestError: if the clip cannot be used.
        """
        question = {
            "do": task,
            "path": str(path),
            "name": name,
            "folder": str(path.parent),
            "is_damaged": is_damaged,
            **more,
        }
        said = await asyncio.to_thread(self.worker.ask, question)
        if "refused" in said:
            raise RequestError(422, Failure.model_validate(said["refused"]))
        return said

    @contextlib.asynccontextmanager
    async def _place_in_line(self) -> AsyncIterator[None]:
        """Take a place among the requests that wait for the worker.

        Raises:
            RequestError: if all places are taken.
        """
        if self._num_waiting >= MAX_WAITING:
            raise RequestError(503, "other clips are being processed: try again in a moment")
        self._num_waiting += 1
        try:
            yield
        finally:
            self._num_waiting -= 1

    async def make_video(self, request: Request) -> Response:
        """Make previews of a whole clip, or its annotated copy."""
        check_origin(request)
        clip = self._find(request)
        task = request.path_params["part"]
        if task not in ("whole", "annotated"):
            raise RequestError(404, "no such video: expected whole or annotated")
        if clip.upload is None or not clip.upload.is_file():
            raise RequestError(404, GONE)
        result = to_plain(clip.result)
        labels = clip.result.class_names if self.site.takes_labels else ()
        async with self._place_in_line():
            try:
                said = await self._ask(
                    task,
                    clip.result.name,
                    clip.upload,
                    clip.is_damaged,
                    result=result,
                    labels=labels,
                )
            except BaseException as error:
                raise as_request_error(error) from None
        self.clips.trim()
        place = f"clips/{clip.name}"
        if task == "annotated":
            return _json(AnnotatedVideo(annotated=f"{place}/{ANNOTATED}"))
        before, after = f"{place}/{WHOLE_BEFORE}", f"{place}/{WHOLE_AFTER}"
        return _json(Previews(before=before, after=after, preview_sec=said["preview_sec"]))

    async def video(self, request: Request) -> Response:
        """Return a video of a clip."""
        path = self.clips.video(request.path_params["clip"], request.path_params["part"])
        if path is None:
            raise RequestError(404, GONE)
        return FileResponse(path, media_type="video/mp4")

    async def answer(self, request: Request) -> Response:
        """Return the answer to a clip once more."""
        content = self._find(request).content
        return _json(content, 422 if isinstance(content, Failure) else 200)

    async def remove(self, request: Request) -> Response:
        """Remove all that is kept of a clip."""
        check_origin(request)
        if not self.clips.remove(request.path_params["clip"]):
            raise RequestError(404, GONE)
        return Response(status_code=204)

    def _find(self, request: Request) -> KeptClip:
        clip = self.clips.find(request.path_params["clip"])
        if clip is None:
            raise RequestError(404, GONE)
        return clip

    async def results(self, request: Request) -> Response:
        """Return the results of clips as a table, a table of timelines, or JSON."""
        chosen = []
        for name in request.query_params.getlist("clip"):
            clip = self.clips.find(name)
            if clip is None:
                raise RequestError(404, GONE)
            chosen.append(clip)
        if not chosen:
            raise RequestError(400, "no clip is named: expected ?clip=NAME, once for each")
        results = [clip.result for clip in chosen]
        # The page names the file: a name here would win.
        headers = {"content-disposition": "attachment"}
        if request.url.path.endswith(".json"):
            models = self.site.models
            records = [to_record(result, SHOWN_CLASSES, models) for result in results]
            if self.site.takes_labels:
                for record, result in zip(records, results, strict=True):
                    record["class_names"] = list(result.class_names)
            content = {"about": self.site.predictor, "videos": records}
            return Response(json.dumps(content, indent=1), 200, headers, "application/json")
        rows = csv_rows(results, SHOWN_CLASSES)
        if request.url.path.endswith("/timelines.csv"):
            lengths = [getattr(clip.content, "seconds", None) for clip in chosen]
            rows = timeline_rows(results, seconds=lengths)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for row in rows:
            writer.writerow([spreadsheet_cell(str(cell)) for cell in row])
        return Response(text.getvalue(), 200, headers, "text/csv")


def _json(content: Content, status: int = 200) -> JSONResponse:
    return JSONResponse(content.model_dump(mode="json", by_alias=True), status)


def make_app(worker: Worker, root: Path, site: Site) -> ASGIApp:
    """Make the ASGI application.

    Args:
        worker: started worker, stopped by the caller.
        root: empty folder for kept clips.
        site: texts and limits of the page.
    """
    server = Server(worker, root, site)
    handlers: list[tuple[str, str, Handler]] = [
        ("GET", "/", server.page),
        ("GET", "/docs", server.docs),
        ("GET", "/openapi.json", server.openapi),
        ("POST", "/clips", server.upload),
        ("GET", "/clips/{clip}", server.answer),
        ("DELETE", "/clips/{clip}", server.remove),
        ("POST", "/clips/{clip}/{part}", server.make_video),
        ("GET", "/clips/{clip}/{part}", server.video),
        ("GET", "/results.csv", server.results),
        ("GET", "/timelines.csv", server.results),
        ("GET", "/results.json", server.results),
        ("GET", "/examples/{name}", server.example),
        ("GET", "/{name}", server.static),
    ]
    routes = [
        Route(path, answering(handler), methods=[method]) for method, path, handler in handlers
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(HostCheck)],
        exception_handlers={HTTPException: refuse_unrouted(routes), Exception: refuse_fault},
    )
    # Around the whole, as Starlette answers failures outside of its middleware.
    return SecurityHeaders(app)
