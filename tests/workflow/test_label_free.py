"""A label-free chain reads no label of a dark clip: wrong ones change nothing but what is measured for the record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.cli.main import main
from nightcrawler.engine.checkpoint_files import load_checkpoint
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.workflow.jobs import PlanOptions
from nightcrawler.workflow.plan import make_plan
from nightcrawler.workflow.recipe import Places, read_recipe
from nightcrawler.workflow.task import Task
from tests import tiny
from tests.paths import ROOT

RECIPE = """\
SET: {SOLVER.MAX_EPOCH: 2, SOLVER.WARMUP_EPOCHS: 0.5, MODEL.PSEUDO_LOSS: hard}
MODELS:
  one: {CONFIG: configs/models/uniformer_b32_k600.yaml, SET: {RNG_SEED: 1}}
  two: {CONFIG: configs/models/uniformer_b32_k600.yaml, SET: {RNG_SEED: 2}}
STAGES:
  adapt: {CONFIG: configs/stages/adapt_bn.yaml}
  round1: {CONFIG: configs/stages/pseudo.yaml, LABELS: configs/pseudo/default.yaml}
TEST: {SPLITS: [arid]}
VOTE: {VIEWS: [[1, 1]], SPLIT: test}
"""
WRONG = ("arid", "dark_unlabel", "total_unlabel", "test")


def plant(data: Path) -> None:
    """Give every dark clip of every list a wrong label."""
    for name in WRONG:
        path = data / f"{name}.csv"
        rows = [line.split(",") for line in path.read_text().split()]
        tiny.write_rows(
            path, [(video, (int(truth) + 3) % tiny.NUM_CLASSES) for video, truth in rows]
        )


def loosened(task: Task, argv: list[str]) -> list[str]:
    """A label task's command, with a recipe that asks for less evidence: the clips are few."""
    if task.kind != "label":
        return argv
    place = argv.index("--recipe") + 1
    text = Path(argv[place]).read_text()
    loose = {
        "CONFIDENCE: 0.8": "CONFIDENCE: 0.5",
        "SUPPORT: 5": "SUPPORT: 1",
        "AGREE: 0.75": "AGREE: 0.25",
    }
    for asked, less in loose.items():
        assert asked in text
        text = text.replace(asked, less)
    folder = Path(argv[argv.index("--out") + 1]).parent if "--out" in argv else Path(task.folder)
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "loose_recipe.yaml"
    recipe.write_text(text)
    argv[place] = str(recipe)
    return argv


def do(task: Task) -> None:
    """Run a task's command in this process."""
    for path, text in task.writes.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert task.command[1:3] == ("-m", "nightcrawler")
    argv = loosened(task, list(task.command[3:]))
    program = tiny.run_net_argv if task.kind in ("train", "test") else main
    assert program(argv) == 0


def run_chain(folder: Path, data: Path, **options: Any) -> dict[str, Any]:
    """Run all tasks; returns weights and the bytes of pseudo-labels and submissions, by name."""
    folder.mkdir()
    (folder / "recipe.yaml").write_text(RECIPE)
    out = folder / "out"
    settings = PlanOptions(ROOT, out, out, (tiny.overlay(folder),), **options)
    tasks, _ = make_plan(read_recipe(folder / "recipe.yaml", ROOT, Places(data)), settings)
    for task in tasks:
        do(task)
    made: dict[str, Any] = {}
    for path in (path for task in tasks for path in task.outputs):
        name = str(path.relative_to(out))
        if path.suffix == ".pyth":
            state = load_checkpoint(path)
            made[name] = {key: state[key] for key in ("model_state", "best", "epoch")}
        elif path.suffix == ".csv":
            made[name] = path.read_bytes()
    return made


def label_uses(out: Path) -> set[str]:
    """What every file of a chain says of its use of dark labels."""
    found = [
        json.loads(path.read_text())["labels"]
        for path in out.rglob("*.json")
        if ".pipeline" not in path.parts
    ]
    for path in out.rglob("metrics.jsonl"):
        found += [row["labels"] for row in tiny.metrics(path.parent, "val")]
    found += [read_results(path).meta["labels"] for path in out.rglob("*.npz")]
    found += [load_checkpoint(path)["labels"] for path in out.rglob("*.pyth")]
    return set(found)


def record(out: Path) -> list[float]:
    """Top-1 on arid, of every validation of a chain."""
    rows = [
        row
        for path in sorted(out.rglob("metrics.jsonl"))
        for row in tiny.metrics(path.parent, "val")
    ]
    return [row["top1"] for row in rows if row["split"] == "arid"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_data(tmp_path_factory.mktemp("labels") / "data")


def test_wrong_labels_of_dark_clips_change_nothing(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    wrong = Path(shutil.copytree(data, tmp_path / "wrong_data"))
    plant(wrong)
    made = [
        run_chain(tmp_path / name, place) for name, place in (("right", data), ("wrong", wrong))
    ]
    assert {"pseudo/round1.csv", "submission/arid_pred.csv", "round1/two/best.pyth"} <= set(made[0])
    assert tiny.differences(*made) == []
    assert label_uses(tmp_path / "right") == label_uses(tmp_path / "wrong") == {"label-free"}
    assert record(tmp_path / "right") != record(tmp_path / "wrong")


def test_an_oracles_chain_says_so_everywhere(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    run_chain(tmp_path / "oracle", data, oracle=True)
    assert label_uses(tmp_path / "oracle") == {"oracle"}
    logs = [path.read_text() for path in (tmp_path / "oracle").rglob("*.log")]
    assert len(logs) == 8
    assert not any("label-free" in text for text in logs)
