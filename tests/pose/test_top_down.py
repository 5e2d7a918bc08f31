import importlib.util
import re

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the extra 'export' is not installed")

from nightcrawler.pose.estimators.base import UNRELATED, EstimatorOptions, build_estimator
from nightcrawler.pose.estimators.top_down import Box, _decode_heatmaps
from nightcrawler.pose.people import follow_people
from nightcrawler.utils.errors import UserError
from tests.pose.onnx_models import figure, write_model

FPS = 15.0


def build(path, simcc=True, people=2):
    return build_estimator("onnx", EstimatorOptions(write_model(path, simcc), people))


def empty(count, size=(240, 320)):
    return np.zeros((count, *size, 3), np.uint8)


@pytest.mark.parametrize("simcc", [True, False])
@pytest.mark.parametrize(("x", "y", "scale"), [(160, 120, 1.0), (70, 90, 0.6), (250, 150, 0.8)])
def test_joints_are_where_they_were_drawn(tmp_path, simcc, x, y, scale):
    frames = empty(3)
    expected = [figure(frame, x + 3 * number, y, scale) for number, frame in enumerate(frames)]
    estimator = build(tmp_path / "dots.onnx", simcc, people=1)
    points = estimator.estimate(frames, FPS)
    assert points.shape == (1, 3, 17, 3)
    assert points.dtype == np.float32
    # Dots of the head hide each other.
    body = slice(5, None)
    assert np.abs(points[0, :, body, :2] - np.stack(expected)[:, body]).max() < 2.5
    assert points[0, :, body, 2].min() > 0.5
    assert re.fullmatch(r"onnx dots.onnx [0-9a-f]{12}", estimator.source)


def test_a_small_person_is_found_in_a_large_picture(tmp_path):
    frames = empty(2, (720, 1280))
    expected = [figure(frame, 1000, 300, 0.9) for frame in frames]
    points = build(tmp_path / "dots.onnx").estimate(frames, UNRELATED)
    assert np.median(np.abs(points[0, ..., :2] - expected)) < 2.5


def test_two_people_are_kept_apart(tmp_path):
    frames = empty(20)
    expected = np.zeros((2, 20, 17, 2))
    for number, frame in enumerate(frames):
        expected[0, number] = figure(frame, 60 + number, 120, 0.9)
        expected[1, number] = figure(frame, 260 - number, 110, 0.7)
    found = follow_people(build(tmp_path / "dots.onnx").estimate(frames, FPS), FPS, 2, "coco17")
    assert found.shape == (2, 20, 17, 3)
    # The larger one is first.
    assert np.nanmedian(np.abs(found[..., :2] - expected)) < 2.5


def test_who_leaves_is_lost_and_who_comes_is_found_again(tmp_path):
    frames = empty(45)
    for number in (*range(15), *range(30, 45)):
        figure(frames[number], 100, 120)
    points = build(tmp_path / "dots.onnx", people=1).estimate(frames, FPS)[0]
    seen = np.isfinite(points[:, 0, 0])
    assert seen[:15].all()
    assert not seen[15:30].any()
    assert seen[38:].all()


def test_nobody_is_seen_in_an_empty_picture_and_reset_forgets(tmp_path):
    estimator = build(tmp_path / "dots.onnx")
    frames = empty(1)
    figure(frames[0], 100, 120)
    assert np.isfinite(estimator.estimate(frames, FPS)).any()
    estimator.reset()
    assert np.isnan(estimator.estimate(empty(4), FPS)).all()
    assert estimator.estimate(empty(0), FPS).shape == (2, 0, 17, 3)


def test_a_peak_between_two_cells_is_shifted_to_the_higher_neighbour():
    maps = np.zeros((1, 17, 8, 4), np.float32)
    maps[:, :, 3, 2] = 0.9
    maps[:, :, 3, 1] = 0.5
    maps[:, :, 4, 2] = 0.4
    expected = [(2.5 - 0.25) / 4, (3.5 + 0.25) / 8, 0.9]
    np.testing.assert_allclose(_decode_heatmaps(maps)[5], expected, rtol=1e-6)


def test_boxes():
    assert Box(0, 0, 10, 10).overlap(Box(5, 0, 10, 10)) == pytest.approx(1 / 3)
    assert Box(0, 0, 10, 10).overlap(Box(20, 0, 10, 10)) == 0
    padded = Box(10, 10, 20, 80).padded(0.75)
    assert (padded.width, padded.height) == (75, 100)
    assert (padded.left + padded.width / 2, padded.top + padded.height / 2) == (20, 50)


def test_models_that_cannot_be_used_are_told_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "text.onnx").write_text("no model")
    for model, message in (
        ("", "needs a model: give a .onnx file"),
        (tmp_path / "none.onnx", "none.onnx: no such model file"),
        (tmp_path / "text.onnx", "text.onnx: cannot be read as an ONNX model"),
        (write_model(tmp_path / "few.onnx", True, joints=5), r"expected two of \[N, 17, L\]"),
        (write_model(tmp_path / "four.onnx", False, joints=4), r"outputs are \[\[1, 4, 256, 192"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            build_estimator("onnx", EstimatorOptions(str(model)))
        assert "\n" not in str(caught.value)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        UserError, match=r"'onnx' needs the extra export: .*nightcrawler-video\[export\]"
    ):
        build_estimator("onnx", EstimatorOptions("a.onnx"))
