"""The command line on each engine: a real training that is killed, its test and the vote; the bytes are the runner's."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests import tiny
from tests.waiting import wait_until
from tests.workflow import chain
from tests.workflow.test_run_pipeline import arguments, run_pipeline, videos
from tests.workflow.test_snakemake import needs_snakemake, run

__all__ = ["videos"]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RECIPE = """\
SET: {TRAIN.VAL_SPLITS: [val_dry, val_dark], SOLVER.MAX_EPOCH: 1, SOLVER.WARMUP_EPOCHS: 0.5}
MODELS: {one: {CONFIG: configs/models/uniformer_b32_k600.yaml}}
STAGES: {adapt: {CONFIG: configs/stages/adapt_bn.yaml}}
VOTE: {VIEWS: [[1, 1]], SPLIT: total_unlabel}
RESOURCES:
  TRAIN: {CPUS: 1, MEMORY_GB: 2}
"""


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, videos: Path) -> bytes:
    """Submission of the runner."""
    folder = tmp_path_factory.mktemp("runner")
    done = run_pipeline(*options(folder, videos))
    assert done.returncode == 0, done.stdout + done.stderr
    return submission(folder)


def options(folder: Path, videos: Path) -> list[str]:
    recipe, argv = arguments(folder, videos)
    recipe.write_text(RECIPE)
    return [str(recipe), *argv]


def submission(folder: Path) -> bytes:
    return (folder / "out/submission/arid_pred.csv").read_bytes()


def kill_training(folder: Path) -> None:
    """Kill the training in a folder as soon as it has begun its log, as a machine without memory does."""
    wait_until((folder / "out/adapt/one/train.log").exists, 600, "the training has begun")
    pattern = f"nightcrawler train .*{folder}/out"
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=True)
    os.kill(int(found.stdout.split()[0]), signal.SIGKILL)


@pytest.mark.parametrize("engine", ["local", "slurm", "ray"])
def test_jobs(
    tmp_path: Path, videos: Path, expected: bytes, engine: str, request: pytest.FixtureRequest
) -> None:
    if engine == "slurm":
        pytest.importorskip("submitit", reason="needs the extra slurm")
        request.getfixturevalue("real_slurm")
    elif engine == "ray":
        pytest.importorskip("ray", reason="needs the extra cluster")
    words = [*options(tmp_path, videos), "--executor", engine, "--jobs", "2"]
    with chain.in_thread(lambda: kill_training(tmp_path)):
        assert run_pipeline(*words).returncode == 1
    done = run_pipeline(*words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert submission(tmp_path) == expected


@needs_snakemake
def test_a_workflow_of_snakemake(
    tmp_path: Path, videos: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in tiny.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "Snakefile"
    words = options(tmp_path, videos)
    done = run_pipeline(*words, "--snakemake", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"next: snakemake --snakefile {path}" in done.stdout
    assert not (tmp_path / "out/adapt").exists()
    with chain.in_thread(lambda: kill_training(tmp_path)):
        assert run(path, code=1) == ["data"]
    assert run(path) == ["train_adapt_one", "test_adapt_one_total_unlabel", "vote"]
    assert submission(tmp_path) == expected
    again = run_pipeline(*words, "--dry-run")
    assert "4 tasks, 4 done, 0 to do" in again.stdout
