"""A chain whose labels hardly move ends, and its vote is of the rounds that were trained."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.cli import pipeline
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow import plan
from nightcrawler.workflow.jobs import PlanOptions
from nightcrawler.workflow.recipe import Recipe, read_recipe
from nightcrawler.workflow.task import Task
from tests.paths import ROOT
from tests.workflow import chain

STAGE = "{CONFIG: configs/stages/pseudo.yaml, LABELS: configs/pseudo/default.yaml}"
RECIPE = f"""\
MODELS: {{a: {{CONFIG: configs/models/uniformer_b32_k600.yaml}}}}
STAGES:
  adapt: {{CONFIG: configs/stages/adapt_bn.yaml}}
  round1: {STAGE}
  round2: {STAGE}
  round3: {STAGE}
VOTE: {{VIEWS: [[1, 1]], SPLIT: test}}
STOP_BELOW: 0.25
"""
# Labels of five clips: one moves to the second round (two moves of six), one of five to the third.
ROUND_1 = {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}
ROUND_2 = {"a": 0, "b": 1, "c": 2, "d": 3, "f": 4}
ROUND_3 = {"a": 0, "b": 1, "c": 2, "d": 3, "f": 1}
LABELS = {"round1": ROUND_1, "round2": ROUND_2, "round3": ROUND_3}
WRITE = "import pathlib, sys; [pathlib.Path(p).write_text(sys.argv[1]) for p in sys.argv[2:]]"


def as_csv(labels: dict[str, int]) -> str:
    return "".join(f"{name},{label}\n" for name, label in labels.items())


def recipe_of(folder: Path, *changes: tuple[str, str]) -> Recipe:
    path = folder / "recipe.yaml"
    text = RECIPE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return read_recipe(path, ROOT)


def planned(recipe: Recipe, out: Path, **options: Any) -> tuple[dict[str, Task], dict[str, Any]]:
    tasks, about = plan.make_plan(recipe, PlanOptions(ROOT, out, out, **options))
    return {task.name: task for task in tasks}, about


def write_labels(out: Path, *stages: str) -> None:
    (out / "pseudo").mkdir(parents=True, exist_ok=True)
    for stage in stages:
        (out / f"pseudo/{stage}.csv").write_text(as_csv(LABELS[stage]))


def test_all_rounds_are_planned_until_labels_tell_otherwise(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    whole, about = planned(recipe, tmp_path / "out")
    assert (about["stop_below"], about["stopped"]) == (0.25, "")
    write_labels(tmp_path / "out", "round1", "round2")
    assert planned(recipe, tmp_path / "out")[0].keys() == whole.keys()
    assert set(whole["vote"].inputs) == {"round3/a 1x1"}


def test_stages_after_labels_that_hardly_move_are_not_planned(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path)
    whole, _ = planned(recipe, tmp_path / "out", control=("a",))
    write_labels(tmp_path / "out", *LABELS)
    tasks, about = planned(recipe, tmp_path / "out", control=("a",))
    # The labels themselves stay: they are what the chain stopped by.
    gone = {name for name in whole if "round3" in name and name != "label/round3"}
    assert whole.keys() - tasks.keys() == gone
    assert set(tasks["vote"].inputs) == {"round2/a 1x1"}
    # One label of six names in either round: f has another one.
    assert about["stopped"] == (
        "the chain stops before round3: 20.0 % of its labels moved, STOP_BELOW is 25 %"
    )
    early, _ = planned(recipe, tmp_path / "out", control=("a",), num_compared=2)
    assert early.keys() == whole.keys()


def test_labels_move_by_the_share_that_is_asked_for(tmp_path: Path) -> None:
    write_labels(tmp_path / "out", *LABELS)
    for below, stops in (("0.2", False), ("0.21", True), ("0.34", True), ("0", False)):
        recipe = recipe_of(tmp_path, ("STOP_BELOW: 0.25", f"STOP_BELOW: {below}"))
        tasks, about = planned(recipe, tmp_path / "out")
        assert bool(about["stopped"]) is stops, below
        # Two of six labels moved in the second round.
        assert ("train/round2/a" in tasks) is (below != "0.34"), below


def test_a_vote_over_rounds(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, ("VIEWS: [[1, 1]]", "VIEWS: [[1, 1], [3, 1]], ROUNDS: 2"))
    tasks, _ = planned(recipe, tmp_path / "out")
    voters = {"round2/a", "round3/a"}
    views = ("1x1", "3x1")
    assert set(tasks["vote"].inputs) == {f"{name} {view}" for name in voters for view in views}
    assert all(f"test/{name}/test" in tasks for name in voters)
    assert "test/round1/a/test" not in tasks
    # Where the chain stops, they are the last that were trained.
    write_labels(tmp_path / "out", *LABELS)
    stopped, _ = planned(recipe, tmp_path / "out")
    names = {name.split("/")[0] for name in stopped["vote"].inputs}
    assert names == {"round1", "round2"}


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("STOP_BELOW: 0.25", "STOP_BELOW: 1.5", "STOP_BELOW: 1.5: it should be less than"),
        ("VIEWS: [[1, 1]]", "RECIPE: x.yaml", "STOP_BELOW: VOTE.RECIPE names models of rounds"),
        ("VIEWS: [[1, 1]]", "RECIPE: x.yaml, ROUNDS: 2", "VOTE.ROUNDS: has no effect beside"),
        ("VIEWS: [[1, 1]]", "VIEWS: [[1, 1]], ROUNDS: 5", "VOTE.ROUNDS: 5, expected at most 4"),
        ("VIEWS: [[1, 1]]", "VIEWS: [[1, 1]], ROUNDS: 0", "VOTE.ROUNDS: 0: it should be greater"),
    ],
)
def test_faults_name_the_key(tmp_path: Path, old: str, new: str, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        recipe_of(tmp_path, (old, new))


def faked(tasks: Sequence[Task], journal: Path) -> list[Task]:
    """Fake tasks, of which those of labels write real ones."""
    found = []
    for task in chain.faked(tasks, journal):
        if task.kind == "label":
            text = as_csv(LABELS[str(task.about["stage"])])
            files = map(str, task.outputs)
            task = replace(task, command=(sys.executable, "-S", "-c", WRITE, text, *files))
        found.append(task)
    return found


def test_rounds_run_until_labels_hardly_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_plan = plan.make_plan

    def make_fakes(recipe: Recipe, options: PlanOptions) -> tuple[list[Task], dict[str, Any]]:
        tasks, about = make_plan(recipe, options)
        return faked(tasks, tmp_path / "journal"), about

    monkeypatch.setattr(plan, "make_plan", make_fakes)
    monkeypatch.chdir(ROOT)
    recipe_of(tmp_path)
    out = tmp_path / "out"
    argv = [str(tmp_path / "recipe.yaml"), "--out", str(out)]
    assert pipeline.main(argv) == 0
    started = chain.started(tmp_path)
    stages = {name.split("/")[1] for name in started if name.startswith("train/")}
    assert stages == {"adapt", "round1", "round2"}
    assert started[-1] == "vote"
    assert len(started) == len(set(started))
    assert "the chain stops before round3: 20.0 % of its labels moved" in capsys.readouterr().out
    state = json.loads((out / "pipeline.json").read_text())
    assert {task["status"] for task in state["links"]} == {"done"}
    assert state["stopped"].startswith("the chain stops before round3")
    assert pipeline.main(argv) == 0
    assert chain.started(tmp_path) == []
    # Other labels, which move enough: the chain goes on where it stopped.
    monkeypatch.setitem(LABELS, "round3", ROUND_1)
    assert pipeline.main([*argv, "--from", "label/round3"]) == 0
    again = chain.started(tmp_path)
    assert {name.split("/")[1] for name in again if name.startswith("train/")} == {"round3"}
    assert json.loads((out / "pipeline.json").read_text())["stopped"] == ""


def test_a_failed_task_ends_the_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_plan = plan.make_plan

    def make_fakes(recipe: Recipe, options: PlanOptions) -> tuple[list[Task], dict[str, Any]]:
        tasks, about = make_plan(recipe, options)
        found = faked(tasks, tmp_path / "journal")
        broken = (sys.executable, "-S", "-c", "import sys; sys.exit('error: broken')")
        return [
            replace(task, command=broken) if task.name == "train/round1/a" else task
            for task in found
        ], about

    monkeypatch.setattr(plan, "make_plan", make_fakes)
    monkeypatch.chdir(ROOT)
    recipe_of(tmp_path)
    argv = [str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "out")]
    assert pipeline.main(argv) == 1
    assert not any("round2" in name for name in chain.started(tmp_path))
