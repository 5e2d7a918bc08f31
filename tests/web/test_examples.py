"""Clips on the start page are answered rightly by the models that answer where nobody names one."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.defaults import build_default_ensemble
from nightcrawler.web.texts import EXAMPLES, resource

EXPECTED = {"jump.mp4": ["Jump"], "wave.mp4": ["Wave"], "walk.mp4": ["Walk"]}
SCENES = {"scenes.mp4": ["Walk", "Wave", "Jump"]}


@pytest.mark.slow
def test_they_are_right(tmp_path: Path) -> None:
    assert set(EXAMPLES) == {*EXPECTED, *SCENES}
    for name in EXAMPLES:
        (tmp_path / name).write_bytes(resource("examples", name))
    ensemble, _ = build_default_ensemble(PredictOptions(device="cpu"))
    finds_people = any("poses" in model.about for model in ensemble.predictors)
    for name, classes in EXPECTED.items():
        (result,) = ensemble.predict(tmp_path / name)
        assert result.classes[:1] == classes
        # Models of pictures alone are never sure.
        assert result.status == ("sure" if finds_people else "unsure"), name
    if finds_people:
        for name, classes in SCENES.items():
            (result,) = ensemble.predict(tmp_path / name, window_sec=4, stride_sec=2)
            assert [entry.class_name for entry in result.timeline] == classes
            # Windows that lie across two scenes contradict those inside of them.
            statuses = [entry.status for entry in result.timeline]
            assert set(statuses) <= {"sure", "unsure"}
            assert "sure" in statuses
