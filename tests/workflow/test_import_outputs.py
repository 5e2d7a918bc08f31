"""Outputs by hand: every stamp in them is compared before they count as those of a task."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nightcrawler.config.identity import run_hash, run_values
from nightcrawler.config.node import config_hash, dump, get_cfg
from nightcrawler.data.fingerprint import video_list
from nightcrawler.pseudo.results_metadata import write_metadata
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.utils.io import sha256_file
from nightcrawler.workflow.import_outputs import import_outputs
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import VIDEOS, check_task
from tests.pseudo.made import made


@pytest.fixture
def hashes(tmp_path: Path) -> FileHashes:
    return FileHashes(tmp_path / "hashes.json")


@pytest.fixture
def training(tmp_path: Path) -> Task:
    """A task of a training; its inputs exist, and its folder holds what a run by hand left."""
    data = tmp_path / "data"
    (data / "Test").mkdir(parents=True)
    (data / "test.csv").write_text("0.mp4,0\n")
    (data / "Test/0.mp4").write_bytes(b"video")
    for name in ("start.pyth", "pseudo.csv"):
        (tmp_path / name).write_text(name)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "DONE").write_text("")
    torch.save({"model_state": {}}, folder / "best.pyth")
    inputs = {
        "list test": data / "test.csv",
        "start": tmp_path / "start.pyth",
        "pseudo": tmp_path / "pseudo.csv",
    }
    return Task(
        name="train/s/m",
        kind="train",
        command=(),
        signature="",
        inputs=inputs,
        outputs=(folder / "best.pyth",),
        folder=folder,
        videos={"test": video_list("test", data)},
        run_hash="me",
    )


def stamps(task: Task, hashes: FileHashes) -> dict[str, Any]:
    """What a training on the task's own files says of itself."""
    found = check_task(task, hashes).inputs
    return {
        "config_hash": "me",
        "lists": {"split test": found["list test"], "pseudo.csv": found["pseudo"]},
        "videos": {"test": found[f"{VIDEOS}test"]},
        "start_sha256": found["start"],
    }


def record(task: Task, content: dict[str, Any]) -> None:
    (task.folder / "run.json").write_text(json.dumps(content))


def test_a_training_whose_stamps_are_all_the_same_is_taken(
    training: Task, hashes: FileHashes
) -> None:
    record(training, stamps(training, hashes))
    notes: list[str] = []
    assert import_outputs(training, check_task(training, hashes), hashes, notes.append)
    assert notes == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lists": {"split test": "other"}}, "list test"),
        ({"lists": {"pseudo.csv": "other"}}, "file of pseudo-labels"),
        ({"videos": {"test": "other"}}, "content of the videos of test"),
        ({"start_sha256": "other"}, "starting weights"),
        ({"start_sha256": ""}, "starting weights"),
    ],
)
def test_a_training_of_something_else_is_refused(
    training: Task, hashes: FileHashes, change: dict[str, Any], named: str
) -> None:
    content = stamps(training, hashes)
    for key, value in change.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    record(training, content)
    with pytest.raises(UserError, match=f"was made of another {named}"):
        import_outputs(training, check_task(training, hashes), hashes)
    assert not training.state_file.exists()


def test_a_training_of_version_0_2_is_compared_by_its_checkpoint(
    training: Task, hashes: FileHashes
) -> None:
    """Its `run.json` has no stamps of files; its checkpoints have those of lists."""
    record(training, {"config_hash": "me"})
    lists = stamps(training, hashes)["lists"]
    notes: list[str] = []
    torch.save({"model_state": {}, "lists": lists}, training.outputs[0])
    assert import_outputs(training, check_task(training, hashes), hashes, notes.append)
    (note,) = notes
    assert "not compared: starting weights, content of the videos of test" in note
    training.state_file.unlink()
    other = {**lists, "split test": "half of the list"}
    torch.save({"model_state": {}, "lists": other}, training.outputs[0])
    with pytest.raises(UserError, match="was made of another list test"):
        import_outputs(training, check_task(training, hashes), hashes)


def test_a_hash_that_held_idle_keys_is_no_other_configuration(
    training: Task, hashes: FileHashes
) -> None:
    cfg = get_cfg()
    cfg.DATA.CACHE = "ram"
    task = replace(training, run_hash=run_hash(get_cfg()), config=run_values(cfg))
    assert config_hash(cfg) != config_hash(get_cfg())
    (task.folder / "resolved.yaml").write_text(dump(cfg))
    record(task, {**stamps(task, hashes), "config_hash": "of version 0.1"})
    assert import_outputs(task, check_task(task, hashes), hashes)
    task.state_file.unlink()
    cfg.SOLVER.BASE_LR = 0.5
    (task.folder / "resolved.yaml").write_text(dump(cfg))
    with pytest.raises(UserError, match="has another configuration"):
        import_outputs(task, check_task(task, hashes), hashes)


@pytest.fixture
def tested(training: Task, tmp_path: Path) -> Task:
    """A task of a test of the training, of one view."""
    return Task(
        name="test/s/m/test",
        kind="test",
        command=(),
        signature="",
        inputs={"weights": training.outputs[0], "list test": training.inputs["list test"]},
        outputs=(training.folder / "testx32x224x1x1.pkl",),
        folder=training.folder,
        about={"split": "test", "pairs": [(1, 1)]},
        videos=training.videos,
        stamps={"enhancement": "gamma", "num_frames": 32, "test_hash": "me"},
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("checkpoint_sha256", "other"),
        ("list_sha256", "other"),
        ("videos_sha256", "other"),
        ("enhancement", "none"),
        ("num_frames", 16),
        ("split", "arid"),
        ("views", 3),
        ("crops", 3),
        ("test_hash", "other"),
    ],
)
def test_results_made_in_another_way_are_made_again(
    tested: Task, hashes: FileHashes, key: str, value: object
) -> None:
    found = check_task(tested, hashes).inputs
    same: dict[str, Any] = {
        "checkpoint_sha256": found["weights"],
        "list_sha256": found["list test"],
        "videos_sha256": found[f"{VIDEOS}test"],
        "enhancement": "gamma",
        "num_frames": 32,
        "split": "test",
        "views": 1,
        "crops": 1,
        "test_hash": "me",
    }
    notes: list[str] = []
    made(**{**same, key: value}).save(tested.outputs[0])
    assert not import_outputs(tested, check_task(tested, hashes), hashes, notes.append)
    assert f"{key} {value}, expected {same[key]}" in notes[0]
    tested.state_file.unlink()
    made(**same).save(tested.outputs[0])
    assert import_outputs(tested, check_task(tested, hashes), hashes)


def test_results_without_the_hash_of_their_weights_are_made_again(
    tested: Task, hashes: FileHashes
) -> None:
    made(split="test").save(tested.outputs[0])
    assert not import_outputs(tested, check_task(tested, hashes), hashes)


def test_labels_made_of_other_results_are_refused(tmp_path: Path, hashes: FileHashes) -> None:
    source, csv = tmp_path / "arid.pkl", tmp_path / "pseudo/stage1.csv"
    source.write_text("results")
    csv.parent.mkdir()
    csv.write_text("0.mp4,1\n")
    outputs = (csv, csv.with_suffix(".json"))
    task = Task("label/s", "label", (), "", {"m": source}, outputs, csv.parent)
    write_metadata(csv, {"inputs": [{"file": "m/arid.pkl", "sha256": sha256_file(source)}]})
    assert import_outputs(task, check_task(task, hashes), hashes)
    task.state_file.unlink()
    write_metadata(csv, {"inputs": [{"file": "m/arid.pkl", "sha256": "other"}]})
    with pytest.raises(UserError, match=r"made of other results \(m/arid.pkl\)"):
        import_outputs(task, check_task(task, hashes), hashes)
