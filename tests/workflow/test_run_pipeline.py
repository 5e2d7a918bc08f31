"""`tools/run_pipeline.py` as a process: the real chain on five classes of one's own, and what the command line says."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.pseudo.predictions import read_results
from tests import tiny
from tests.paths import ROOT

CLASSES = ["climb", "dance", "kneel", "row", "spin"]
NUM_DARK = 6
RECIPE = """\
SET: {TRAIN.VAL_SPLITS: [val_dry, val_dark], SOLVER.MAX_EPOCH: 1, SOLVER.WARMUP_EPOCHS: 0.5}
MODELS:
  one: {CONFIG: configs/models/uniformer_b32_k600.yaml, SET: {RNG_SEED: 1}}
  two: {CONFIG: configs/models/uniformer_b32_k600.yaml, SET: {RNG_SEED: 2}}
STAGES:
  adapt: {CONFIG: configs/stages/adapt_bn.yaml}
  round1: {CONFIG: configs/stages/pseudo.yaml, LABELS: configs/pseudo/default.yaml, SET: {MODEL.PSEUDO_LOSS: soft}}
VOTE: {VIEWS: [[1, 1], [1, 3]], SPLIT: total_unlabel}
"""


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`bright/CLASS/N.mp4` and `dark/N.mp4`."""
    folder = tmp_path_factory.mktemp("videos")
    for label, name in enumerate(CLASSES):
        for number in range(3):
            tiny.write_video(
                folder / "bright" / name / f"{number}.mp4", label, 10 * label + number, dark=False
            )
    for number in range(NUM_DARK):
        tiny.write_video(
            folder / "dark" / f"{number}.mp4", number % len(CLASSES), 70 + number, dark=True
        )
    return folder


def run_pipeline(recipe: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools/run_pipeline.py"), str(recipe), *argv]
    env = tiny.environment()
    return subprocess.run(
        command, capture_output=True, text=True, env=env, timeout=400, check=False
    )


def arguments(tmp_path: Path, videos: Path) -> tuple[Path, list[str]]:
    recipe = tmp_path / "five.yaml"
    recipe.write_text(RECIPE)
    own = [
        "--bright",
        str(videos / "bright"),
        "--dark",
        str(videos / "dark"),
        "--data",
        str(tmp_path / "data"),
    ]
    return recipe, [*own, "--out", str(tmp_path / "out"), "--overlay", str(tiny.overlay(tmp_path))]


def state(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "out/pipeline.json").read_text())


@pytest.mark.slow
def test_the_real_chain_on_five_other_classes_and_two_models(tmp_path: Path, videos: Path) -> None:
    recipe, argv = arguments(tmp_path, videos)
    done = run_pipeline(recipe, *argv, "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    out = tmp_path / "out"
    with open(out / "submission/arid_pred.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["Video"] for row in rows) == [f"{number}.mp4" for number in range(NUM_DARK)]
    assert {int(row["ClassID"]) for row in rows} <= set(range(5))
    found = read_results(next((out / "round1/two").glob("total_unlabelx*x1x3.npz")))
    assert (found.probs.shape, found.meta["class_names"]) == ((NUM_DARK, 5), CLASSES)
    assert {task["status"] for task in state(tmp_path)["links"]} == {"done"}
    assert state(tmp_path)["class_names"] == CLASSES
    assert json.loads((out / "submission/arid_pred.json").read_text())["labels"] == "label-free"
    again = run_pipeline(recipe, *argv, "--dry-run")
    assert "13 tasks, 13 done, 0 to do, choices are label-free" in again.stdout.splitlines()


def test_the_plan_is_printed_and_nothing_is_made(tmp_path: Path, videos: Path) -> None:
    recipe, argv = arguments(tmp_path, videos)
    done = run_pipeline(recipe, *argv, "--dry-run", "--commands")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split(maxsplit=3) == ["data", "to", "do", "new"]
    assert "13 tasks, 0 done, 13 to do, choices are label-free" in lines
    command = next(line for line in lines if "nightcrawler prepare tree" in line)
    assert str(videos / "bright") in command
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("option", ["--out", "--data"])
def test_a_file_in_the_place_of_a_folder_is_told_by_the_plan(
    tmp_path: Path, videos: Path, option: str
) -> None:
    recipe, argv = arguments(tmp_path, videos)
    done = run_pipeline(recipe, *argv, option, recipe, "--dry-run")
    assert done.returncode == 2
    assert f"error: {recipe}: is a file, expected a folder to write into" in done.stderr


def test_controls_are_the_recipes_and_those_named(tmp_path: Path, videos: Path) -> None:
    recipe, argv = arguments(tmp_path, videos)
    recipe.write_text(RECIPE + "CONTROL: [two]\n")
    cases = (
        ([], []),
        (["--control"], ["two"]),
        (["--control", "--control-of", "one"], ["one", "two"]),
    )
    for options, expected in cases:
        done = run_pipeline(recipe, *argv, "--dry-run", *options)
        found = [
            line.split()[0]
            for line in done.stdout.splitlines()
            if line.startswith("train/control/")
        ]
        assert found == [f"train/control/round1/{name}" for name in expected]


def test_a_failed_task_is_shown_with_its_last_line(tmp_path: Path, videos: Path) -> None:
    recipe, argv = arguments(tmp_path, videos)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/val_dry.csv").write_text("another.mp4,0\n")
    done = run_pipeline(recipe, *argv)
    assert done.returncode == 1
    (failed,) = (line for line in done.stdout.splitlines() if " failed " in line)
    assert "val_dry.csv" in failed
    assert str(tmp_path / "out/logs/data.log") in failed
    assert (tmp_path / "data/val_dry.csv").read_text() == "another.mp4,0\n"
    assert {task["status"] for task in state(tmp_path)["links"]} == {"failed", "blocked"}


def test_a_task_as_a_job_of_a_scheduler(tmp_path: Path, videos: Path) -> None:
    recipe, argv = arguments(tmp_path, videos)
    done = run_pipeline(recipe, *argv, "--only", "data", "--executor", "local")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "data/val_dry.csv").exists()
    found = {task["name"]: task["status"] for task in state(tmp_path)["links"]}
    assert found["data"] == "done"
    assert set(found.values()) == {"done", "waiting"}
    again = run_pipeline(recipe, *argv, "--only", "data", "--executor", "local")
    assert again.returncode == 0
    assert all(line.startswith("warning: ") for line in again.stdout.splitlines())


def test_a_chain_that_ends_by_itself_is_no_workflow(tmp_path: Path, videos: Path) -> None:
    recipe, argv = arguments(tmp_path, videos)
    recipe.write_text(RECIPE + "STOP_BELOW: 0.1\n")
    done = run_pipeline(recipe, *argv, "--snakemake", str(tmp_path / "Snakefile"))
    assert done.returncode == 2
    assert "--snakemake: STOP_BELOW 0.1 of" in done.stderr
    assert not (tmp_path / "Snakefile").exists()


@pytest.mark.parametrize(
    ("argv", "fault"),
    [
        (["--only", "nothing"], "'nothing' matches no task"),
        (["--from", "train/x"], "'train/x' matches no task"),
        (["--jobs", "0"], "argument --jobs: '0': expected a whole number of at least 1"),
        (["--nproc", "0"], "argument --nproc: '0': expected a whole number of at least 1"),
        (["--control-of", "resnet"], "--control-of resnet: expected one of uniformer_b32_ssv2"),
        (["SOLVER.EPOCH", "3"], "SOLVER.EPOCH: unknown key"),
        (["SOLVER.MAX_EPOCH"], "overrides are KEY VALUE pairs"),
        (["--overlay", "gone.yaml"], "gone.yaml: no such file"),
    ],
)
def test_faults_of_the_command_line(argv: list[str], fault: str) -> None:
    done = run_pipeline(ROOT / "configs/pipeline/ug2_2022.yaml", "--dry-run", *argv)
    assert done.returncode == 2
    assert fault in done.stderr
    assert "Traceback" not in done.stderr
