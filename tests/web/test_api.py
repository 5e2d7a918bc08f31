"""The documented interface: every path, field and status that the document names is what the server does."""

from __future__ import annotations

import csv
import io
import json
import re
import urllib.parse
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import pytest

from nightcrawler import __version__
from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.ensemble import build_ensemble
from nightcrawler.predict.video_result import csv_rows
from tests.conftest import MakeClip
from tests.web import whole_answers
from tests.web.conftest import MAX_BYTES, WHY, Served, serving

VERBS = {"get", "post", "delete", "put", "patch"}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason=WHY)
    kept = tmp_path_factory.mktemp("kept")
    with serving(whole_answers.build, kept, 60.0, class_names=("Run",)) as running:
        yield running


@pytest.fixture(scope="module")
def document(quick: Served) -> dict[str, Any]:
    status, headers, content = quick.ask("GET", "/openapi.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    return json.loads(content)


def check(value: Any, schema: dict[str, Any], document: dict[str, Any], place: str = "$") -> None:
    """The few words of JSON Schema that the document uses; one it does not know is an error."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        return check(value, document["components"]["schemas"][name], document, place)
    ignored = {"title", "description", "default", "minItems"}
    kind = schema["type"]
    types = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int}
    types["number"] = (int, float)  # type: ignore[assignment]
    assert isinstance(value, types[kind]), place
    assert kind == "boolean" or not isinstance(value, bool), place
    known = {"type", *ignored}
    if kind == "object":
        known |= {"properties", "required", "additionalProperties"}
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) <= set(value) <= set(schema["properties"]), place
        for key, one in value.items():
            check(one, schema["properties"][key], document, f"{place}.{key}")
    if kind == "array":
        known |= {"items", "prefixItems", "maxItems"}
        assert len(value) <= schema.get("maxItems", len(value)), place
        for at, one in enumerate(value):
            inner = schema["prefixItems"][at] if "prefixItems" in schema else schema["items"]
            check(one, inner, document, f"{place}[{at}]")
    assert set(schema) <= known, set(schema) - known


def test_the_document_has_the_form_of_openapi_3_1(document: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", document["openapi"])
    assert document["info"]["title"]
    assert document["info"]["version"] == __version__
    names = []
    for path, operations in document["paths"].items():
        assert path.startswith("/")
        assert set(operations) <= VERBS
        for operation in operations.values():
            names.append(operation["operationId"])
            in_path = {one["name"] for one in operation["parameters"] if one["in"] == "path"}
            assert in_path == set(re.findall(r"{(\w+)}", path))
            for one in operation["parameters"]:
                assert one["in"] in ("path", "query", "header")
                assert one["in"] != "path" or one["required"]
                assert {"name", "schema", "description"} <= set(one)
            for status, response in operation["responses"].items():
                assert re.fullmatch(r"[2-5]\d\d", status)
                assert response["description"]
    assert len(names) == len(set(names))
    references = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document))
    assert set(references) == set(document["components"]["schemas"]) - {"Content"} != set()


def test_a_validator_accepts_the_document(document: dict[str, Any]) -> None:
    validator = pytest.importorskip(
        "openapi_spec_validator", reason="needs openapi-spec-validator, which is not required"
    )
    validator.validate(document)


def answers_to(quick: Served) -> dict[tuple[str, str, int], tuple[int, dict[str, str], bytes]]:
    """An answer of the running server to every (method, path) of the document, good and bad."""
    ask = quick.ask
    _, said = quick.send("a.mp4", b"x")
    _, failed = quick.send("bad.mp4", b"x")
    clip = said["clip"]
    found = {
        ("post", "/clips", 200): ask("POST", "/clips", b"x", x_file_name="b.mp4"),
        ("post", "/clips", 400): ask("POST", "/clips", b"x"),
        ("post", "/clips", 403): ask(
            "POST", "/clips", b"x", x_file_name="b.mp4", sec_fetch_site="cross-site"
        ),
        ("post", "/clips", 413): ask("POST", "/clips", bytes(MAX_BYTES + 1), x_file_name="b.mp4"),
        ("post", "/clips", 415): ask("POST", "/clips", b"x", x_file_name="b.txt"),
        ("post", "/clips", 422): ask("POST", "/clips", b"x", x_file_name="bad.mp4"),
        ("post", "/clips", 500): ask("POST", "/clips", b"x", x_file_name="crash.mp4"),
        ("post", "/clips", 507): ask("POST", "/clips", b"x", x_file_name="full.mp4"),
        ("get", "/clips/{clip}", 200): ask("GET", f"/clips/{clip}"),
        ("get", "/clips/{clip}", 404): ask("GET", "/clips/none"),
        ("get", "/clips/{clip}", 422): ask("GET", f"/clips/{failed['clip']}"),
        ("get", "/clips/{clip}/{part}", 200): ask("GET", f"/{said['before']}"),
        ("get", "/clips/{clip}/{part}", 404): ask("GET", f"/clips/{clip}/upload.mp4"),
        ("post", "/clips/{clip}/{part}", 200): ask("POST", f"/clips/{clip}/whole"),
        ("post", "/clips/{clip}/{part}", 404): ask("POST", f"/clips/{clip}/other"),
        ("post", "/clips/{clip}/{part}", 403): ask(
            "POST", f"/clips/{clip}/whole", sec_fetch_site="cross-site"
        ),
        ("delete", "/clips/{clip}", 403): ask(
            "DELETE", f"/clips/{clip}", sec_fetch_site="cross-site"
        ),
    }
    for path in ("/results.csv", "/timelines.csv", "/results.json"):
        found["get", path, 200] = ask("GET", f"{path}?clip={clip}&clip={failed['clip']}")
        found["get", path, 400] = ask("GET", path)
        found["get", path, 404] = ask("GET", f"{path}?clip=none")
    found["delete", "/clips/{clip}", 204] = ask("DELETE", f"/clips/{clip}")
    found["delete", "/clips/{clip}", 404] = ask("DELETE", f"/clips/{clip}")
    return found


def test_every_answer_is_as_documented(quick: Served, document: dict[str, Any]) -> None:
    found = answers_to(quick)
    documented = set()
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            documented |= {(verb, path, int(status)) for status in operation["responses"]}
    # What needs a hanging worker or upload is tested elsewhere; failures of models are the same.
    elsewhere = {("post", "/clips", 408), ("post", "/clips", 503)}
    elsewhere |= {("post", "/clips/{clip}/{part}", status) for status in (422, 500, 503, 507)}
    assert set(found) == documented - elsewhere
    for (verb, path, status), (got, headers, content) in found.items():
        place = f"{verb} {path} {status}"
        assert got == status, (place, content)
        response = document["paths"][path][verb]["responses"][str(status)]
        if "content" not in response:
            assert content == b"", place
            continue
        ((media, what),) = response["content"].items()
        assert headers["content-type"].split(";")[0] == media, place
        if "schema" in what:
            choices = what["schema"].get("oneOf", [what["schema"]])
            value = json.loads(content)
            faults = []
            for schema in choices:
                try:
                    check(value, schema, document)
                except AssertionError as error:
                    faults.append(error)
            assert len(faults) == len(choices) - 1, (place, faults)


@pytest.mark.parametrize(
    ("method", "path", "status", "allowed"),
    [
        ("PUT", "/clips", 405, "POST"),
        ("PATCH", "/clips", 405, "POST"),
        ("PUT", "/clips/x", 405, "DELETE, GET, HEAD"),
        ("DELETE", "/clips/x/whole", 405, "GET, HEAD, POST"),
        ("POST", "/results.csv", 405, "GET, HEAD"),
        ("POST", "/", 405, "GET, HEAD"),
        ("GET", "/clips", 404, None),
        ("PUT", "/clips/a/b/c", 404, None),
    ],
)
def test_what_no_route_takes_is_refused_in_json_too(
    quick: Served,
    document: dict[str, Any],
    method: str,
    path: str,
    status: int,
    allowed: str | None,
) -> None:
    got, headers, content = quick.ask(method, path, b"x", x_file_name="a.mp4")
    assert (got, headers["content-type"]) == (status, "application/json")
    said = json.loads(content)
    check(said, {"$ref": "#/components/schemas/Failure"}, document)
    assert headers.get("allow") == allowed
    if allowed is not None:
        reason = f"{method} is not taken at this address: expected {allowed}; see /docs"
        assert said["error"] == reason


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "127.0.0.1:x", ""])
def test_another_host_is_refused_in_json(quick: Served, host: str) -> None:
    got, headers, content = quick.ask("PUT", "/clips", b"x", host=host)
    assert (got, headers["content-type"]) == (400, "application/json")
    reason = f"invalid host header '{host}': expected 127.0.0.1 or localhost"
    assert json.loads(content)["error"] == reason


def test_a_fault_of_the_server_is_told_in_json(
    quick: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, said = quick.send("a.mp4", b"x")
    monkeypatch.setattr("nightcrawler.web.app.csv_rows", lambda *_: 1 / 0)
    got, headers, content = quick.ask("GET", f"/results.csv?clip={said['clip']}")
    assert (got, headers["content-type"]) == (500, "application/json")
    assert "an unexpected ZeroDivisionError" in json.loads(content)["error"]
    assert headers["x-content-type-options"] == "nosniff"


def test_the_checker_sees_faults(document: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/Failure"}
    check({"error": "x", "clip": "", "detail": "", "readable_sec": 0.5}, schema, document)
    for bad in ({}, {"error": 1}, {"error": "x", "more": 1}, {"error": "x", "readable_sec": "1"}):
        with pytest.raises(AssertionError):
            check(bad, schema, document)


class Links(HTMLParser):
    """Addresses that a page loads or leads to, and its ids."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        self.ids += [value or "" for name, value in attrs if name == "id"]


def test_the_page_for_people_names_all_of_it_and_loads_nothing_from_elsewhere(
    quick: Served, document: dict[str, Any]
) -> None:
    status, headers, content = quick.ask("GET", "/docs")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    text = content.decode()
    for path, operations in document["paths"].items():
        assert f"<code>{path}</code>" in text
        for operation in operations.values():
            assert all(f"<code>{one['name']}</code>" in text for one in operation["parameters"])
    for schema in document["components"]["schemas"].values():
        assert all(f"<code>{field}</code>" in text for field in schema["properties"])
    links = Links(text)
    inner = {address[1:] for address in links.addresses if address.startswith("#")}
    assert inner <= set(links.ids)
    for address in links.addresses:
        assert address.startswith("#") or quick.ask("GET", f"/{address.lstrip('./')}")[0] == 200
    assert "<script" not in text


def test_tables_hold_the_rows_of_predict_and_those_of_failures(
    served: Served, clip: Path, experiments: tuple[Path, ...]
) -> None:
    names = []
    for name, body in ((clip.name, clip.read_bytes()), ("=1+1.mp4", b"words")):
        names.append(served.send(name, body)[1]["clip"])
    query = urllib.parse.urlencode([("clip", name) for name in names])
    status, headers, content = served.ask("GET", f"/results.csv?{query}")
    assert (status, headers["content-disposition"]) == (200, "attachment")
    header, good, bad = csv.reader(io.StringIO(content.decode()))
    ensemble = build_ensemble(experiments, None, Path(), PredictOptions())
    (result,) = ensemble.videos([VideoItem(clip.name, -1, clip, 1)])
    expected = list(csv_rows([result], 5))
    assert header == expected[0]
    assert good[0] == clip.name
    assert good[2] == expected[1][2]
    # A name must not become a formula.
    assert bad[0] == "'=1+1.mp4"
    assert bad[1].startswith("error: not a video that can be read")
    rows = list(
        csv.DictReader(io.StringIO(served.ask("GET", f"/timelines.csv?{query}")[2].decode()))
    )
    assert {row["video"] for row in rows} == {clip.name}
    assert float(rows[0]["start_sec"]) == 0
    said = json.loads(served.ask("GET", f"/results.json?{query}")[2])
    assert [one["video"] for one in said["videos"]] == [clip.name, "=1+1.mp4"]
    assert set(said["videos"][0]["models"]) == {"first", "second"}
    assert len(said["about"]["models"]) == 2


def test_the_readable_part_of_a_broken_file_is_predicted_when_asked_for(
    served: Served, make_clip: MakeClip, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / "long.mkv", 100)
    content = path.read_bytes()
    cut = content[: len(content) * 7 // 10]
    status, said = served.send("cut.mkv", cut)
    assert status == 422
    assert re.fullmatch(r"the file breaks off after about [\d.]+ s", said["error"])
    assert said["detail"]
    seconds = said["readable_sec"]
    whole = float(av.open(str(path)).duration or 0) / 1e6
    assert 0.4 * whole < seconds < 0.9 * whole
    kept, _, content = served.ask("POST", "/clips?readable=1", cut, x_file_name="cut.mkv")
    answer = json.loads(content)
    assert kept == 200
    assert answer["status"].startswith("damaged: ")
    assert answer["preview_sec"] == pytest.approx(seconds, abs=0.2)
    assert len(answer["top"]) == 5


@pytest.mark.parametrize("task", ["whole", "annotated"])
def test_videos_on_demand(served: Served, make_clip: MakeClip, tmp_path: Path, task: str) -> None:
    path = make_clip(tmp_path / "long.mp4", 400)
    said = served.send("long.mp4", path.read_bytes())[1]
    assert said["preview_sec"] < said["seconds"] - 1
    status, _, content = served.ask("POST", f"/clips/{said['clip']}/{task}")
    assert status == 200
    made = json.loads(content)
    names = ["annotated"] if task == "annotated" else ["before", "after"]
    lengths = []
    for name in names:
        video = served.ask("GET", f"/{made[name]}")[2]
        with av.open(io.BytesIO(video)) as container:
            lengths.append(float(container.duration or 0) / 1e6)
    assert lengths == pytest.approx([said["seconds"]] * len(names), abs=0.2)
    if task == "whole":
        assert made["preview_sec"] == pytest.approx(said["seconds"], abs=0.1)
    assert served.ask("DELETE", f"/clips/{said['clip']}")[0] == 204
    assert served.ask("POST", f"/clips/{said['clip']}/{task}")[0] == 404
    assert not (served.folder / said["clip"]).exists()


def test_examples_are_clips_that_are_answered(served: Served) -> None:
    from nightcrawler.web.texts import EXAMPLES

    for name in EXAMPLES:
        status, headers, content = served.ask("GET", f"/examples/{name}")
        assert (status, headers["content-type"]) == (200, "video/mp4")
        assert served.send(name, content)[0] == 200
    assert served.ask("GET", "/examples/other.mp4")[0] == 404


def test_a_long_clip_tells_of_each_window_that_work_goes_on(
    experiments: tuple[Path, ...],
    make_clip: MakeClip,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A slow machine may take longer for all windows than a clip may go without a sign."""
    pytest.importorskip("starlette", reason=WHY)
    from nightcrawler.data.video.integrity.limits import Limits
    from nightcrawler.web import inference

    signs: list[None] = []
    monkeypatch.setattr(inference, "report_alive", lambda: signs.append(None))
    options = inference.InferenceOptions(
        experiments[1:], None, None, Path(), True, Path(), 3.0, 1.5, 600.0, Limits(), 1
    )
    answer, _ = inference.build_inference(options)
    path = make_clip(tmp_path / "long.mp4", 450)
    question = {"do": "predict", "path": str(path), "name": "long.mp4", "is_damaged": False}
    said = answer({**question, "folder": str(tmp_path)})
    assert said["by_time"]
    assert len(signs) >= said["seconds"] / 1.5 - 2
