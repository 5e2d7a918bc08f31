"""Last lines of a report: accuracy from step to step, and commands that use the models."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest

from nightcrawler.cli import predict, serve
from nightcrawler.report.closing import closing_lines
from nightcrawler.report.run_folder import RunFolder
from tests.report.made_run import CLASSES, MODELS, Made, make

STORY = {
    "split": "test",
    "stamp": {"clips": 440},
    "steps": [
        {"name": "raw", "accuracy": {"percent": 11.54}},
        {"name": "adapted", "accuracy": {"percent": None}},
        {"name": "vote", "accuracy": {"percent": 75.68}},
    ],
}
NO_STORY = {"story": None, "chance": 50.0}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A current folder with `nightcrawler` on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    return tmp_path


def commands(folder: Path, root: Path) -> list[str]:
    return [line.strip() for line in closing_lines(NO_STORY, RunFolder(folder, root))][1:]


def test_the_way_of_accuracy_and_commands_of_the_models_that_voted(run: Path, here: Path) -> None:
    place = shutil.copytree(run, here / "a run")
    recipe = "'a run/submission/recipe.yaml' --prefix 'a run'"
    figures = {"story": STORY, "chance": 9.09}
    assert list(closing_lines(figures, RunFolder(place, here))) == [
        "top-1 in % on 440 clips of test, chance 9.1:",
        "  raw 11.5 -> adapted ? -> vote 75.7",
        "use the models of this run:",
        f"  nightcrawler predict night.mp4 --ensemble {recipe}",
        f"  nightcrawler serve --ensemble {recipe}",
        "  nightcrawler export 'a run/round2/_two' --out exported",
    ]


def test_the_commands_are_understood(run: Path, here: Path) -> None:
    place = shutil.copytree(run, here / "run")
    for line, parse in zip(commands(place, here), (predict.parse, serve.parse), strict=False):
        arguments = parse(shlex.split(line)[2:])
        assert arguments.ensemble.is_file()
        assert arguments.prefix.is_dir()


def test_without_a_vote_the_models_of_the_last_stage_are_named(data: Path, here: Path) -> None:
    place = make(Made(here / "run", data, CLASSES, MODELS, open_tasks=["vote", "train/round2"]))
    experiments = " ".join(f"--experiment run/round1/{model}" for model in MODELS)
    assert commands(place, here)[0] == f"nightcrawler predict night.mp4 {experiments}"


def test_nothing_is_said_of_what_is_not_known(data: Path, here: Path) -> None:
    place = make(Made(here / "run", data, CLASSES, MODELS, open_tasks=[""]))
    assert list(closing_lines(NO_STORY, RunFolder(place, here))) == []


def test_a_clip_of_the_checkout_and_a_program_that_is_not_on_the_path(
    run: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "docs").mkdir()
    (here / "docs/night.mp4").touch()
    (here / ".venv/bin").mkdir(parents=True)
    (here / ".venv/bin/nightcrawler").touch()
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("sys.executable", str(here / ".venv/bin/python"))
    place = shutil.copytree(run, here / "run")
    assert commands(place, here)[0] == (
        ".venv/bin/nightcrawler predict docs/night.mp4 "
        "--ensemble run/submission/recipe.yaml --prefix run"
    )
