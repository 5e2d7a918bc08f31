"""Run on a CUDA device. `--rehearse-gpu` runs the same tests on the CPU, to keep them in working order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from nightcrawler.engine import build
from tests import tiny


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """The device under test, `cuda` or in a rehearsal `cpu`."""
    if torch.cuda.is_available():
        return "cuda"
    if request.config.getoption("--rehearse-gpu"):
        return "cpu"
    pytest.skip("needs a CUDA device (--rehearse-gpu runs these tests on the CPU)")


@pytest.fixture(scope="session")
def cuda(device: str) -> str:
    """The same, for what a CPU cannot rehearse."""
    if device == "cpu":
        pytest.skip("no rehearsal on the CPU: compute capability and decoders of a GPU need one")
    return device


@pytest.fixture
def half(device: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The precision that computes in float16, with loss scaling.

    A CPU refuses fp16, as most of its kernels lack it; those of the tiny model are there. In a rehearsal `bf16` is
    therefore float16: the same scaler, autocast and steps as on a GPU.
    """
    if device == "cuda":
        return "fp16"
    monkeypatch.setitem(build.PRECISIONS, "bf16", torch.float16)
    return "bf16"


@pytest.fixture(autouse=True)
def exact_float32() -> Iterator[None]:
    """Products of matrices in float32, not TF32, so that both devices can be compared."""
    kept = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data folder that no test may change."""
    return tiny.build_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def on_cpu(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two epochs of training on the CPU, in float32; read only."""
    out = tmp_path_factory.mktemp("cpu") / "run"
    assert tiny.run_net("train", data, out, "DEVICE", "cpu") == 0
    return out
