"""Limits of the page: shapes and sizes that are refused before a model sees them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from nightcrawler.cli import serve
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.convert import EXACT
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.predict.ensemble import Ensemble
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.utils.errors import VideoError
from nightcrawler.web.inference import infer
from tests.conftest import MakeClip


def test_a_narrow_clip_is_refused_before_it_is_predicted(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    """One rule of shapes, in the limits: players show such pictures as a line."""
    path = make_clip(tmp_path / "narrow.mp4", 12, size=(200, 40))
    arguments = serve.parse(["--experiment", "unused"])
    options = serve.choose_inference(arguments)
    question = {
        "path": str(path),
        "name": "narrow.mp4",
        "folder": str(tmp_path),
        "is_damaged": False,
    }
    with pytest.raises(VideoError, match="200x40 pixels, a side over 4 times the other"):
        # Without models: none may be asked.
        infer(cast(Ensemble, None), options, question)
    arguments = serve.parse(["--experiment", "unused", "--max-pixels", "7999"])
    with pytest.raises(VideoError, match="over the limit of 7999 in all"):
        infer(cast(Ensemble, None), serve.choose_inference(arguments), question)


class Whole:
    """Answers whole clips, and has room for three frames of a window."""

    class_names = ("Run", "Walk")
    model_names = ("m",)
    short_side = 0
    color = EXACT
    limits = Limits(memory_bytes=3 * 32 * 24 * 3)
    enhance = staticmethod(lambda frames: frames)

    def videos(self, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
        for item in items:
            yield VideoResult(
                item.name, -1, "sure", self.class_names, 0, (0.9, 0.1), (1.0, 0.0), 1, (0,)
            )


def test_a_timeline_that_fails_costs_no_answer(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "night.mp4", 75, size=(32, 24))
    arguments = serve.parse(["--experiment", "unused", "--window-sec", "1"])
    question = {
        "path": str(path),
        "name": "night.mp4",
        "folder": str(tmp_path),
        "is_damaged": False,
    }
    answer = infer(cast(Ensemble, Whole()), serve.choose_inference(arguments), question)
    assert answer["result"]["class_id"] == 0
    assert not answer["result"]["segments"]
    assert not answer["by_time"]
