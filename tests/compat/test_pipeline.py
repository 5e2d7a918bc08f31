"""A pipeline that version 0.1 finished: task states, remembered hashes, pipeline.json."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from nightcrawler.report.run_folder import RunFolder
from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.workflow.task_state import DONE, check_task, read_state
from tests.compat.files import PIPELINE, expected
from tests.workflow import chain

EXPECTED = expected()["pipeline"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The finished pipeline where it was, relative to the root: `fixtures/pipeline`."""
    return Path(shutil.copytree(PIPELINE, tmp_path / "fixtures/pipeline"))


def test_task_states_are_read_and_up_to_date(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    assert [task.name for task in tasks] == EXPECTED["tasks"]
    hashes = FileHashes(folder / "hashes.json")
    for task in tasks:
        state = read_state(task.state_file)
        assert state is not None
        assert (state.status, state.exit_code, state.imported) == (DONE, 0, False)
        check = check_task(task, hashes)
        assert (check.up_to_date, check.reason) == (True, ""), task.name
    assert chain.run(folder, tasks)[0] == 0
    assert chain.started(folder) == []


def test_a_change_is_followed_from_old_task_states(folder: Path) -> None:
    (folder / "recipe.txt").write_text("other\n")
    assert chain.run(folder, chain.small_chain(folder))[0] == 0
    second = {name for name in EXPECTED["tasks"] if "second" in name}
    assert set(chain.started(folder)) == {*second, "vote"}


def test_remembered_hashes_are_used(folder: Path) -> None:
    """A file of the same size and time is not read again."""
    before = EXPECTED["folder"]
    memory = json.loads((folder / ".hashes.json").read_text())
    moved = {path.replace(before, str(folder)): entry for path, entry in memory.items()}
    (folder / ".hashes.json").write_text(json.dumps(moved))
    path = folder / "first/a/best.pyth"
    remembered = moved[str(path)]
    time_ns = EXPECTED["mtime_ns"]["first/a/best.pyth"]
    assert remembered[:2] == [path.stat().st_size, time_ns]
    path.write_bytes(b"x" * remembered[0])
    os.utime(path, ns=(time_ns, time_ns))
    assert FileHashes(folder / ".hashes.json").of(path) == remembered[2]


def test_pipeline_json_is_read_by_the_report(folder: Path) -> None:
    run = RunFolder(folder, folder.parent.parent)
    assert run.class_names == ["Run", "Walk"]
    assert [stage["name"] for stage in run.stages] == ["first", "second"]
    trained = run.tasks("train")
    assert [task["name"] for task in trained] == [
        name for name in EXPECTED["tasks"] if name.startswith("train")
    ]
    for task in trained:
        assert run.has_outputs(task)
