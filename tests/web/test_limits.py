"""Limits of the page: shapes and sizes that are refused before a model sees them."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from nightcrawler.cli import serve
from nightcrawler.predict.ensemble import Ensemble
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
