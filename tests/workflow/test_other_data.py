"""Results are of the data that they were made of: not of a folder whose lists read the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nightcrawler.data.fingerprint import video_list
from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.utils.versions import NUMERICS, compare_versions, library_versions
from nightcrawler.workflow.console import Screen
from nightcrawler.workflow.run import Runner
from nightcrawler.workflow.run_options import RunOptions
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import check_task, read_state
from tests.compat.files import PIPELINE
from tests.paths import ROOT
from tests.workflow import chain
from tests.workflow.test_plan import MINIMAL, plan

FIRST = {"train/first/a", "train/first/b"}


class Notes(Screen):
    """A screen that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        # Lines of single tasks begin with their number.
        if not text.startswith("["):
            self.lines.append(text)


def make_data(folder: Path, content: bytes) -> Path:
    """A data folder of one numbered video."""
    (folder / "Test").mkdir(parents=True)
    (folder / "test.csv").write_text("0.mp4,0\n")
    (folder / "Test/0.mp4").write_bytes(content)
    return folder


def on(data: Path, tasks: Sequence[Task]) -> list[Task]:
    """The same tasks, whose first trainings read the videos of a data folder."""
    videos = {"test": video_list("test", data)}
    return [replace(task, videos=videos) if task.name in FIRST else task for task in tasks]


def run(folder: Path, tasks: Sequence[Task]) -> tuple[int, list[str]]:
    screen = Notes()
    runner = Runner(tasks, RunOptions(ROOT, folder), None, screen)
    return runner.run(), screen.lines


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return chain.prepare(tmp_path / "run")


def test_other_data_of_the_same_lists_is_not_taken_for_it(folder: Path, tmp_path: Path) -> None:
    zero = make_data(tmp_path / "d0", b"zero")
    one = make_data(tmp_path / "d1", b"one")
    assert (zero / "test.csv").read_bytes() == (one / "test.csv").read_bytes()
    tasks = chain.small_chain(folder)
    assert run(folder, on(zero, tasks))[0] == 0
    chain.journal(folder)
    before = (folder / "first/a/best.pyth").read_bytes()
    assert run(folder, on(one, tasks))[0] == 0
    assert set(chain.started(folder)) >= FIRST
    # What was made of the data before is not lost.
    (kept,) = (folder / "first/a/.superseded").iterdir()
    assert (kept / "best.pyth").read_bytes() == before


def test_moved_data_is_the_same(folder: Path, tmp_path: Path) -> None:
    data = make_data(tmp_path / "d0", b"zero")
    tasks = chain.small_chain(folder)
    run(folder, on(data, tasks))
    chain.journal(folder)
    moved = Path(shutil.copytree(data, tmp_path / "moved"))
    shutil.rmtree(data)
    assert run(folder, on(moved, tasks))[0] == 0
    assert chain.started(folder) == []


def test_a_chain_of_version_0_1_stands_and_says_what_cannot_be_compared(tmp_path: Path) -> None:
    """Its states have no fingerprints. They get those of now, so that later changes are seen."""
    folder = Path(shutil.copytree(PIPELINE, tmp_path / "fixtures/pipeline"))
    data = make_data(tmp_path / "data", b"zero")
    tasks = on(data, chain.small_chain(folder))
    for task in tasks:
        check = check_task(task, FileHashes(folder / "none.json"))
        assert (check.up_to_date, check.uncompared) == (True, task.name in FIRST)
    code, lines = run(folder, tasks)
    assert (code, chain.started(folder)) == (0, [])
    said = [line for line in lines if "cannot be compared" in line]
    assert len(said) == 1
    assert said[0].startswith("2 tasks were finished by version 0.1")
    (versions,) = [line for line in lines if line.startswith("warning: ")]
    assert f"numerics 1 (now {NUMERICS})" in versions
    # Told once; and other data is seen from then on.
    assert not [line for line in run(folder, tasks)[1] if "cannot be compared" in line]
    (data / "Test/0.mp4").write_bytes(b"other")
    run(folder, tasks)
    assert set(chain.started(folder)) >= FIRST


def test_an_interrupted_training_of_version_0_1_goes_on(folder: Path, tmp_path: Path) -> None:
    tasks = chain.small_chain(folder)
    run(folder, tasks)
    state = json.loads(tasks[0].state_file.read_text())
    tasks[0].state_file.write_text(json.dumps({**state, "status": "started", "outputs": {}}))
    data = make_data(tmp_path / "data", b"zero")
    check = check_task(on(data, tasks)[0], FileHashes(folder / "none.json"))
    assert (check.resumable, check.uncompared) == (True, True)
    saved = folder / "first/a/checkpoints/latest"
    saved.write_text("4 of-before")
    run(folder, on(data, tasks))
    assert (folder / "first/a/best.pyth").read_text() == "of-before"


def test_versions_are_recorded_and_others_are_warned_of(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    run(folder, tasks)
    state = read_state(tasks[0].state_file)
    assert state is not None
    assert state.versions == library_versions()
    assert run(folder, tasks)[1] == []
    stored = json.loads(tasks[0].state_file.read_text())
    stored["versions"]["torch"] = "1.0.0"
    tasks[0].state_file.write_text(json.dumps(stored))
    (warning,) = run(folder, tasks)[1]
    assert "1 tasks that are up to date were made with torch 1.0.0 (now " in warning
    assert compare_versions(library_versions()) == ""


@pytest.mark.parametrize(
    ("overrides", "again"),
    [
        (("DATA.CACHE", "ram"), set()),
        (("DATA.CACHE", "disk", "DATA.CACHE_GIB", "3"), set()),
        (("DATA_LOADER.NUM_WORKERS", "7"), set()),
        (("DATA_LOADER.PREFETCH_FACTOR", "5"), set()),
        (("TRAIN.AUTO_RESUME", "False"), set()),
        (("ENHANCE.TEST", "none"), {"test"}),
        (("ENHANCE.TEST", "clahe"), {"test"}),
        (("ENHANCE.TEST", "clahe", "ENHANCE.CLAHE_CLIP", "3.0"), {"test"}),
        (("ENHANCE.VAL", "clahe", "ENHANCE.CLAHE_CLIP", "3.0"), {"train", "test"}),
        (("SOLVER.BASE_LR", "0.5"), {"train", "test"}),
    ],
)
def test_keys_that_change_nothing_redo_nothing(
    tmp_path: Path, overrides: tuple[str, ...], again: set[str]
) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL)
    before = plan(path, tmp_path)
    after = plan(path, tmp_path, overrides=overrides)
    assert {
        after[name].kind for name in before if after[name].signature != before[name].signature
    } == again


def test_the_plan_knows_the_videos_of_every_task(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(MINIMAL)
    for task in plan(path, tmp_path).values():
        if task.kind in ("train", "test"):
            lists = {name.removeprefix("list ") for name in task.inputs if name.startswith("list ")}
            assert set(task.videos) == lists
