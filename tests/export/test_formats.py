"""Each family through each format, for any number of clips; what files say of themselves."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nightcrawler.cli import export
from nightcrawler.config.portable import portable_text
from nightcrawler.export import formats
from nightcrawler.export.runtimes import Run, open_onnx, open_pt2, run_module
from nightcrawler.export.trained import Trained, build_trained
from nightcrawler.models.formats import read_weights
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.utils.command_line import run
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.export.made import FAMILIES, write_checkpoint

NO_EXTRA = "needs the extra: pip install 'nightcrawler-video[export]'"


def built(folder: Path, model_name: str = FAMILIES[0], *overrides: str) -> Trained:
    return build_trained(
        write_checkpoint(folder, model_name, *overrides), PredictOptions(root=folder)
    )


# Sizes of frames that stand for any; the last is scaled down (`DECODE_SHORT_SIDE` 72).
SIZES = ((36, 48), (32, 32), (120, 90))


def clips(trained: Trained, count: int) -> np.ndarray:
    """Dark noise; another size for each count where the graph takes any."""
    length, *size, colors = trained.frame_shape
    if None in size:
        size = list(SIZES[count % len(SIZES)])
    return np.random.default_rng(count).integers(0, 90, (count, length, *size, colors), np.uint8)


def assert_agrees(run: Run, trained: Trained) -> None:
    """For one clip, the number that was traced, and another; each clip by itself."""
    reference = run_module(trained.graph)
    for count in (1, 2, 3):
        frames = clips(trained, count)
        found, expected = run(frames), reference(frames)
        assert found.shape == (count, len(trained.class_names))
        assert np.ptp(expected, axis=1).min() > 0.01  # not merely equal because all classes are
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("model_name", FAMILIES)
def test_every_family_is_the_same_program_and_onnx_graph(model_name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript", reason=NO_EXTRA)
    onnx = pytest.importorskip("onnx", reason=NO_EXTRA)
    pytest.importorskip("onnxruntime", reason=NO_EXTRA)
    trained = built(tmp_path, model_name)
    program = formats.trace(trained.graph, trained.frame_shape)
    formats.write_pt2(program, tmp_path / "a.pt2", trained.about())
    formats.write_onnx(program, tmp_path / "a.onnx", trained.about())
    assert_agrees(open_pt2(tmp_path / "a.pt2"), trained)
    assert_agrees(open_onnx(tmp_path / "a.onnx"), trained)
    model = onnx.load(tmp_path / "a.onnx")
    assert [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")] == [
        formats.OPSET
    ]
    said = {one.key: one.value for one in model.metadata_props}
    assert json.loads(said["class_names"]) == list(trained.class_names)
    assert said["labels"] == "label-free"
    free = [
        [dim.dim_param for dim in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert free == [["batch", "", "height", "width", ""], ["batch", ""]]
    assert json.loads(said["frame_shape"]) == [4, None, None, 3]


@pytest.mark.parametrize("name", ["timm/resnet18", "torchvision/r3d_18", "resnet3d"])
def test_neighbours_are_the_same_program(name: str, tmp_path: Path) -> None:
    small = ("RESNET.WIDTH_PER_GROUP", "8", "ADAPT.ALLOW_NO_BATCHNORM", "True")
    trained = built(tmp_path, FAMILIES[2], "MODEL.NAME", name, *small)
    formats.write_pt2(formats.trace(trained.graph, trained.frame_shape), tmp_path / "a.pt2", {})
    assert_agrees(open_pt2(tmp_path / "a.pt2"), trained)


def test_without_the_motion_stem_and_with_frames_of_a_camera(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, FAMILIES[1], "MODEL.MOTION_STEM", "False")
    trained = build_trained(path, PredictOptions(root=tmp_path), (36, 48))
    assert trained.frame_shape == (4, 36, 48, 3)
    formats.write_pt2(formats.trace(trained.graph, trained.frame_shape), tmp_path / "a.pt2", {})
    assert_agrees(open_pt2(tmp_path / "a.pt2"), trained)


def test_int8_is_smaller_and_near(tmp_path: Path) -> None:
    for name in ("onnxscript", "onnx", "onnxruntime"):
        pytest.importorskip(name, reason=NO_EXTRA)
    import onnx

    trained = built(tmp_path, FAMILIES[1])
    formats.write_onnx(
        formats.trace(trained.graph, trained.frame_shape), tmp_path / "a.onnx", trained.about()
    )
    formats.write_int8(tmp_path / "a.onnx", tmp_path / "a.int8.onnx")
    sizes = [(tmp_path / name).stat().st_size for name in ("a.int8.onnx", "a.onnx")]
    assert sizes[0] < 0.6 * sizes[1]
    used = {node.op_type for node in onnx.load(tmp_path / "a.int8.onnx").graph.node}
    assert "MatMulInteger" in used
    assert "ConvInteger" not in used
    frames = clips(trained, 3)
    found, expected = open_onnx(tmp_path / "a.int8.onnx")(frames), run_module(trained.graph)(frames)
    assert 0 < np.abs(found - expected).max() < 0.1


def test_safetensors_is_read_back_as_a_checkpoint(tmp_path: Path) -> None:
    trained = built(tmp_path)
    texts = trained.about()
    formats.write_safetensors(trained.state, tmp_path / "a.safetensors", texts)
    file, source = read_weights(tmp_path / "a.safetensors"), read_weights(tmp_path / "best.pyth")
    assert tiny.differences(file.state, source.state) == []
    assert file.config_text == portable_text(source.config_text, source.path) != ""
    for name in ("class_names", "config_hash", "labels"):
        assert getattr(file, name) == getattr(source, name) != ""
    again = build_trained(tmp_path / "a.safetensors", PredictOptions(root=tmp_path))
    frames = clips(trained, 1)
    assert np.array_equal(run_module(again.graph)(frames), run_module(trained.graph)(frames))


def test_a_missing_extra_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("onnxscript", "onnxruntime", "onnxruntime.quantization"):
        monkeypatch.setitem(sys.modules, name, None)
    program = torch.export.export(torch.nn.Identity(), (torch.zeros(1),))
    for call in (
        lambda: formats.write_onnx(program, tmp_path / "a.onnx", {}),
        lambda: formats.write_int8(tmp_path / "a.onnx", tmp_path / "b.onnx"),
        lambda: open_onnx(tmp_path / "a.onnx"),
    ):
        hint = r"needs the extra export: python -m pip install 'nightcrawler-video\[export\]'"
        with pytest.raises(UserError, match=hint):
            call()
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_where_an_extra_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    argv = ["demo/uniformer_b32_k600", "--out", str(tmp_path / "out")]
    assert run(export.main, argv) == 2
    assert "or leave it out: --formats pt2 safetensors" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
