"""Description of the page's interface for programs, as an OpenAPI 3.1 document."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from nightcrawler import __version__
from nightcrawler.data.video.suffixes import VIDEO_SUFFIXES
from nightcrawler.web.answers import AnnotatedVideo, Answer, Content, Failure, Previews
from nightcrawler.web.texts import Site

CONTENTS: tuple[type[Content], ...] = (Answer, Previews, AnnotatedVideo, Failure)
FOREIGN = {"403": "a page of another site asks"}
# Statuses of requests that wait for the models, and their meaning.
MODEL_FAILURES = {
    "422": "the clip cannot be used",
    "500": "the models hung, crashed or cannot be loaded; the next clip can be sent",
    "503": "other clips wait already: try again in a moment",
    "507": "the disk is full",
}
UPLOAD_FAILURES = {
    "400": "X-File-Name is missing, labels are no list, or the upload was interrupted",
    **FOREIGN,
    "408": "the upload took too long",
    "413": "the file is too large",
    "415": "not a video by its name",
}
UNKNOWN = {"404": "the clip is unknown, or no longer kept"}


def describe_api(site: Site) -> dict[str, Any]:
    """Return the OpenAPI document.

    Args:
        site: limits of the page.
    """
    _, schemas = models_json_schema(
        [(content, "serialization") for content in CONTENTS],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nightcrawler page",
            "version": __version__,
            "description": (
                f"Predicts what people do in night videos, with {len(site.models)} model(s) that "
                f"know {len(site.class_names)} classes. Served to this machine only, one clip "
                f"after the other. Videos of the clips used last are kept, in at most "
                f"{site.keep_bytes >> 20} MiB. Every refusal is a Failure, also of a method or an "
                f"address that is not listed here."
            ),
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/clips": {"post": _upload(site)},
            "/clips/{clip}": {"get": _answer(), "delete": _remove()},
            "/clips/{clip}/{part}": {"post": _make_video(), "get": _video()},
            "/results.csv": _table("results", "Table of clips: most probable classes", "text/csv"),
            "/timelines.csv": _table("timelines", "Table of the lines of timelines", "text/csv"),
            "/results.json": _table(
                "json", "Results and models, as `predict --json` writes them", "application/json"
            ),
        },
        "components": {"schemas": schemas["$defs"]},
    }


def _upload(site: Site) -> dict[str, Any]:
    name = {
        "name": "X-File-Name",
        "in": "header",
        "required": True,
        "description": f"name of the file, percent-encoded; ends in {', '.join(VIDEO_SUFFIXES)}",
        "schema": {"type": "string"},
    }
    readable = {
        "name": "readable",
        "in": "query",
        "description": "1 predicts what can be read of a damaged file, which is refused otherwise",
        "schema": {"type": "string", "enum": ["0", "1"], "default": "0"},
    }
    labels = {
        "name": "labels",
        "in": "query",
        "description": "classes of this clip, such as `falls,walks`, where the server was started "
        "with --labels; its own otherwise",
        "schema": {"type": "string"},
    }
    return {
        "operationId": "predict",
        "summary": "Predict a clip",
        "description": (
            f"The body is the video: at most {site.max_bytes >> 20} MiB and {site.max_sec:g} s. "
            f"The answer comes when the clip is predicted, after those that were sent before it. A "
            f"clip is given up after {site.answer_sec:g} s without progress."
        ),
        "parameters": [name, readable, labels],
        "requestBody": {
            "required": True,
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
        },
        "responses": {
            "200": _content("what the clip shows", Answer),
            **_failures(UPLOAD_FAILURES | MODEL_FAILURES),
        },
    }


def _answer() -> dict[str, Any]:
    return {
        "operationId": "answer",
        "summary": "The answer to a clip once more",
        "parameters": [_clip()],
        "responses": {
            "200": _content("what the clip shows", Answer),
            **_failures(UNKNOWN | {"422": MODEL_FAILURES["422"]}),
        },
    }


def _remove() -> dict[str, Any]:
    return {
        "operationId": "remove",
        "summary": "Remove a clip and its videos",
        "parameters": [_clip()],
        "responses": {"204": {"description": "removed"}, **_failures(FOREIGN | UNKNOWN)},
    }


def _make_video() -> dict[str, Any]:
    choices = {"type": "string", "enum": ["whole", "annotated"]}
    part = _in_path("part", "previews of the whole clip, or its annotated copy", choices)
    made = {"oneOf": [_reference(Previews), _reference(AnnotatedVideo)]}
    return {
        "operationId": "make_video",
        "summary": "Make previews of a whole clip, or an enhanced copy with its classes in it",
        "parameters": [_clip(), part],
        "responses": {
            "200": {
                "description": "addresses of the videos",
                "content": {"application/json": {"schema": made}},
            },
            **_failures(FOREIGN | UNKNOWN | MODEL_FAILURES),
        },
    }


def _video() -> dict[str, Any]:
    part = _in_path("part", "file of an address that an answer holds", {"type": "string"})
    return {
        "operationId": "video",
        "summary": "A video of a clip",
        "parameters": [_clip(), part],
        "responses": {
            "200": {"description": "the video", "content": {"video/mp4": {}}},
            **_failures(UNKNOWN),
        },
    }


def _table(name: str, summary: str, media_type: str) -> dict[str, Any]:
    clips = {
        "name": "clip",
        "in": "query",
        "required": True,
        "description": "name of a clip, once for each",
        "schema": {"type": "array", "items": {"type": "string"}},
    }
    operation = {
        "operationId": name,
        "summary": summary,
        "parameters": [clips],
        "responses": {
            "200": {"description": "the file", "content": {media_type: {}}},
            **_failures({"400": "no clip is named", **UNKNOWN}),
        },
    }
    return {"get": operation}


def _clip() -> dict[str, Any]:
    return _in_path("clip", "`clip` of an answer", {"type": "string"})


def _in_path(name: str, description: str, schema: dict[str, Any]) -> dict[str, Any]:
    place = {"in": "path", "required": True}
    return {"name": name, **place, "description": description, "schema": schema}


def _reference(content: type[Content]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{content.__name__}"}


def _content(description: str, content: type[Content]) -> dict[str, Any]:
    schema = _reference(content)
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _failures(meanings: dict[str, str]) -> dict[str, Any]:
    return {status: _content(meaning, Failure) for status, meaning in meanings.items()}
