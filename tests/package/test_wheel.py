"""The wheel and the sdist, used as people do: a fresh environment, an empty folder.

Run by `make package`. The fresh environment sees the libraries of this one, so that torch is not
installed again; the package itself comes from the built file alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests import tiny
from tests.paths import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        "not config.getoption('--run-package')", reason="run by make package, in its own stage"
    ),
]


def run(*command: str | Path, cwd: Path, code: int = 0) -> str:
    """A command's output, both streams; its exit code is checked."""
    process = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=tiny.environment(PYTHONPATH=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert process.returncode == code, process.stdout
    return process.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="session")
def python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh environment with the wheel."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=True)
    found = folder / "bin/python"
    site = run(found, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    # A folder named in a .pth file is searched, but .pth files inside it (such as that of this
    # checkout's editable install) are not read.
    Path(site.strip(), "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (wheel,) = built.glob("*.whl")
    run(found, "-m", "pip", "install", "--no-deps", wheel, cwd=folder)
    # The setuptools of a fresh environment may be older than torch wants: leave this one's.
    run(found, "-m", "pip", "uninstall", "--yes", "setuptools", cwd=folder)
    return found


@pytest.fixture(scope="session")
def project(python: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project laid out by `nightcrawler init` in an empty folder, with a few synthetic clips."""
    folder = tmp_path_factory.mktemp("empty")
    command = python.parent / "nightcrawler"
    said = run(command, "init", "mine", cwd=folder)
    num_files = sum(path.is_file() for path in (folder / "mine").rglob("*"))
    assert f"{num_files} files, {num_files} written" in said
    few = ("--train", 2, "--val", 1, "--unlabel", 1, "--arid", 1, "--test", 1)
    run(command, "synthetic", "--out", "data/synthetic", *map(str, few), cwd=folder / "mine")
    return folder / "mine"


def test_the_package_is_that_of_the_wheel(python: Path, tmp_path: Path) -> None:
    found = run(python, "-c", "import nightcrawler; print(nightcrawler.__file__)", cwd=tmp_path)
    assert Path(found.strip()).is_relative_to(python.parents[1])
    run(python, "-m", "pip", "check", cwd=tmp_path)


def test_doctor(python: Path, tmp_path: Path) -> None:
    found = json.loads(run(python.parent / "nightcrawler", "doctor", "--json", cwd=tmp_path))
    assert found["ok"], found


def test_predict_with_the_packaged_weights(python: Path, project: Path, tmp_path: Path) -> None:
    clip = next((project / "data/synthetic/Test").glob("*.mp4"))
    out = tmp_path / "out.json"
    run(python.parent / "nightcrawler", "predict", clip, "--json", out, cwd=tmp_path)
    (answer,) = json.loads(out.read_text())["videos"]
    assert answer["top"]


def test_two_epochs_and_a_report(python: Path, project: Path) -> None:
    command = python.parent / "nightcrawler"
    pipeline = ["pipeline", "configs/pipeline/demo.yaml", "--out", "runs/two"]
    only = ["--only", "exp_adapt_bn/uniformer_b32_k600", "SOLVER.MAX_EPOCH", "2"]
    run(command, *pipeline, *only, cwd=project)
    assert (project / "runs/two/exp_adapt_bn/uniformer_b32_k600/best.pyth").is_file()
    run(command, "report", "runs/two", cwd=project)
    assert (project / "runs/two/report.html").stat().st_size > 10_000


def test_scripts_of_a_laid_out_project(python: Path, project: Path) -> None:
    shown = run(python, "tools/run_net.py", "--help", cwd=project)
    assert "examples:" in shown
    again = run(python.parent / "nightcrawler", "init", ".", cwd=project)
    assert ", 0 written, " in again


def test_nothing_is_replaced(python: Path, project: Path, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    mine = tmp_path / "configs/base.yaml"
    mine.write_text("mine\n")
    said = run(python.parent / "nightcrawler", "init", tmp_path, cwd=project, code=2)
    assert f"error: {mine}: exists and differs" in said
    assert mine.read_text() == "mine\n"
    assert [path.name for path in tmp_path.iterdir()] == ["configs"]


def test_the_sdist_holds_what_its_tests_need(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    names = set(run("tar", "tzf", sdist, cwd=built).splitlines())
    top = sdist.name.removesuffix(".tar.gz")
    tracked = run("git", "ls-files", cwd=ROOT).splitlines()
    missing = [name for name in tracked if f"{top}/{name}" not in names]
    assert [name for name in missing if not name.startswith((".", "exp_"))] == []
