"""The page and its interface with models that answer in classes by name."""

from __future__ import annotations

import functools
import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.open_vocabulary import DEFAULT_PROMPT, build_open_vocabulary
from tests.models.tiny_text import save_folder
from tests.web.browser import CHROMIUM, opened
from tests.web.conftest import MAX_BYTES, WHY, Served, serving

pytest.importorskip("transformers")
LABELS = ("falls", "walks", "climbs a fence")
OWN = ("walks", "a picture of the fence")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder("clip", tmp_path_factory.mktemp("text") / "clip")


@pytest.fixture(scope="module")
def words(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason=WHY)
    from nightcrawler.web.inference import InferenceOptions, build_inference

    limits = Limits(file_bytes=MAX_BYTES, memory_bytes=1 << 28)
    options = InferenceOptions(
        (str(folder),), None, None, Path(), True, Path(), 0.4, 0.2, 20.0, limits, 1,
        labels=LABELS, prompt=DEFAULT_PROMPT,
    )  # fmt: skip
    kept = tmp_path_factory.mktemp("kept")
    with serving(functools.partial(build_inference, options), kept, 100) as running:
        yield running


def ask(served: Served, clip: Path, labels: str) -> tuple[int, dict[str, Any]]:
    query = f"?labels={urllib.parse.quote(labels)}" if labels else ""
    status, _, content = served.ask(
        "POST", f"/clips{query}", clip.read_bytes(), x_file_name=urllib.parse.quote(clip.name)
    )
    return status, json.loads(content)


def expected(folder: Path, clip: Path, labels: tuple[str, ...]) -> dict[str, float]:
    options = PredictOptions(device="cpu")
    ensemble = build_open_vocabulary([str(folder)], labels, DEFAULT_PROMPT, options)
    (result,) = ensemble.videos([VideoItem(clip.name, -1, clip, 1)])
    return dict(zip(labels, result.probs, strict=True))


@pytest.mark.parametrize(
    ("sent", "labels"), [("", LABELS), (" walks, a picture of the fence", OWN)]
)
def test_a_clip_is_answered_in_the_classes_of_the_server_or_its_own(
    words: Served, folder: Path, clip: Path, sent: str, labels: tuple[str, ...]
) -> None:
    status, said = ask(words, clip, sent)
    assert status == 200
    assert tuple(said["class_names"]) == labels
    found = {one["class"]: one["probability"] for one in said["top"]}
    assert found == pytest.approx(expected(folder, clip, labels), abs=1e-6)
    assert said["models"][0]["class"] == said["top"][0]["class"]
    query = f"?clip={said['clip']}"
    (video,) = json.loads(words.ask("GET", f"/results.json{query}")[2])["videos"]
    assert tuple(video["class_names"]) == labels
    made = words.ask("POST", f"/clips/{said['clip']}/annotated")
    assert made[0] == 200
    annotated = words.ask("GET", "/" + json.loads(made[2])["annotated"])[2]
    path = words.folder / "copy.mp4"
    path.write_bytes(annotated)
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == said["num_frames"]
    path.unlink()


@pytest.mark.parametrize(
    ("sent", "status", "why"),
    [
        ("falls", 400, "labels 'falls': expected two classes or more"),
        ("falls,falls", 400, "'falls' is given twice"),
        ("falls," + "a video of " * 20, 422, "tokens, and the model reads 16: say it in fewer"),
    ],
)
def test_classes_that_cannot_be_used_are_refused_in_words(
    words: Served, clip: Path, sent: str, status: int, why: str
) -> None:
    found, said = ask(words, clip, sent)
    assert found == status
    assert why in said["error"]
    assert ask(words, clip, "")[0] == 200


def test_models_of_their_own_classes_take_no_others(served: Served, clip: Path) -> None:
    status, said = ask(served, clip, "falls,walks")
    assert status == 400
    assert "start the server with --labels" in said["error"]
    assert b'id="labels"' not in served.ask("GET", "/")[2]


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_the_page_sends_the_classes_in_its_field(words: Served, clip: Path) -> None:
    with opened() as page:
        page.open(f"http://127.0.0.1:{words.port}/")
        assert page.run("document.getElementById('labels').value") == ", ".join(LABELS)
        page.run("document.getElementById('labels').value = 'walks, falls'")
        page.choose("#file", clip)
        page.wait("document.getElementById('result').checkVisibility()")
        shown = page.run("[...document.querySelectorAll('#bars span')].map((s) => s.innerText)")
        assert {"walks", "falls"} <= set(shown)
        assert "climbs a fence" not in shown
