"""GPUs are counted by torch: not by lines of a program that also lists hidden ones, parts and complaints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nightcrawler.utils.gpus import count_gpus, visible_gpus
from tests.paths import ROOT

FOUR = "\n".join(f"GPU {number}: A100 (UUID: GPU-{number})" for number in range(4))
MIG = "GPU 0: A100 (UUID: GPU-x)\n  MIG 3g.20gb Device 0: (UUID: MIG-a)\n  MIG 3g.20gb Device 1: (UUID: MIG-b)"
BROKEN = "NVIDIA-SMI has failed because it couldn't communicate with the driver.\nMake sure that it runs."
# In place of torch: names in CUDA_VISIBLE_DEVICES up to the first that is none of its GPUs.
TORCH = """
import os, types
def device_count():
    gpus = os.environ["GPUS"].split()
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return len(gpus)
    found = 0
    for name in chosen.split(","):
        if name not in gpus:
            break
        found += 1
    return found
cuda = types.SimpleNamespace(device_count=device_count)
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of programs and of a package that stand for `nvidia-smi` and torch."""
    (tmp_path / "torch.py").write_text(TORCH)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path


def has(machine: Path, listed: str, gpus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = machine / "nvidia-smi"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{listed}\nEND\n")
    program.chmod(0o755)
    monkeypatch.setenv("GPUS", gpus)


CASES = [
    (FOUR, "0 1 2 3", None, ["0", "1", "2", "3"]),
    (FOUR, "0 1 2 3", "2", ["2"]),
    (FOUR, "0 1 2 3", "0,1", ["0", "1"]),
    (FOUR, "0 1 2 3", "3,0", ["3", "0"]),
    (FOUR, "0 1 2 3", "1,7,2", ["1"]),
    (FOUR, "0 1 2 3", "", []),
    (FOUR, "0 1 2 3", "-1", []),
    (MIG, "MIG-a", "MIG-a", ["MIG-a"]),
    (MIG, "0", None, ["0"]),
    (BROKEN, "", None, []),
    ("No devices were found", "", None, []),
]


@pytest.mark.parametrize(("listed", "gpus", "chosen", "wanted"), CASES)
def test_one_for_each_gpu_that_torch_sees(
    machine: Path,
    monkeypatch: pytest.MonkeyPatch,
    listed: str,
    gpus: str,
    chosen: str | None,
    wanted: list[str],
) -> None:
    has(machine, listed, gpus, monkeypatch)
    if chosen is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus() == wanted
    # launch.sh starts as many processes, and one on a machine without GPUs.
    shown = subprocess.run(
        ["bash", "-x", str(ROOT / "tools/launch.sh"), "train", "none"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    ).stderr
    assert f"+ nproc={max(len(wanted), 1)}\n" in shown


def test_a_machine_without_a_driver_does_not_wait_for_torch(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(machine))
    monkeypatch.setattr("nightcrawler.utils.gpus.DEVICES", ())
    monkeypatch.setattr("nightcrawler.utils.gpus.COUNT", "print(8)")
    assert count_gpus() == 0


def test_a_torch_that_cannot_be_imported_counts_none(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has(machine, FOUR, "0 1 2 3", monkeypatch)
    (machine / "torch.py").write_text("raise ImportError('libcudart')")
    assert count_gpus() == 0
