"""Answers in classes that the user names: the command, with models made here and no network."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nightcrawler
from nightcrawler.cli import main as program
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.decode import decode
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import probe
from nightcrawler.download import hub
from nightcrawler.models.hub_video import hub_video
from nightcrawler.models.open_vocabulary import open_vocabulary
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.open_vocabulary import (
    build_open_vocabulary,
    parse_labels,
    sentences_of,
)
from nightcrawler.predict.trust import TRUST
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.models.tiny_text import FAMILIES, SIDE, VIDEO_FRAMES, save_folder

pytest.importorskip("transformers")
LABELS = ("falls", "walks", "climbs a fence")
PROMPT = "a video of a person who {}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_folder("xclip", tmp_path_factory.mktemp("text") / "xclip")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "night.mp4"
    tiny.write_video(path, 0, 0, dark=True)
    return path


def test_the_command_answers_in_the_given_classes(folder: Path, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    argv = ["predict", str(clip), "--labels", " falls, walks,climbs a fence", "--json", str(out)]
    assert program.main([*argv, "--model", str(folder)]) == 0
    found = json.loads(out.read_text())
    assert found["about"]["class_names"] == list(LABELS)
    assert found["about"]["models"][0]["prompts"] == sentences_of(LABELS, PROMPT)
    (video,) = found["videos"]
    assert video["status"] in TRUST
    assert {one["class"] for one in video["top"]} == set(LABELS)


def test_a_missing_extra_is_told_before_anything_is_downloaded(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reached(*_: object) -> None:
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(hub, "list_files", reached)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert program.main(["predict", str(clip), "--labels", "falls,walks"]) == 2
    error = capsys.readouterr().err
    assert "error: microsoft/xclip-base-patch32: " in error
    assert "needs the extra hub: " in error
    with pytest.raises(UserError, match="needs the extra hub"):
        hub_video("owner/videomae", num_classes=2)


def test_probabilities_are_those_of_lit_frames(folder: Path, clip: Path) -> None:
    ensemble = build_open_vocabulary([str(folder)], LABELS, PROMPT, PredictOptions(device="cpu"))
    (result,) = ensemble.videos([VideoItem("night.mp4", -1, clip, 1)])
    info = probe(str(clip), Limits())
    # One frame of each of four equal parts.
    builder = ensemble.predictors[0].input.clip_builder
    (places,) = builder.frames(info.num_frames, np.random.default_rng(0))
    parts = [place * VIDEO_FRAMES // info.num_frames for place in places.tolist()]
    assert parts == list(range(VIDEO_FRAMES))
    frames = decode(str(clip), places.tolist(), info).frames
    lit = ensemble.enhance(frames)
    assert lit.mean() > 1.5 * frames.mean()
    found = open_vocabulary(str(folder), sentences_of(LABELS, PROMPT))
    with torch.no_grad():
        expected = found.model(found.prepare(lit)[None]).softmax(dim=1)[0]
    np.testing.assert_allclose(result.probabilities, expected.numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--labels", "falls"], "expected two classes or more"),
        (["--labels", "falls,,walks"], "expected two classes or more"),
        (["--labels", "falls,walks,falls"], "'falls' is given twice"),
        (["--labels", "falls,walks", "--prompt", "a person"], "expected one {} in the place"),
        (["--prompt", "a {}"], "--prompt needs --labels"),
        (["--labels", "a,b", "--adapt", "tent"], "--labels does not go with --adapt"),
        (["--labels", "a,b", "--ensemble", "configs/vote/default.yaml"], "does not go with"),
        (["--labels", "a,b", "--views", "2", "--crops", "3"], "one crop of each view"),
        (["--labels", "a,b", "--model", "nowhere/at/all"], "nowhere/at/all: no such folder"),
        (["--labels", "a,b"], "NIGHTCRAWLER_OFFLINE is set, so nothing is downloaded"),
    ],
)
def test_faults_are_one_line(
    clip: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    message: str,
) -> None:
    monkeypatch.setenv("NIGHTCRAWLER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NIGHTCRAWLER_OFFLINE", "1")
    try:
        code = program.main(["predict", str(clip), *argv])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_python_loads_models_with_labels(folder: Path, clip: Path) -> None:
    predictor = nightcrawler.load(folder, "cpu", labels=LABELS)
    (result,) = predictor.predict(clip)
    assert set(result.classes) == set(LABELS)
    ensemble = build_open_vocabulary([str(folder)], LABELS, PROMPT, PredictOptions(device="cpu"))
    (expected,) = ensemble.predict(clip)
    np.testing.assert_allclose(result.probabilities, expected.probabilities, atol=1e-6)
    other = nightcrawler.load(folder, "cpu", labels=LABELS, prompt="the picture of {}")
    assert other.about["prompts"] == sentences_of(LABELS, "the picture of {}")
    assert not np.allclose(other.predict(clip)[0].probabilities, result.probabilities, atol=1e-4)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ({"labels": ["falls"]}, UserError, "expected two classes or more"),
        ({"labels": ["falls", " falls"]}, UserError, "'falls' is given twice"),
        ({"labels": "falls,walks"}, TypeError, "expected a list of names"),
        ({"labels": LABELS, "prompt": "a person"}, UserError, "expected one {} in the place"),
        ({"labels": LABELS, "views": 1, "crops": 3}, ValueError, "one crop of each view"),
        ({"prompt": "a {}"}, ValueError, "needs labels"),
    ],
)
def test_faults_of_labels_in_python(
    folder: Path, values: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        nightcrawler.load(folder, "cpu", **values)


@pytest.mark.parametrize("family", FAMILIES)
def test_other_words_share_the_weights(family: str, tmp_path: Path) -> None:
    folder = save_folder(family, tmp_path / family)
    first = open_vocabulary(str(folder), ["a person falls", "walks"]).model
    second = first.reworded(["the fence", "a picture", "who climbs"])
    assert second.model is first.model
    fresh = open_vocabulary(str(folder), ["the fence", "a picture", "who climbs"]).model
    clip = torch.rand(1, 3, VIDEO_FRAMES, SIDE, SIDE)
    with torch.no_grad():
        torch.testing.assert_close(second(clip), fresh(clip))
        assert first(clip).shape == (1, 2)


def test_labels_and_sentences() -> None:
    assert parse_labels("fall, walk,climb a fence") == ("fall", "walk", "climb a fence")
    assert sentences_of(["fall"], "to {}!") == ["to fall!"]
    with pytest.raises(UserError, match="expected one"):
        sentences_of(["fall"], "{} and {}")


def test_many_labels_are_refused_at_once() -> None:
    """The page reads them between two requests: nobody else is answered meanwhile."""
    start = time.perf_counter()
    with pytest.raises(UserError, match="15000 classes, expected 1000 or fewer") as caught:
        parse_labels(",".join(map(str, range(15_000))))
    assert len(str(caught.value)) < 300
    with pytest.raises(UserError, match="'7' is given twice"):
        parse_labels(",".join(map(str, [*range(999), 7])))
    assert len(parse_labels(",".join(map(str, range(1000))))) == 1000
    assert time.perf_counter() - start < 1
