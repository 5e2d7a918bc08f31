"""The same answers whichever way Python starts processes: `fork`, `spawn`, and `forkserver`, the default of 3.14."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from nightcrawler.utils.io import sha256_file
from tests import tiny
from tests.paths import ROOT

METHODS = ("fork", "spawn", "forkserver")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_data(tmp_path_factory.mktemp("methods") / "data")


def run(folder: Path, method: str, tool: str, *argv: object) -> None:
    """Run a tool whose processes start in one way."""
    (folder / "sitecustomize.py").write_text(
        f"import multiprocessing\nmultiprocessing.set_start_method({method!r})\n"
    )
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / tool), *map(str, argv)],
        env=tiny.environment(PYTHONPATH=f"{folder}:{ROOT}"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("method", METHODS)
def test_an_audit_finds_the_files_to_be_whole(data: Path, tmp_path: Path, method: str) -> None:
    """Its workers end with their parent, which under forkserver is not the process of the command."""
    run(tmp_path, method, "check_videos.py", data, "--out", tmp_path / "audit", "--jobs", "2")
    (table,) = (tmp_path / "audit").glob("*.csv")
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["status"] for row in rows} == {"ok"}
    assert len(rows) > 10


def test_synthetic_clips_are_the_same_bytes(tmp_path: Path) -> None:
    # Of the default size: x264 alone encodes narrow pictures in more ways than one.
    counts = ("--train", "1", "--val", "1", "--unlabel", "1", "--arid", "1", "--test", "1")
    made = []
    for method in METHODS:
        out = tmp_path / method
        run(tmp_path, method, "make_synthetic.py", "--out", out, *counts, "--jobs", "2")
        videos = sorted(out.rglob("*.mp4"))
        made.append({str(path.relative_to(out)): sha256_file(path) for path in videos})
    assert made[0]
    assert made[0] == made[1] == made[2]


@pytest.mark.slow
def test_a_training_with_loader_processes_has_the_same_numbers(data: Path, tmp_path: Path) -> None:
    metrics = []
    for method in METHODS:
        out = tmp_path / method
        arguments = tiny.arguments(data, out, "DATA_LOADER.NUM_WORKERS", 2, "SOLVER.MAX_EPOCH", 1)
        run(tmp_path, method, "run_net.py", "train", *arguments)
        metrics.append(tiny.metrics(out))
    assert metrics[0] == metrics[1] == metrics[2]
