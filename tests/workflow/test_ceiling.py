"""Trainings on true labels: planned last, read by nothing, told by the report, and really run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.pseudo.predictions import read_results
from nightcrawler.report.page import write_report
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.jobs import PlanOptions
from nightcrawler.workflow.plan import make_plan
from nightcrawler.workflow.recipe import read_recipe
from nightcrawler.workflow.task import dependencies
from tests import tiny
from tests.paths import ROOT
from tests.workflow.test_real_data import pipeline

RECIPE = """\
MODELS: {one: {CONFIG: configs/models/uniformer_b32_k600.yaml}}
STAGES:
  adapt: {CONFIG: configs/stages/adapt_bn.yaml}
  round1: {CONFIG: configs/stages/pseudo.yaml, LABELS: LABEL_RECIPE}
SET: {SOLVER.MAX_EPOCH: 1, SOLVER.WARMUP_EPOCHS: 0.5}
UNLABELLED: total_unlabel
TEST: {SPLITS: [test]}
VOTE: {VIEWS: [[1, 1]], SPLIT: test}
"""
KEEP_ALL = """\
LABELS: label-free
MODELS: {one: adapt/one}
ENSEMBLE: {SCORES: probs, WEIGHTS: equal, VIEWS: [1, 1]}
SELECT: {METHOD: all}
"""


def plan(recipe: str, out: Path, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    read = read_recipe(ROOT / f"configs/pipeline/{recipe}.yaml", ROOT)
    tasks, about = make_plan(read, PlanOptions(ROOT, out, out, **options))
    return {task.name: task for task in tasks}, about


def test_the_models_of_the_last_round_are_trained_once_more_and_nothing_reads_them(
    tmp_path: Path,
) -> None:
    truth = tmp_path / "truth.csv"
    truth.write_text("a.mp4,0\n")
    without, about = plan("demo", tmp_path)
    tasks, oracle = plan("demo", tmp_path, ceiling=truth)
    added = [name for name in tasks if name not in without]
    assert added == list(tasks)[-len(added) :]
    assert {name.split("/")[1] for name in added} == {"ceiling"}
    for name, task in without.items():
        assert (task.signature, task.inputs) == (tasks[name].signature, tasks[name].inputs)
    # What measures only leaves the label use of the chain as it is.
    assert about["labels"] == oracle["labels"] == "label-free"
    models = [name.split("/")[2] for name in added if name.startswith("train/")]
    assert len(models) == 4
    needs = dependencies(list(tasks.values()))
    for name in without:
        assert not set(needs[name]) & set(added), name
    for model in models:
        task, last = tasks[f"train/ceiling/{model}"], tasks[f"train/exp_pseudo_stage4/{model}"]
        assert task.inputs["pseudo"] == truth
        assert task.inputs["start"] == last.inputs["start"]
        assert task.folder == tmp_path / "ceiling" / model
        assert f"test/ceiling/{model}/test" in tasks


@pytest.mark.parametrize(
    ("text", "why"), [(None, "no such file"), ("a.mp4,0\n", "trains no stage on pseudo-labels")]
)
def test_faults_are_told(tmp_path: Path, text: str | None, why: str) -> None:
    truth = tmp_path / "truth.csv"
    if text is not None:
        truth.write_text(text)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("\n".join(line for line in RECIPE.split("\n") if "round1" not in line))
    with pytest.raises(UserError, match=why):
        make_plan(read_recipe(recipe, ROOT), PlanOptions(ROOT, tmp_path, tmp_path, ceiling=truth))


@pytest.mark.slow
def test_a_tiny_chain_gets_its_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny.build_data(tmp_path / "data")
    (tmp_path / "labels.yaml").write_text(KEEP_ALL)
    monkeypatch.setattr(
        "tests.workflow.test_real_data.RECIPE",
        RECIPE.replace("LABEL_RECIPE", str(tmp_path / "labels.yaml")),
    )
    names = [line.split(",")[0] for line in (data / "total_unlabel.csv").read_text().split()]
    truth = tmp_path / "truth.csv"
    tiny.write_rows(truth, [(name, number % 11) for number, name in enumerate(names)])
    test = [line.split(",")[0] for line in (data / "test.csv").read_text().split()]
    (data / "truth").mkdir(exist_ok=True)
    tiny.write_rows(data / "truth/test.csv", [(name, row % 11) for row, name in enumerate(test)])
    done = pipeline(tmp_path, data, "--ceiling", str(truth))
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    (path,) = (out / "ceiling/one").glob("testx*x1x1.npz")
    results = read_results(path)
    assert results.meta["labels"] == "oracle"
    (vote,) = (out / "submission").glob("arid_pred.json")
    assert json.loads(vote.read_text())["labels"] == "label-free"
    figures = write_report(out, ROOT, {}, out / "report.html")
    row = figures["story"]["ceiling"]
    labels = {name: number % 11 for number, name in enumerate(test)}
    right = [labels[name] == said for name, said in zip(results.names, results.probs.argmax(1), strict=True)]  # fmt: skip
    assert row["accuracy"]["correct"] == sum(right)
    assert row["use"] == "oracle"
    assert {step["use"] for step in figures["story"]["steps"]} == {"label-free"}
    assert "told the true labels" in (out / "report.html").read_text()
