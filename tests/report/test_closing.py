"""Last lines of a report: accuracy from step to step, and commands that use the models."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.report.closing import closing_lines, last_models


def stage(name: str, number: int, mean: float | None, in_chain: bool = True) -> dict:
    return {"stage": name, "round": number, "mean": mean, "in_chain": in_chain}


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
KNOWN = {
    "split": "test",
    "videos": 440,
    "stages": [
        stage("adapt", 0, 62.34),
        stage("round1", 1, 65.9),
        stage("expert", 1, 70.0, in_chain=False),
        stage("round2", 2, None),
    ],
    "votes": [{"percent": 71.0}, {"percent": 75.7}],
}
OTHER = {"split": "val_dry", "videos": 9, "stages": [stage("adapt", 0, 90.0)], "votes": []}


def test_the_way_of_accuracy_and_three_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    figures = {"splits": [OTHER, KNOWN], "chance": 9.09}
    before = {"as recorded": 11.5, "lit": 40.1}
    assert list(closing_lines(figures, STATE, tmp_path, before)) == [
        "top-1 in % on the 440 clips of test, mean of the models, chance 9.1:",
        "  as recorded 11.5 -> lit 40.1 -> adapted 62.3 -> round 1 65.9 -> vote of all 75.7",
        "use the models of this run:",
        "  nightcrawler predict night.mp4 --experiment runs/a/round1/x --experiment runs/a/round1/y",
        "  nightcrawler serve --experiment runs/a/round1/x --experiment runs/a/round1/y",
        "  nightcrawler export runs/a/round1/y --out exported",
    ]


def test_nothing_is_said_of_what_is_not_known(tmp_path: Path) -> None:
    unknown = {"split": "test", "videos": 3, "stages": [stage("adapt", 0, None)], "votes": []}
    figures = {"splits": [unknown], "chance": 50.0}
    assert list(closing_lines(figures, {"links": []}, tmp_path, {})) == []
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
    lines = list(closing_lines({"splits": [], "chance": 1.0}, state, tmp_path, {}))
    assert lines[1] == (
        "  .venv/bin/nightcrawler predict docs/night.mp4 --experiment 'runs/a b/adapt/x'"
    )
