"""Last lines of a report: accuracy from step to step, and commands that use the models."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.report.closing import closing_lines, last_models


def task(name: str, number: int, **more: object) -> dict:
    values = {"kind": "train", "status": "done", "folder": name, "round": number}
    return {**values, **more}


STATE = {
    "links": [
        task("runs/a/adapt/x", 0),
        task("runs/a/round1/x", 1),
        task("runs/a/round1/y", 1),
        task("runs/a/control/round1/y", 1, control=True),
        task("runs/a/round2/y", 2, status="failed"),
        task("runs/a/round1/x", 1, kind="test"),
    ]
}
STORY = {
    "split": "test",
    "stamp": {"clips": 440},
    "steps": [
        {"name": "raw", "accuracy": {"percent": 11.54}},
        {"name": "adapted", "accuracy": {"percent": None}},
        {"name": "vote", "accuracy": {"percent": 75.68}},
    ],
}


def test_the_way_of_accuracy_and_three_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert list(closing_lines({"story": STORY, "chance": 9.09}, STATE, tmp_path)) == [
        "top-1 in % on 440 clips of test, chance 9.1:",
        "  raw 11.5 -> adapted ? -> vote 75.7",
        "use the models of this run:",
        "  nightcrawler predict night.mp4 --experiment runs/a/round1/x --experiment runs/a/round1/y",
        "  nightcrawler serve --experiment runs/a/round1/x --experiment runs/a/round1/y",
        "  nightcrawler export runs/a/round1/y --out exported",
    ]


def test_nothing_is_said_of_what_is_not_known(tmp_path: Path) -> None:
    assert list(closing_lines({"story": None, "chance": 50.0}, {"links": []}, tmp_path)) == []
    assert last_models({"links": [task("a", 0, status="running")]}) == []


def test_a_clip_of_the_checkout_and_a_program_that_is_not_on_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/night.mp4").touch()
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/nightcrawler").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setattr("sys.executable", str(tmp_path / ".venv/bin/python"))
    state = {"links": [task("runs/a b/adapt/x", 0)]}
    lines = list(closing_lines({"story": None, "chance": 1.0}, state, tmp_path))
    assert lines[1] == (
        "  .venv/bin/nightcrawler predict docs/night.mp4 --experiment 'runs/a b/adapt/x'"
    )
