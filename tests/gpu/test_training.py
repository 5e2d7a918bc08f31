"""Training on a GPU: the numbers of the CPU, precisions, layouts, and checkpoints across devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.pseudo.predictions import read_results
from tests import tiny
from tests.paths import ROOT

LATEST = "checkpoints/checkpoint_latest.pyth"
# Without mixup, erasing and stochastic depth, with which losses do not fall to a small value.
LEARNING = (
    *("SOLVER.MAX_EPOCH", 25, "TRAIN.EVAL_PERIOD", 25, "SOLVER.BASE_LR", 1e-2),
    *("MIXUP.ENABLE", False, "AUG.AA_TYPE", "", "AUG.RE_PROB", 0.0, "MODEL.DROP_PATH_RATE", 0.0),
    *("AUG.SCALE", "[0.8, 1.0]", "ADAPT.NAME", "none"),
)


def train(data: Path, out: Path, device: str, *overrides: Any) -> list[float]:
    """Train two epochs and return the losses of their steps."""
    assert tiny.run_net("train", data, out, "DEVICE", device, *overrides) == 0
    return losses(out)


def losses(out: Path) -> list[float]:
    # Text where the first steps of an epoch were skipped, as float16 does until its scale fits.
    return [row["loss"] for row in tiny.metrics(out, "train") if isinstance(row["loss"], float)]


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


def test_float16_trains_like_float32(
    data: Path, on_cpu: Path, tmp_path: Path, device: str, half: str
) -> None:
    found = train(data, tmp_path / "run", device, "MODEL.PRECISION", half)
    state = load_checkpoint(tmp_path / "run" / LATEST)
    # Empty where no scaler is at work.
    assert state["scaler_state"]["scale"] >= 1
    assert found == pytest.approx(losses(on_cpu), rel=0.02)


def test_an_overflow_skips_a_step_and_lowers_the_scale(
    data: Path, tmp_path: Path, device: str, half: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(
        torch.amp,
        "GradScaler",
        lambda device, enabled: scaler(device, init_scale=2.0**28, enabled=enabled),
    )
    long = ("SOLVER.MAX_EPOCH", 12, "TRAIN.EVAL_PERIOD", 12)
    train(data, tmp_path / "run", device, "MODEL.PRECISION", half, *long)
    state = load_checkpoint(tmp_path / "run" / LATEST)
    assert state["scaler_state"]["scale"] < 2.0**28
    assert state["num_skipped"] > 0
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
    data: Path, on_cpu: Path, tmp_path: Path, device: str
) -> None:
    if device == "cpu":
        # The same frames and generators in the training process: bit for bit those of workers.
        found = train(data, tmp_path / "run", "auto", "AUG.DEVICE", "gpu")
        assert found == losses(on_cpu)
        return
    found = train(data, tmp_path / "run", device, "AUG.DEVICE", "gpu")
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
    # Rows of the first time would not be written again.
    (out / "metrics.jsonl").unlink()
    found = train(data, out, "cpu")
    assert found == pytest.approx(losses(on_cpu)[-2:], rel=1e-4)


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


def launched(ranks: int, data: Path, out: Path, device: str) -> list[float]:
    """Losses of training in a launcher's processes, which meet by NCCL on GPUs, by gloo on a CPU."""
    arguments = tiny.arguments(data, out, "DEVICE", device)[2:]
    command = ["bash", str(ROOT / "tools/launch.sh"), "train", str(ROOT / tiny.EXPERIMENT)]
    env = {**tiny.environment(NPROC=str(ranks), PYTHON=sys.executable)}
    if device == "cuda":
        env["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0,1")
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, env=env, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    return losses(out)


@pytest.mark.parametrize("ranks", [1, 2])
def test_ranks_with_nccl(data: Path, on_cpu: Path, tmp_path: Path, device: str, ranks: int) -> None:
    if device == "cuda" and torch.cuda.device_count() < ranks:
        pytest.skip(f"needs {ranks} CUDA devices")
    found = launched(ranks, data, tmp_path / "run", device)
    assert found == pytest.approx(losses(on_cpu), rel=1e-3)


@pytest.fixture(scope="session")
def learned(data: Path, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    """Losses of a float32 training on the CPU that is long enough to learn the tiny set."""
    return train(data, tmp_path_factory.mktemp("learned") / "run", "cpu", *LEARNING)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precisions_converge_as_float32_does(
    data: Path,
    learned: list[float],
    tmp_path: Path,
    device: str,
    precision: str,
    request: pytest.FixtureRequest,
) -> None:
    if precision == "fp16":
        precision = request.getfixturevalue("half")
    train(data, tmp_path / "run", device, "MODEL.PRECISION", precision, *LEARNING)
    before, after = mean(learned[:4]), mean(learned[-10:])
    assert after < 0.92 * before
    assert mean(losses(tmp_path / "run")[-10:]) == pytest.approx(after, abs=0.2 * (before - after))
