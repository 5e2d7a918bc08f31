"""Last lines of a report: accuracy from step to step, and commands that use the models."""

from __future__ import annotations

import json
import math
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
        "    (_two, best of 2 models: top-1 78.3 % on val_dry; no label of a dark clip chose it)",
    ]


def test_the_commands_are_understood(run: Path, here: Path) -> None:
    place = shutil.copytree(run, here / "run")
    for line, parse in zip(commands(place, here), (predict.parse, serve.parse), strict=False):
        arguments = parse(shlex.split(line)[2:])
        assert arguments.ensemble.is_file()
        assert arguments.prefix.is_dir()


def validate(folder: Path, accuracies: dict[str, list[float]], best_split: str) -> None:
    """Let a training of three epochs say these accuracies of its splits."""
    rows = []
    for split, percents in accuracies.items():
        for epoch, percent in enumerate(percents, start=1):
            row = {"kind": "val", "epoch": epoch, "split": split, "top1": percent}
            rows.append({**row, "num_videos": 33})
    # As a training does: all splits of an epoch, then the next.
    rows.sort(key=lambda row: row["epoch"])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "resolved.yaml").write_text(f"TRAIN: {{BEST_SPLIT: {best_split}}}\n")


def export_of(place: Path, here: Path) -> list[str]:
    """The command that exports a model, and why it is this one."""
    return [line for line in commands(place, here)[2:] if "exported" in line or line[0] == "("]


@pytest.mark.parametrize(
    ("one", "two", "best_split", "expected"),
    [
        # The last of the list is better with labels of dark clips, and on the bright clips.
        (
            {"val_dark": [70, 75, 75], "val_dry": [80, 80, 80], "arid": [20, 20, 20]},
            {"val_dark": [60, 74, 70], "val_dry": [95, 95, 95], "arid": [90, 90, 90]},
            "val_dark",
            ("one", "one, best of 2 models: top-1 75.0 % on val_dark; "),
        ),
        (
            {"val_dark": [70, 60, 60]},
            {"val_dark": [60, 74, 70]},
            "val_dark",
            ("_two", "_two, best of 2 models: top-1 74.0 % on val_dark; "),
        ),
        # Labels of dark clips picked the epochs. Of these, the better one by darkened clips.
        (
            {"val_dark": [99, 60, 60], "arid": [20, 30, 20]},
            {"val_dark": [50, 50, 59], "arid": [20, 20, 90]},
            "arid",
            ("one", "one, best of 2 models: top-1 60.0 % on val_dark; "),
        ),
        # Nothing but labels of dark clips is known.
        ({"arid": [90]}, {"arid": [20]}, "arid", ("_two", "_two, the last of 2 models: ")),
        ({"val_dark": [90]}, {}, "val_dark", ("_two", "_two, the last of 2 models: ")),
    ],
)
def test_the_best_model_is_exported_as_no_label_of_a_dark_clip_says(
    run: Path,
    here: Path,
    one: dict[str, list[float]],
    two: dict[str, list[float]],
    best_split: str,
    expected: tuple[str, str],
) -> None:
    place = shutil.copytree(run, here / "run")
    validate(place / "round2/one", one, best_split)
    validate(place / "round2/_two", two, best_split)
    command, note = export_of(place, here)
    assert command == f"nightcrawler export run/round2/{expected[0]} --out exported"
    assert note.startswith(f"({expected[1]}")


def test_rows_of_an_earlier_training_in_a_folder_and_no_numbers_choose_nothing(
    run: Path, here: Path
) -> None:
    """`best.pyth` is of the training that was started anew, whose epochs count again from 0."""
    place = shutil.copytree(run, here / "run")
    validate(place / "round2/one", {"val_dark": [50.0, 59.0, 58.0]}, "val_dark")
    with (place / "round2/one/metrics.jsonl").open("a") as file:
        for epoch, top1 in enumerate((21.0, math.nan)):
            row = {"kind": "val", "epoch": epoch, "split": "val_dark", "top1": top1}
            file.write(json.dumps({**row, "weights": "raw", "num_videos": 10}) + "\n")
    validate(place / "round2/_two", {"val_dark": [45.0]}, "val_dark")
    command, note = export_of(place, here)
    assert command == "nightcrawler export run/round2/_two --out exported"
    assert "45.0 %" in note


def test_a_model_of_skeletons_is_not_exported(run: Path, here: Path) -> None:
    place = shutil.copytree(run, here / "run")
    (place / "round2/one/resolved.yaml").write_text("DATA: {INPUT: pose}\n")
    assert export_of(place, here) == ["nightcrawler export run/round2/_two --out exported"]
    (place / "round2/_two/resolved.yaml").write_text("DATA: {INPUT: pose}\n")
    assert export_of(place, here) == []


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
