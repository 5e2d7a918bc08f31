"""`.ci/run` installs by the lock where it fits, and tests that fail are run once more, alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT

REST = ["snakemake", "audit", "package", "docs", "test-twice"]
MISMATCH = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."
MISSING = "ERROR: No matching distribution found for torch==0"


def stub(path: Path, text: str) -> None:
    path.write_text(f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("fits", "locked", "targets", "code"),
    [
        (0, "exit 0", ["install-locked", *REST], 0),
        (0, f"echo '{MISMATCH}' >&2; exit 1", ["install-locked"], 1),
        (0, f"echo '{MISSING}' >&2; exit 1", ["install-locked", "install", *REST], 0),
        (1, "exit 0", ["install", *REST], 0),
    ],
    ids=["fits", "other bytes", "not to be had", "another platform"],
)
def test_which_packages_are_installed(
    tmp_path: Path, fits: int, locked: str, targets: list[str], code: int
) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci/run", tmp_path / ".ci/run")
    stub(tmp_path / ".ci/install_packages.sh", "")
    stub(tmp_path / "python", f"exit {fits}")
    stub(tmp_path / "make", f'echo "$1" >> made; if [ "$1" = install-locked ]; then {locked}; fi')
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHON": str(tmp_path / "python")}
    done = subprocess.run(
        ["bash", ".ci/run"], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert done.returncode == code
    assert (tmp_path / "made").read_text().split() == targets


@pytest.mark.parametrize(
    ("codes", "runs", "passes"),
    [([0], 1, True), ([1, 0], 2, True), ([1, 1], 2, False), ([2, 0], 1, False), ([5], 1, False)],
    ids=["passed", "passed alone", "failed twice", "interrupted", "no tests"],
)
def test_failed_tests_are_run_once_more(
    tmp_path: Path, codes: list[int], runs: int, passes: bool
) -> None:
    tools = tmp_path / ".venv/bin"
    tools.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", tmp_path)
    # The environment is newer than what it was made of.
    for name in ("pyproject.toml", "setup.py", ".venv/.installed"):
        (tmp_path / name).touch()
    for name in ("ruff", "mypy", "lint-imports"):
        stub(tools / name, "")
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    # Each call takes the next code; the measure of readability passes.
    stub(
        tools / "python",
        '[ "$2" = pytest ] || exit 0\necho "$@" >> said\n'
        "code=$(head -n 1 codes); sed -i 1d codes; exit $code",
    )
    done = subprocess.run(["make", "test-twice"], cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode == 0) == passes
    said = (tmp_path / "said").read_text().splitlines()
    assert len(said) == runs
    assert said[0].startswith("-m pytest -n 2 ")
    assert all("--last-failed" in call for call in said[1:])
