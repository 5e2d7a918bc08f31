"""Training on a GPU: the numbers of the CPU, precisions, layouts, and checkpoints across devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.pseudo.predictions import read_results
from tests import tiny
from tests.paths import ROOT

LATEST = "checkpoints/checkpoint_latest.pyth"


def train(data: Path, out: Path, device: str, *overrides: Any) -> list[float]:
    """Train two epochs and return the losses of their steps."""
    assert tiny.run_net("train", data, out, "DEVICE", device, *overrides) == 0
    return losses(out)


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in tiny.metrics(out, "train")]


def test_float32_trains_as_on_the_cpu(
    data: Path, on_cpu: Path, tmp_path: Path, device: str
) -> None:
    found = train(data, tmp_path / "run", device)
    assert found == pytest.approx(losses(on_cpu), rel=1e-4)
    top1 = [row["top1"] for row in tiny.metrics(tmp_path / "run", "val")]
    assert top1 == [row["top1"] for row in tiny.metrics(on_cpu, "val")]


def test_bfloat16_trains_like_float32(
    data: Path, on_cpu: Path, tmp_path: Path, device: str
) -> None:
    found = train(data, tmp_path / "run", device, "MODEL.PRECISION", "bf16")
    assert found == pytest.approx(losses(on_cpu), rel=0.05)


def test_float16_trains_like_float32(data: Path, on_cpu: Path, tmp_path: Path, cuda: str) -> None:
    found = train(data, tmp_path / "run", cuda, "MODEL.PRECISION", "fp16")
    assert found == pytest.approx(losses(on_cpu), rel=0.02)


def test_an_overflow_skips_a_step_and_lowers_the_scale(
    data: Path, tmp_path: Path, cuda: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(
        torch.amp,
        "GradScaler",
        lambda device, enabled: scaler(device, init_scale=2.0**40, enabled=enabled),
    )
    train(data, tmp_path / "run", cuda, "MODEL.PRECISION", "fp16", "SOLVER.MAX_EPOCH", 12)
    state = load_checkpoint(tmp_path / "run" / LATEST)
    assert state["scaler_state"]["scale"] < 2.0**40
    assert all(torch.isfinite(value).all() for value in state["model_state"].values())


@pytest.mark.parametrize(
    "overrides",
    [
        ("MODEL.CHANNELS_LAST", True),
        ("MODEL.USE_CHECKPOINT", True, "MODEL.CHECKPOINT_NUM", "[1, 1, 1, 1]"),
        ("DATA_LOADER.NUM_WORKERS", 2, "DATA_LOADER.PIN_MEMORY", False),
    ],
    ids=["channels last", "recomputed activations", "workers without pinned memory"],
)
def test_layout_memory_and_loading_change_no_loss(
    data: Path, on_cpu: Path, tmp_path: Path, device: str, overrides: tuple[Any, ...]
) -> None:
    found = train(data, tmp_path / "run", device, *overrides)
    assert found == pytest.approx(losses(on_cpu), rel=1e-3)


def test_augmentation_on_the_gpu_draws_what_workers_draw(
    data: Path, on_cpu: Path, tmp_path: Path, cuda: str
) -> None:
    found = train(data, tmp_path / "run", cuda, "AUG.DEVICE", "gpu")
    # Products of rotated pixels are rounded otherwise.
    assert found == pytest.approx(losses(on_cpu), rel=0.02)


@pytest.mark.slow
def test_a_compiled_model_trains_alike(
    data: Path, on_cpu: Path, tmp_path: Path, device: str
) -> None:
    found = train(data, tmp_path / "run", device, "MODEL.COMPILE", True)
    assert found == pytest.approx(losses(on_cpu), rel=1e-3)


def test_checkpoints_cross_devices(data: Path, on_cpu: Path, tmp_path: Path, device: str) -> None:
    """The second epoch on the CPU, from the checkpoint of the first."""
    out = tmp_path / "run"
    train(data, out, device)
    for name in (LATEST, f"{LATEST}.sha256", "DONE"):
        (out / name).unlink()
    found = train(data, out, "cpu")
    # Rows of the first time stay in the file.
    assert found[-2:] == pytest.approx(losses(on_cpu)[-2:], rel=1e-4)


def test_results_are_those_of_the_cpu(
    data: Path, on_cpu: Path, tmp_path: Path, device: str
) -> None:
    found = []
    for name in (device, "cpu"):
        out = tmp_path / name
        options = ("TEST.CHECKPOINT_FILE_PATH", on_cpu / "best.pyth", "TEST.DATA_SELECT", "arid")
        assert tiny.run_net("test", data, out, "DEVICE", name, *options) == 0
        (results,) = out.glob("*.npz")
        found.append(read_results(results))
    assert found[0].names == found[1].names
    assert abs(found[0].probs - found[1].probs).max() < 1e-4


def launched(ranks: int, data: Path, out: Path) -> list[float]:
    """Losses of training with NCCL in a launcher's processes."""
    arguments = tiny.arguments(data, out, "DEVICE", "cuda")[2:]
    command = ["bash", str(ROOT / "tools/launch.sh"), "train", str(ROOT / tiny.EXPERIMENT)]
    env = {**tiny.environment(NPROC=str(ranks), PYTHON=sys.executable)}
    env["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1")
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=env, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return losses(out)


@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks_with_nccl(data: Path, on_cpu: Path, tmp_path: Path, cuda: str, ranks: int) -> None:
    if torch.cuda.device_count() < ranks:
        pytest.skip(f"needs {ranks} CUDA devices")
    assert launched(ranks, data, tmp_path / "run") == pytest.approx(losses(on_cpu), rel=1e-3)
