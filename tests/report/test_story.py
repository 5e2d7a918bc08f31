"""The steps of the story against counts from the files; what is not there is left out."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightcrawler.pseudo.labels import read_labels
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.report.figures import collect
from nightcrawler.report.run_files import training_rows
from nightcrawler.report.run_folder import RunFolder
from nightcrawler.report.titles import stage_titles, with_titles
from tests.paths import ROOT
from tests.report.made_run import CLASSES, MODELS, SEED, Made, make


def ensemble_of_files(run: Path, data: Path, folder: str) -> tuple[np.ndarray, np.ndarray]:
    """Classes said by the mean of a folder's models on the test split, and the true ones."""
    found = [read_results(next((run / folder / model).glob("testx*"))) for model in MODELS]
    truth = read_labels(data / "truth/test.csv")
    labels = np.array([truth[name] for name in found[0].names])
    return np.mean([one.probs for one in found], axis=0).argmax(axis=1), labels


def test_steps_are_those_of_the_files(run: Path, data: Path, figures: dict[str, Any]) -> None:
    story = figures["story"]
    names = [step["name"] for step in story["steps"]]
    assert names == ["raw", "lit", "adapted", "round 1", "round 2", "vote"]
    folders = ["source_none", "source_gamma", "round0", "round1", "round2"]
    percents = []
    for folder, step in zip(folders, story["steps"], strict=False):
        said, labels = ensemble_of_files(run, data, folder)
        assert step["accuracy"]["correct"] == int((said == labels).sum()), folder
        assert step["accuracy"]["total"] == len(labels)
        percents.append(100 * float((said == labels).mean()))
    changes = [step["change"] for step in story["steps"][:5]]
    assert changes[0] is None
    assert changes[1:] == pytest.approx(np.diff(percents))
    said, labels = ensemble_of_files(run, data, "ceiling")
    assert story["ceiling"]["accuracy"]["correct"] == int((said == labels).sum())
    assert story["ceiling"]["use"] == "oracle"
    assert {step["use"] for step in story["steps"]} == {"label-free"}


def test_the_gain_is_that_over_the_control_of_the_same_models(
    run: Path, data: Path, figures: dict[str, Any]
) -> None:
    truth = read_labels(data / "truth/test.csv")
    right = {}
    for key, folder in (("with", "round2/one"), ("without", "control/round2/one")):
        found = read_results(next((run / folder).glob("testx*")))
        labels = np.array([truth[name] for name in found.names])
        right[key] = 100 * float((found.probs.argmax(axis=1) == labels).mean())
    gain = figures["story"]["gain"]
    assert gain["stage"] == "round2"
    assert gain["models"] == ["one"]
    assert {key: gain[key] for key in right} == pytest.approx(right)
    assert gain["gain"] == pytest.approx(right["with"] - right["without"])


def test_rows_of_classes(run: Path, data: Path, figures: dict[str, Any]) -> None:
    said, labels = ensemble_of_files(run, data, "round2")
    for label, row in enumerate(figures["story"]["classes"]):
        here = labels == label
        assert row["clips"] == int(here.sum())
        assert row["recalls"][4]["correct"] == int((said[here] == label).sum())
        assert len(row["recalls"]) == len(figures["story"]["steps"])
        taken_for = row["taken_for"]
        assert taken_for is None or taken_for[0] != label


def test_the_least_sure_clips_come_first(run: Path, figures: dict[str, Any]) -> None:
    unsure = figures["unsure"]
    confidences = [row["confidence"] for row in unsure["rows"]]
    assert confidences == sorted(confidences)
    assert unsure["of"] == "vote"
    assert len(confidences) == min(24, unsure["clips"])
    # All are counted, also where no class is known, and the vote is of the seed of its models.
    assert (unsure["stamp"]["clips"], unsure["stamp"]["seeds"]) == (unsure["clips"], [SEED])
    with open(run / "submission/arid_pred.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    lowest = min(rows, key=lambda row: float(row["Probability"]))
    assert unsure["rows"][0]["name"] == lowest["Video"]


def test_what_is_not_there_is_left_out(data: Path, tmp_path: Path) -> None:
    run = make(Made(tmp_path / "run", data, CLASSES, MODELS, open_tasks=["vote", "train/round2"]))
    story = collect(RunFolder(run, ROOT, {}))["story"]
    assert [step["name"] for step in story["steps"]][:2] == ["adapted", "round 1"]
    assert story["ceiling"] is None
    assert story["gain"] is None


def test_size_speed_and_files_of_trainings(data: Path, tmp_path: Path) -> None:
    run = make(Made(tmp_path / "run", data, CLASSES, MODELS))
    folder = run / "round2/one"
    (folder / "best.pyth").write_bytes(bytes(3 << 20))
    (folder / "run.json").write_text(json.dumps({"num_params": 2_500_000}))
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "epoch": 7, "clips_per_sec": 12.5}\n')
    found = training_rows(RunFolder(run, ROOT, {}), run / "report.html")
    (row,) = [one for one in found if one["experiment"] == "round2/one"]
    assert row["bytes"] == 3 << 20
    assert row["num_params"] == 2.5e6
    assert row["clips_per_sec"] == 12.5
    # Each task took 61.5 s, the first of them on 15 clips.
    assert row["clip_sec"] == pytest.approx(61.5 / 15)
    assert row["links"]["weights"] == "round2/one/best.pyth"
    assert set(row["links"]) == {"weights", "metrics", "configuration"}
    other = next(one for one in found if one["experiment"] == "round1/one")
    assert other["num_params"] is None


def test_titles_of_stages() -> None:
    stages = [
        {"name": "exp_adapt_bn", "round": 0, "in_chain": True, "models": ["a"]},
        {"name": "exp_pseudo_stage1", "round": 1, "in_chain": True, "models": ["a"]},
        {"name": "exp_more", "round": 1, "in_chain": True, "models": ["a"]},
        {"name": "exp_experts", "round": 0, "in_chain": False, "models": ["b"]},
    ]
    titles = stage_titles(stages)
    assert list(titles.values()) == ["adapted", "round 1", "round 1 (exp_more)", "experts"]
    figures = {"stage": "exp_adapt_bn", "rows": [{"before": "exp_more", "name": "exp_more"}]}
    renamed = with_titles(figures, titles)
    assert renamed == {
        "stage": "adapted",
        "rows": [{"before": "round 1 (exp_more)", "name": "exp_more"}],
    }
    assert with_titles({"calibration": {"exp_experts": 1}}, titles) == {
        "calibration": {"experts": 1}
    }


def test_stages_of_different_models_keep_their_names() -> None:
    stages = [
        {"name": "pose0", "round": 0, "in_chain": True, "models": ["pose"]},
        {"name": "pictures1", "round": 1, "in_chain": True, "models": ["uniformer"]},
    ]
    assert list(stage_titles(stages).values()) == ["pose0", "pictures1"]
