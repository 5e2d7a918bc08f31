"""An exported ONNX file predicts as its checkpoint does, and says what it cannot do."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nightcrawler
from nightcrawler.cli import export
from nightcrawler.cli.predict import main as predict_main
from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.calibrate import read_judge
from nightcrawler.predict.checkpoints import PredictOptions, find_checkpoint
from nightcrawler.predict.ensemble import Ensemble, build_ensemble
from nightcrawler.predict.exported import build_any_predictor
from nightcrawler.predict.long_video import predict_long_video
from nightcrawler.pseudo.predictions import Predictions
from nightcrawler.utils.command_line import run
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import sha256_file
from tests.export.made import write_checkpoint
from tests.export.test_parity import write_video

SIZES = ((96, 128), (128, 96), (60, 90))
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("onnxscript", "onnx", "onnxruntime"):
        pytest.importorskip(
            name, reason="needs the extra: pip install 'nightcrawler-video[export]'"
        )
    path = write_checkpoint(tmp_path_factory.mktemp("exp") / "night")
    out = path.parent / "export"
    argv = [str(path), "--formats", "onnx", "--int8", "--out", str(out)]
    assert run(export.main, argv) == 0
    return path


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Path:
    return checkpoint.parent / "export/model.onnx"


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[VideoItem]:
    folder = tmp_path_factory.mktemp("videos")
    found = []
    for number, (height, width) in enumerate(SIZES, start=1):
        path = folder / f"{height}x{width}.mp4"
        write_video(path, height, width)
        found.append(VideoItem(path.name, -1, path, number))
    return found


def ensemble_of(path: Path, **options: Any) -> Ensemble:
    return build_ensemble([path], None, Path(), replace(PredictOptions(device="cpu"), **options))


def probs_of(model: Ensemble, items: Sequence[VideoItem]) -> np.ndarray:
    return np.array([result.probs for result in model.videos(items)])


@pytest.mark.parametrize("views", [1, 3])
def test_answers_are_those_of_the_checkpoint(
    checkpoint: Path, exported: Path, items: list[VideoItem], views: int
) -> None:
    trained, graph = (ensemble_of(path, pair=(views, 1)) for path in (checkpoint, exported))
    assert graph.class_names == trained.class_names
    expected = probs_of(trained, items)
    assert np.abs(probs_of(graph, items) - expected).max() <= TOLERANCE
    assert expected.std(axis=0).max() > 100 * TOLERANCE, "the videos differ"
    if views == 1:
        for model in (trained, graph):
            result, _ = predict_long_video(model, items[0], 0.5, 0.25)
            assert result.ok
            assert len(result.segments) >= 1
        first, second = (
            predict_long_video(one, items[0], 0.5, 0.25)[0] for one in (trained, graph)
        )
        np.testing.assert_allclose(first.probs, second.probs, atol=TOLERANCE)
        assert [one.status for one in trained.videos(items)] == [
            one.status for one in graph.videos(items)
        ]


def test_the_public_api_and_the_command_take_it(
    exported: Path, items: list[VideoItem], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor = nightcrawler.load(exported, device="cpu")
    [result] = predictor.predict(items[0].path)
    argv = [str(items[0].path), "--model", str(exported), "--annotate", str(tmp_path / "shown")]
    assert run(predict_main, argv) == 0
    assert f"{items[0].name}  {result.classes[0]} {result.probs[result.class_id]:.3f}" in (
        capsys.readouterr().out
    )
    assert (tmp_path / f"shown/{items[0].name}.annotated.mp4").is_file()


@pytest.fixture(scope="module")
def judged(
    checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, items: list[VideoItem]
) -> Path:
    """A checkpoint with results of `val_dark`, whose threshold lies among the answers, exported."""
    folder = tmp_path_factory.mktemp("judged") / "night"
    folder.mkdir()
    path = Path(shutil.copy(checkpoint, folder))
    confidences = np.sort(probs_of(ensemble_of(path), items).max(axis=1))
    # The known clips that are more probable than the least sure answer are right, all others wrong.
    between = float(confidences[:2].mean())
    clips = np.concatenate([np.full(30, between), np.full(30, 0.9 * between)])
    names = ensemble_of(path).class_names
    probs = np.repeat((1 - clips)[:, None] / (len(names) - 1), len(names), axis=1)
    probs[np.arange(60), np.repeat([0, 1], 30)] = clips
    meta = {"checkpoint_sha256": sha256_file(path), "class_names": list(names)}
    Predictions(
        np.log(probs).astype(np.float32), probs.astype(np.float32), np.zeros(60, np.int64),
        [f"{row}.mp4" for row in range(60)], np.ones(60, np.int64), ["ok"] * 60, meta,
    ).save(folder / "val_darkx4x32x1x1.npz")  # fmt: skip
    argv = [str(path), "--formats", "onnx", "safetensors", "--out", str(folder / "out")]
    assert run(export.main, argv) == 0
    return path


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors"])
def test_statuses_are_those_of_the_checkpoint(
    judged: Path, items: list[VideoItem], name: str
) -> None:
    alone = judged.parent / "out" / name
    trained, carried = ensemble_of(judged), ensemble_of(alone)
    about = trained.judge.about()
    assert 0 < about["sure_from"] < 1
    told = carried.about()["judge"]
    assert told == {**about, "sure_from": pytest.approx(about["sure_from"], abs=1e-6)}
    bright_free = [replace(one, judge=replace(one.judge, dark=False)) for one in (trained, carried)]
    statuses = [[found.status for found in model.videos(items)] for model in bright_free]
    assert statuses[0] == statuses[1]
    assert set(statuses[0]) == {"sure", "unsure"}
    # By the lead over the second class, they would be others.
    assert ensemble_of(alone, pair=(3, 1)).about()["judge"]["sure_from"] is None
    [single] = carried.predictors
    assert [found.status for found in single.videos(items[:1])]
    assert single.judge == carried.judge
    card = (alone.parent / "MODEL_CARD.md").read_text()
    assert f"1x1 (views x crops): {about['sure_from']:.3g} ({about['basis']})" in card


def test_models_that_are_never_sure_are_so_exported(tmp_path: Path) -> None:
    argv = ["demo/uniformer_b32_k600", "--formats", "safetensors", "--out", str(tmp_path)]
    assert run(export.main, argv) == 0
    found = ensemble_of(tmp_path / "model.safetensors", dark=False)
    expected = build_ensemble(
        ["demo/uniformer_b32_k600"], None, Path(), PredictOptions(device="cpu", dark=False)
    )
    assert found.judge == expected.judge
    assert found.judge.threshold == math.inf


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"1x1": 3}', '{"1x1": {"sure_from": "x", "basis": ""}}', '{"any": {}}']
)
def test_judges_that_are_none(text: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected what `nightcrawler export` writes"):
        read_judge(tmp_path / "model.onnx", text, (1, 1), dark=True)


def test_an_int8_file_predicts_too(exported: Path, items: list[VideoItem]) -> None:
    found = probs_of(ensemble_of(exported.with_name("model.int8.onnx")), items)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adapter": "batchnorm"}, "an exported model cannot be adapted"),
        ({"dark": False}, "the enhancement is part of the graph"),
        ({"pair": (1, 3)}, "the centre crop only: give --crops 1"),
    ],
)
def test_options_that_a_graph_cannot_follow(
    exported: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=said) as caught:
        ensemble_of(exported, **options)
    assert str(caught.value).startswith(f"{exported}: ")
    assert "\n" not in str(caught.value)


def test_the_folder_of_an_export_names_its_file(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").symlink_to(exported)
    with pytest.raises(UserError, match=r"name the exported file: .*model\.onnx"):
        find_checkpoint(tmp_path)


def test_files_that_are_none_of_ours(exported: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(exported)
    faults: dict[str, str] = {}
    (tmp_path / "text.onnx").write_text("no model")
    faults["text.onnx"] = "not an ONNX file that can be run"
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:5000])
    faults["cut.onnx"] = "not an ONNX file that can be run"
    kept = [entry for entry in model.metadata_props if entry.key == "cfg"]
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "old.onnx")
    faults["old.onnx"] = "holds no configuration"
    model.metadata_props.extend(kept)
    onnx.save(model, tmp_path / "shapeless.onnx")
    faults["shapeless.onnx"] = "its frame_shape is None, expected clips of 4 frames"
    for name, said in faults.items():
        with pytest.raises(UserError, match=said) as caught:
            build_any_predictor(tmp_path / name, "x", None, PredictOptions(device="cpu"))
        assert "\n" not in str(caught.value)
