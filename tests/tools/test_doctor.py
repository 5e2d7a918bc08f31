"""`tools/doctor.py`: what is well, what is wrong and what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.predict import doctor_checks
from nightcrawler.utils import command_line, doctor
from tests import tiny


def run_doctor(*argv: str) -> int:
    return command_line.run(tiny.load_tool("doctor").main, list(argv))


@pytest.fixture(autouse=True)
def enough_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this machine has free is not what is tested."""
    monkeypatch.setattr(doctor, "MIN_FREE_GIB", 0.0)
    monkeypatch.setattr(doctor, "MIN_SHM_GIB", 0.0)


def test_all_is_well_here(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tiny.build_data(tmp_path / "data")
    assert run_doctor("--data", str(data)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "all is well"
    assert all(line.startswith("ok     ") for line in lines[:-1])
    for name in (
        "python",
        "libraries",
        "optional",
        "ffmpeg",
        "devices",
        "video",
        "model on cpu",
        "split test",
    ):
        assert sum(line.startswith(f"ok     {name}: ") for line in lines) == 1


def test_what_is_wrong_has_a_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "MIN_FREE_GIB", 1e9)
    monkeypatch.setattr(doctor, "MIN_SHM_GIB", 1e9)
    assert run_doctor("--json", "--data", str(tmp_path)) == 1
    content = json.loads(capsys.readouterr().out)
    wrong = {one["name"]: one for one in content["checks"] if not one["ok"]}
    assert content["ok"] is False
    assert {"disk", "shared memory", "split train", "split test"} <= set(wrong)
    assert "--shm-size" in wrong["shared memory"]["advice"]
    assert "no such list" in wrong["split test"]["found"]
    assert all(one["advice"] for one in wrong.values())


def test_a_split_whose_videos_are_lost(tmp_path: Path) -> None:
    data = tiny.build_data(tmp_path / "data")
    assert doctor_checks.check_split(data, "test").ok
    (data / "Test/1.mp4").unlink()
    lost = doctor_checks.check_split(data, "test")
    assert not lost.ok
    assert lost.found.endswith("2 of 3 videos are there, not '1.mp4'")


def test_an_old_or_absent_library(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"torch": "2.9.1+cpu", "av": None}
    real = doctor.installed
    monkeypatch.setattr(doctor, "installed", lambda name: versions.get(name, real(name)))
    found = doctor.check_libraries()
    assert not found.ok
    assert "torch 2.9.1+cpu" in found.found
    assert "av absent" in found.found
    assert found.advice.startswith("pip install 'torch>=")
    assert "'av>=" in found.advice


def test_a_decoder_that_gives_other_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor_checks.read_frames

    class Noise:
        def __init__(self, frames: np.ndarray) -> None:
            self.frames = 255 - frames

    assert doctor_checks.check_video().ok
    monkeypatch.setattr(doctor_checks, "read_frames", lambda *given: Noise(real(*given).frames))
    assert not doctor_checks.check_video().ok


def test_a_check_that_fails_itself_is_one_line() -> None:
    def broken() -> doctor.Check:
        raise RuntimeError("libsomething.so: cannot open\nshared object file")

    assert doctor.guarded("x", broken).found == "RuntimeError: libsomething.so: cannot open"


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    assert doctor.check_writable(folder).ok
    shutil.rmtree(folder)
    assert not doctor.check_writable(folder).ok


def test_requirements_of_a_checkout_that_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(doctor, "DISTRIBUTION", "nightcrawler-that-is-not-installed")
    found = {(one.name, one.extra): one.least for one in doctor.requirements()}
    assert found["torch", ""] >= "2.10"
    assert ("uvicorn", "web") in found
    assert doctor.check_libraries().ok
    monkeypatch.setattr(doctor, "PYPROJECT", tmp_path / "pyproject.toml")
    unknown = doctor.check_libraries()
    assert not unknown.ok
    assert unknown.advice == "pip install nightcrawler-that-is-not-installed"


def test_requirements_of_an_installed_distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [
        "torch>=2.10",
        'uvicorn>=0.40; extra == "web"',
        "mkdocstrings[python]>=0.27; extra == 'docs'",
        'nightcrawler-video[export,web]; extra == "dev"',
        "types-PyYAML",
    ]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: texts)
    assert [(one.name, one.least, one.extra) for one in doctor.requirements()] == [
        ("torch", "2.10", ""),
        ("uvicorn", "0.40", "web"),
        ("mkdocstrings", "0.27", "docs"),
        ("types-PyYAML", "0", ""),
    ]


def test_a_library_of_two_python_versions_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requirements of an estimator differ by the version of Python, its name does not."""
    twice = [doctor.Requirement("numpy", "2", "pose"), doctor.Requirement("numpy", "3", "pose")]
    monkeypatch.setattr(doctor, "requirements", lambda: twice)
    assert doctor.check_extras().found == f"[pose] numpy {np.__version__}"
