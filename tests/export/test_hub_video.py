"""Models of transformers as graphs: the same answers from torch.export and ONNX."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.export import formats
from nightcrawler.export.runtimes import open_onnx, open_pt2
from tests.export.made import FAMILIES
from tests.export.test_formats import NO_EXTRA, assert_agrees, built
from tests.models.tiny_hub import SETTINGS, overrides, save_folder

PLAIN = (
    "MODEL.DROP_PATH_RATE",
    "0",
    "MODEL.MOTION_STEM",
    "False",
    "ADAPT.ALLOW_NO_BATCHNORM",
    "True",
)


@pytest.mark.parametrize("family", SETTINGS)
def test_every_family_is_the_same_program_and_onnx_graph(family: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    folder = save_folder(family, tmp_path / "folder")
    trained = built(tmp_path, FAMILIES[0], *overrides(family, folder), *PLAIN)
    program = formats.trace(trained.graph, trained.frame_shape)
    formats.write_pt2(program, tmp_path / "a.pt2", trained.about())
    assert_agrees(open_pt2(tmp_path / "a.pt2"), trained)
    pytest.importorskip("onnxscript", reason=NO_EXTRA)
    pytest.importorskip("onnxruntime", reason=NO_EXTRA)
    formats.write_onnx(program, tmp_path / "a.onnx", trained.about())
    assert_agrees(open_onnx(tmp_path / "a.onnx"), trained)
