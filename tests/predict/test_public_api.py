"""The public Python interface: loading, sources of every kind, results, documented examples."""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import nightcrawler
from nightcrawler.cli import predict as predict_command
from nightcrawler.predict import load as load_module
from nightcrawler.predict import video_result as results_module
from nightcrawler.predict.checkpoints import PredictOptions, find_checkpoint
from nightcrawler.predict.ensemble import build_ensemble
from nightcrawler.predict.predictor import Predictor
from nightcrawler.predict.sources import find_videos, read_source
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.reading import read_file


@pytest.fixture(scope="module")
def predictor(models: list[Path]) -> Predictor:
    return nightcrawler.load(models[0], device="cpu")


def test_importing_the_package_imports_no_torch() -> None:
    code = (
        "import sys, nightcrawler; dir(nightcrawler); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'av')))"
    )
    done = subprocess.run([sys.executable, "-c", code], env=tiny.environment(), check=False)
    assert done.returncode == 0


def test_every_public_name_can_be_imported() -> None:
    for name in nightcrawler.__all__:
        assert getattr(nightcrawler, name) is not None
        assert name in dir(nightcrawler)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = nightcrawler.nothing


@pytest.mark.parametrize("split", ["test", "arid"])
def test_a_list_is_predicted_like_its_results_file(
    predictor: Predictor, models: list[Path], data: Path, split: str
) -> None:
    written = read_results(models[0] / f"{split}x4x32x1x1.npz")
    results = predictor.predict(str(data / f"{split}.csv"))
    assert [result.name for result in results] == written.names
    found = np.stack([result.probabilities for result in results])
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, written.probs, atol=1e-6)
    for result, probs in zip(results, written.probs, strict=True):
        expected = [predictor.class_names[label] for label in np.argsort(-probs, kind="stable")]
        assert result.classes == expected
        assert result.timeline == []


def test_a_predictor_answers_like_an_ensemble_of_it_alone(
    predictor: Predictor, models: list[Path], data: Path
) -> None:
    ensemble = build_ensemble([models[0]], None, Path(), PredictOptions(device="cpu"))
    assert predictor.predict(data / "Test") == ensemble.predict(data / "Test")
    items = find_videos(data / "Test", 11)
    assert list(predictor.videos(items)) == list(ensemble.videos(items))


def test_a_missing_and_a_damaged_file_have_their_reasons(
    predictor: Predictor, data: Path, tmp_path: Path
) -> None:
    tiny.damage(tmp_path / "bad.mp4")
    paths = [data / "Test/0.mp4", str(tmp_path / "bad.mp4"), tmp_path / "gone.mp4", tmp_path]
    results = predictor.predict(paths)
    assert [result.name for result in results] == [str(path) for path in paths]
    assert [result.ok for result in results] == [True, False, False, False]
    assert "not a video that can be read" in results[1].status
    for result in results[1:]:
        assert result.status.startswith("error: ")
        assert result.classes == []
        assert result.probabilities.shape == (11,)
        assert np.isnan(result.probabilities).all()


def test_arrays_are_predicted_like_their_files(predictor: Predictor, data: Path) -> None:
    path = data / "Test/1.mp4"
    (expected,) = predictor.predict(path)
    frames = read_file(path, range).frames
    (single,) = predictor.predict(frames)
    assert single.name == "array"
    np.testing.assert_allclose(single.probs, expected.probs, atol=1e-7)
    mixed = predictor.predict([frames, path, frames[:5]])
    assert [result.name for result in mixed] == ["array 0", str(path), "array 2"]
    assert mixed[0].probs == single.probs
    np.testing.assert_allclose(mixed[1].probs, expected.probs, atol=1e-7)
    assert predictor.predict([]) == []


def test_windows_have_a_timeline(predictor: Predictor, data: Path) -> None:
    (result,) = predictor.predict(data / "Test/0.mp4", window_sec=0.5, stride_sec=0.25)
    timeline = result.timeline
    assert timeline[0].start_sec == 0
    assert timeline[-1].end_sec == pytest.approx(1.0)
    for entry in timeline:
        assert entry.class_name in predictor.class_names
        assert 0 < entry.probability <= 1
    (half,) = predictor.predict(data / "Test/0.mp4", window_sec=0.5)
    assert half == result


@pytest.mark.parametrize(
    ("source", "error", "text"),
    [
        (np.zeros((4, 8, 8, 3), np.float32), TypeError, r"^source: .* uint8, got float32"),
        (np.zeros((8, 8, 3), np.uint8), ValueError, r"^source: .* got shape \[8, 8, 3\]"),
        (np.zeros((0, 8, 8, 3), np.uint8), ValueError, r"at least one frame"),
        ([np.zeros((4, 8, 8, 4), np.uint8)], ValueError, r"^source\[0\]: .*\[4, 8, 8, 4\]"),
        (["a.mp4", 3], TypeError, r"^source\[1\]: expected a path or .*, got int"),
        (3, TypeError, "^source: expected a path, .*, got int"),
        (torch.zeros(4, 8, 8, 3), TypeError, "^source: expected a path, .*, got Tensor"),
    ],
)
def test_a_wrong_source_names_the_argument(
    predictor: Predictor, source: object, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        predictor.predict(source)


def test_a_path_that_is_not_there(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file or folder"):
        predictor.predict(tmp_path / "gone.mp4")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"window_sec": 0}, "window_sec 0 and stride_sec 0: expected a window above 0 s"),
        ({"stride_sec": 1.0}, "stride_sec 1: needs window_sec"),
        ({"window_sec": 1.0, "stride_sec": 2.0}, "expected a window above 0 s and a stride"),
    ],
)
def test_wrong_windows_name_the_arguments(
    predictor: Predictor, options: dict[str, float], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        predictor.predict([], **options)
    with pytest.raises(ValueError, match="window_sec: arrays have no frame rate"):
        predictor.predict(np.zeros((4, 8, 8, 3), np.uint8), window_sec=1.0)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"device": "gpu"}, "device 'gpu': expected one of auto, cpu, cuda"),
        ({"views": 2}, "views and crops: give both or neither"),
        ({"views": 0, "crops": 1}, "views 0 and crops 1"),
        ({"workers": -1}, "workers -1: expected 0 or more"),
    ],
)
def test_wrong_options_name_the_arguments(
    models: list[Path], options: dict[str, object], text: str
) -> None:
    with pytest.raises(ValueError, match=text):
        nightcrawler.load(models[0], **options)


def test_options_change_what_is_run(models: list[Path], data: Path) -> None:
    bright = nightcrawler.load(models[0] / "best.pyth", torch.device("cpu"), dark=False)
    assert bright.about["enhancement"] == "none"
    assert bright.name == "best.pyth"
    views = nightcrawler.load(str(models[0]), "cpu", views=2, crops=3)
    written = read_results(models[0] / "testx4x32x2x3.npz")
    found = np.stack([result.probabilities for result in views.predict(data / "test.csv")])
    np.testing.assert_allclose(found, written.probs, atol=1e-6)


def test_a_checkpoint_is_found_by_folder_or_file(models: list[Path], tmp_path: Path) -> None:
    best = models[0] / "best.pyth"
    assert find_checkpoint(models[0]) == find_checkpoint(str(best)) == best
    with pytest.raises(
        UserError, match=r"best.pyth: no such checkpoint; expected the folder of an experiment"
    ):
        find_checkpoint(tmp_path)
    with pytest.raises(UserError, match=r"nowhere: no such checkpoint; expected an experiment"):
        find_checkpoint("nowhere")


def test_documented_examples_run(
    models: list[Path], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "best.pyth").write_bytes((models[0] / "best.pyth").read_bytes())
    (tmp_path / "a.mp4").write_bytes((data / "Test/0.mp4").read_bytes())
    monkeypatch.chdir(tmp_path)
    for module in (load_module, results_module):
        failed, attempted = doctest.testmod(module)
        assert attempted > 0
        assert failed == 0


def test_an_empty_source_is_not_the_current_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="source is empty"):
        read_source("", 11)
    with pytest.raises(SystemExit) as stop:
        predict_command.parse(["", "--experiment", "a"])
    assert stop.value.code == 2
    assert "a source is empty" in capsys.readouterr().err


@pytest.mark.parametrize("frames", [None, "clip.mp4"])
def test_only_arrays_are_enhanced(frames: Any) -> None:
    with pytest.raises(TypeError, match="expected a uint8 array"):
        nightcrawler.enhance(frames)


@pytest.mark.parametrize("url", ["http://cam/a.mp4", "HTTPS://cam/a.mp4", "rtmp://cam/live"])
def test_an_address_that_is_not_read_says_what_is(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"^\w+://cam.* addresses are not read: .*rtsp://"):
        read_source(url, 2)
    with pytest.raises(SystemExit) as stopped:
        predict_command.main([url, "--experiment", "demo/uniformer_b32_k600"])
    assert stopped.value.code != 0
    assert "addresses are not read: give a file" in capsys.readouterr().err


def test_a_pipe_is_no_list(tmp_path: Path) -> None:
    """Opening it would wait for a writer."""
    os.mkfifo(tmp_path / "list.txt")
    with pytest.raises(UserError, match="not a regular file"):
        find_videos(tmp_path / "list.txt", 2)
