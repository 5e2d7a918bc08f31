"""`python -m benchmarks gpu`: a rehearsal on the CPU, no GPU in one line, and hours worked out by hand."""

from __future__ import annotations

import re

import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import gpu, gpu_hours
from nightcrawler.config.load import load_experiment
from nightcrawler.utils import command_line
from tests.paths import ROOT


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_models_of_the_command_are_those_of_the_benchmark() -> None:
    assert gpu.MODELS == command.GPU_MODELS


def test_a_rehearsal_measures_a_model_and_says_that_it_is_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    name = "uniformer_b32_k600"
    words = ["gpu", "--device", "cpu", "--tiny", "--batch", "2", "--repeats", "1", "--only", name]
    assert command.main([*words, "--workers", "0"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("no GPU: a rehearsal on the CPU, whose figures say nothing about one")
    kinds = re.findall(r"^  (test|training) +(fp32|bf16) (contiguous|channels last)", shown, re.M)
    assert len(set(kinds)) == 8
    rates = re.findall(r"(\S+) clips/s", shown)
    waiting = re.search(rf"^{name}: training with 0 workers: \S+ clips/s, waits for", shown, re.M)
    assert waiting
    assert len(rates) == 9
    assert all(float(rate) > 0 for rate in rates)


def test_a_machine_without_a_gpu_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert command_line.run(command.main, ["gpu"]) == 2
    said = capsys.readouterr().err
    assert said == (
        "error: --device cuda: this machine has no CUDA device: --device cpu --tiny rehearses\n"
    )


def test_forward_passes_are_those_worked_out_by_hand() -> None:
    """The first stage of UniFormer: 92 steps of 32 videos in 2 copies, and one test of all dark clips."""
    cfg = load_experiment("exp_adapt_bn/uniformer_b32_k600/config.yaml")
    training = 20 * 92 * 32 * 2 * 3
    # 200 batches of dark clips for the statistics, and three splits.
    after_each_epoch = 6400 + 330 + 330 + 6207
    assert gpu_hours.forward_passes_of(cfg) == training + 20 * after_each_epoch + 9295
    # A round takes as many steps on bright clips as on all dark ones.
    cfg = load_experiment("exp_pseudo_stage1/uniformer_b32_k600/config.yaml")
    assert cfg.SOLVER.MAX_EPOCH == 20
    training = 20 * 290 * 32 * 2 * 3 * 2
    assert gpu_hours.forward_passes_of(cfg) == training + 20 * after_each_epoch + 9295
    # The last one is tested with three views of three crops.
    cfg = load_experiment("exp_pseudo_stage4/uniformer_b32_k600/config.yaml")
    assert gpu_hours.forward_passes_of(cfg) == training + 20 * after_each_epoch + 9 * 3103


def test_hours_and_memory_follow_from_the_counts() -> None:
    cost = gpu_hours.Cost(gmacs=250.0, clip_gib=2.0, fixed_gib=1.0)
    # 500 GFLOP a clip: 10 TFLOP/s are 20 clips a second.
    assert gpu_hours.hours_of(cost, 72_000, 10.0) == pytest.approx(1.0)
    assert cost.memory_gib(16) == 33.0
    # 21.6 GiB of 24 are used: 10 clips of 2 GiB beside 1.
    assert cost.largest(24) == 10
    assert gpu_hours.Cost(1.0, 30.0, 1.0).largest(24) == 0


@pytest.mark.slow
def test_the_page_has_the_rows_that_the_command_prints() -> None:
    page = (ROOT / "docs/one_evening.md").read_text(encoding="utf-8")
    rows = list(gpu_hours.estimate(["sf32_k700"], 100.0))
    assert len(rows) == 4
    for row in rows:
        assert row in page
