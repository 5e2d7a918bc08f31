"""A Python without the libraries: one line that tells how to go on, and `.venv` where there is one."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nightcrawler.cli import environment
from tests import tiny
from tests.paths import ROOT

# The interpreter that a virtual environment was made of. `-S` keeps its site-packages out.
BARE = Path(sys.base_prefix, "bin", f"python{sys.version_info[0]}.{sys.version_info[1]}")
needs_bare = pytest.mark.skipif(not BARE.exists(), reason="needs the interpreter of the system")


def run_bare(*argv: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    env = tiny.environment(PYTHONPATH="")
    env.pop("VIRTUAL_ENV", None)
    return subprocess.run(
        [str(BARE), "-S", *map(str, argv)],
        capture_output=True,
        text=True,
        env=env,
        cwd=cwd,
        timeout=60,
        check=False,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout without an environment."""
    root = tmp_path / "project"
    for name in ("tools", "nightcrawler/cli", "nightcrawler/utils", "gen_pseudo_tools"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=ignored)
    shutil.copy(ROOT / "nightcrawler/__init__.py", root / "nightcrawler")
    shutil.copy(ROOT / "nightcrawler/__main__.py", root / "nightcrawler")
    (root / "configs").mkdir()
    shutil.copy(ROOT / "configs/base.yaml", root / "configs")
    return root


@needs_bare
@pytest.mark.parametrize(
    "script",
    [
        "tools/predict.py",
        "tools/run_net.py",
        "tools/check_videos.py",
        "gen_pseudo_tools/generate_pseudo_label_stage1.py",
    ],
)
def test_a_python_without_libraries_is_one_line(script: str, project: Path, tmp_path: Path) -> None:
    done = run_bare(project / script, "--help", cwd=tmp_path)
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: this Python (")
    assert "lacks torch" in done.stderr
    assert "python -m pip install nightcrawler-video" in done.stderr


@needs_bare
def test_the_command_says_so_too_and_exits_with_2(project: Path) -> None:
    done = run_bare("-m", "nightcrawler", "predict", "--help", cwd=project)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "lacks torch" in done.stderr


@needs_bare
def test_doctor_runs_without_libraries(project: Path) -> None:
    done = run_bare("-m", "nightcrawler", "doctor", "--help", cwd=project)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: nightcrawler doctor")


@needs_bare
def test_scripts_find_the_environment_of_the_project(project: Path, tmp_path: Path) -> None:
    python = project / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "environment: $@"\nexit 7\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    done = run_bare(project / "tools/predict.py", "a b.mp4", "--top", "3", cwd=tmp_path)
    assert done.returncode == 7
    assert done.stdout == f"environment: {project / 'tools/predict.py'} a b.mp4 --top 3\n"
    assert done.stderr == ""


def test_advice_names_the_nearest_way(tmp_path: Path) -> None:
    assert "pip install nightcrawler-video" in environment.advice(tmp_path)
    (tmp_path / "Makefile").touch()
    assert environment.advice(tmp_path).startswith(f"run `make -C {tmp_path} install`")
    activate = tmp_path / ".venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.touch()
    assert environment.advice(tmp_path) == f"activate the environment with `source {activate}`"


def test_missing_libraries_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert environment.missing_library() == ""
    monkeypatch.setattr(environment, "REQUIRED", ("os", "no_such_module_a", "no_such_module_b"))
    shown = environment.missing_library()
    assert f"this Python ({sys.executable}) lacks no_such_module_a, no_such_module_b: " in shown
    assert os.linesep not in shown
