"""Export of a model that was trained on a GPU: files and answers of the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.utils import command_line
from tests import tiny


def test_a_model_of_a_gpu_is_exported_and_checked(data: Path, tmp_path: Path, device: str) -> None:
    for name in ("onnxscript", "onnx", "onnxruntime"):
        pytest.importorskip(name, reason="needs the extra `export`")
    assert tiny.run_net("train", data, tmp_path / "run", "DEVICE", device) == 0
    clips = sorted((data / "Test").rglob("*.mp4"))[:2]
    options = ["--out", tmp_path / "out", "--threads", 1, "--check", *clips]
    arguments = [str(item) for item in (tmp_path / "run", *options)]
    assert command_line.run(tiny.load_tool("export").main, arguments) == 0
    assert list((tmp_path / "out").glob("*.onnx"))
