"""What a task removes: its own files, never what a task state names, never through a link; nothing finished is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nightcrawler.config.identity import run_values
from nightcrawler.config.node import dump, get_cfg
from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.workflow.console import plan_rows
from nightcrawler.workflow.own_files import SUPERSEDED, find_own_files
from nightcrawler.workflow.task import Task
from tests.workflow import chain
from tests.workflow.test_plan import UG2, plan

NAME = "train/first/a"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return chain.prepare(tmp_path / "run")


def precious(tmp_path: Path) -> Path:
    """A folder of the user's, outside the run."""
    path = tmp_path / "home/thesis.txt"
    path.parent.mkdir()
    path.write_text("years of work\n")
    return path


def poison(task: Task, names: list[str]) -> None:
    """Let a task's state name other outputs, and be out of date."""
    state = json.loads(task.state_file.read_text())
    state.update(outputs=dict.fromkeys(names, "0"), key="0")
    task.state_file.write_text(json.dumps(state))


@pytest.mark.parametrize("kind", ["train", "test", "label", "vote"])
@pytest.mark.parametrize("status", ["done", "failed", "started", "redo"])
def test_outputs_that_a_state_names_are_not_removed(
    folder: Path, tmp_path: Path, kind: str, status: str
) -> None:
    tasks = [replace(task, earlier_outputs=("*x*",)) for task in chain.small_chain(folder)]
    assert chain.run(folder, tasks)[0] == 0
    path = precious(tmp_path)
    inside = folder / "first/a/notes/x"
    inside.parent.mkdir()
    inside.write_text("mine")
    link = folder / "first/a/1x2"
    link.symlink_to(path)
    task = next(task for task in tasks if task.kind == kind)
    names = [str(path), str(path.parent), "../../../home", "../a/notes/x", "notes/x", "1x2", "1x\0"]
    poison(task, names)
    state = json.loads(task.state_file.read_text())
    task.state_file.write_text(json.dumps({**state, "status": status}))
    assert chain.run(folder, tasks, redo=True)[0] == 0
    assert path.read_text() == "years of work\n"
    assert inside.read_text() == "mine"
    assert link.is_symlink()


def test_a_results_file_of_an_earlier_name_is_removed(tmp_path: Path) -> None:
    """The views changed: results of the old views would be found beside those of the new."""
    task = next(task for task in plan(UG2, tmp_path).values() if task.kind == "test")
    split = task.about["split"]
    task.folder.mkdir(parents=True)
    for name in (f"{split}x32x224x9x3.pkl", f"{split}xmas.pkl", "notes.txt"):
        (task.folder / name).write_text("")
    recorded = [f"{split}x32x224x9x3.pkl", f"{split}xmas.pkl", "notes.txt", "gone.pkl"]
    assert [path.name for path in find_own_files(task, recorded)] == [f"{split}x32x224x9x3.pkl"]


def test_own_names_in_the_folder_of_checkpoints_and_no_others(tmp_path: Path) -> None:
    task = next(task for task in plan(UG2, tmp_path).values() if task.kind == "train")
    names = {
        "best.pyth": True,
        "checkpoints/checkpoint_latest.pyth": True,
        "checkpoints/checkpoint_previous_2.pyth.sha256": True,
        "checkpoints/my_best_ever.pyth": False,
        "checkpoints/deep/checkpoint_latest.pyth": False,
        "tensorboard/events.out.tfevents.1": True,
        "tensorboard/figure.png": False,
        "run.json": True,
        "notes.md": False,
    }
    for name in names:
        (task.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (task.folder / name).write_text("")
    found = {str(path.relative_to(task.folder)) for path in find_own_files(task)}
    assert found == {name for name, own in names.items() if own}


@pytest.mark.parametrize("where", ["stage", "checkpoints"])
def test_nothing_is_removed_behind_a_link(folder: Path, tmp_path: Path, where: str) -> None:
    first, *rest = chain.small_chain(folder)
    tasks = [replace(first, root=folder), *rest]
    assert chain.run(folder, tasks)[0] == 0
    linked = folder / ("first" if where == "stage" else "first/a/checkpoints")
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    before = sorted((tmp_path / "elsewhere").rglob("*"))
    other = [replace(tasks[0], signature="new"), *rest]
    code, runner = chain.run(folder, other, redo=True)
    assert code == 1
    assert f"{linked}: is a link, and {NAME} would remove" in runner.reasons[NAME]
    assert sorted((tmp_path / "elsewhere").rglob("*")) == before


def configured(task: Task, rate: float) -> Task:
    """A training of a learning rate, whose signature depends on it."""
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR = rate
    return replace(task, signature=str(rate), config=run_values(cfg))


def test_a_changed_setting_does_not_discard_a_training(folder: Path) -> None:
    first, *rest = chain.small_chain(folder)
    tasks = [configured(first, 0.001), *rest]
    assert chain.run(folder, tasks)[0] == 0
    chain.journal(folder)
    cfg = get_cfg()
    cfg.SOLVER.BASE_LR = 0.001
    (first.folder / "resolved.yaml").write_text(dump(cfg))
    before = chain.outputs(folder, tasks)
    other = [configured(first, 0.002), *rest]
    code, runner = chain.run(folder, other)
    assert code == 1
    assert "SOLVER.BASE_LR 0.001 (now 0.002)" in runner.reasons[NAME]
    assert "--redo" in runner.reasons[NAME]
    assert chain.started(folder) == []
    assert chain.outputs(folder, tasks) == before
    rows = plan_rows(other, FileHashes(folder / "none.json"), set(), {NAME})
    assert "SOLVER.BASE_LR 0.001 (now 0.002)" in rows[0].reason
    assert chain.run(folder, tasks)[0] == 0
    assert chain.started(folder) == [], "with the settings that it was made with, all is done"
    assert chain.run(folder, other, redo=True)[0] == 0
    assert chain.started(folder)[0] == NAME


def test_checkpoints_of_an_unfinished_training_are_not_discarded_either(folder: Path) -> None:
    first, *rest = chain.small_chain(folder)
    chain.run(folder, [first, *rest])
    state = json.loads(first.state_file.read_text())
    first.state_file.write_text(json.dumps({**state, "status": "failed", "outputs": {}}))
    saved = first.folder / "checkpoints/checkpoint_latest.pyth"
    saved.write_text("90 of 100 epochs")
    other = [replace(first, signature="new", leftovers=("checkpoints/checkpoint_*.pyth",)), *rest]
    code, runner = chain.run(folder, other)
    assert code == 1
    assert "holds a training of another configuration" in runner.reasons[NAME]
    assert saved.read_text() == "90 of 100 epochs"


def test_a_training_of_other_inputs_is_moved_aside(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    chain.run(folder, tasks)
    chain.journal(folder)
    before = (folder / "first/a/best.pyth").read_bytes()
    for number in (1, 2):
        (folder / "list.csv").write_text(f"new{number}.mp4,1\n")
        assert chain.run(folder, tasks)[0] == 0
        assert NAME in chain.started(folder)
    kept = sorted((folder / "first/a" / SUPERSEDED).iterdir())
    assert len(kept) == 2
    assert before in [(one / "best.pyth").read_bytes() for one in kept]
    assert (folder / "first/a/best.pyth").read_bytes() != before


def test_results_that_someone_changed_are_moved_aside(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    chain.run(folder, tasks)
    (folder / "pseudo/second.csv").write_text("corrected by hand for a week\n")
    assert chain.run(folder, tasks)[0] == 0
    (kept,) = (folder / "pseudo" / SUPERSEDED).iterdir()
    assert (kept / "second.csv").read_text() == "corrected by hand for a week\n"


def test_results_of_another_configuration_are_moved_aside(folder: Path) -> None:
    tasks = chain.small_chain(folder)
    chain.run(folder, tasks)
    before = (folder / "first/a/1.pkl").read_bytes()
    other = [
        replace(task, signature="new") if task.name == "test/first/a" else task for task in tasks
    ]
    assert chain.run(folder, other)[0] == 0
    (kept,) = (folder / "first/a" / SUPERSEDED).iterdir()
    assert (kept / "1.pkl").read_bytes() == before


@pytest.mark.parametrize(
    "harm", [lambda path: path.unlink(), lambda path: path.write_text("damaged")]
)
def test_a_lost_checkpoint_does_not_take_the_rest_along(
    folder: Path, harm: Callable[[Path], object]
) -> None:
    """`best.pyth` alone is gone: the checkpoints, from which it could come back, are kept."""
    first, *rest = chain.small_chain(folder)
    tasks = [replace(first, leftovers=("checkpoints/*.pyth", "checkpoints/latest")), *rest]
    chain.run(folder, tasks)
    saved = first.folder / "checkpoints/checkpoint_latest.pyth"
    saved.write_text("100 of 100 epochs")
    harm(first.folder / "best.pyth")
    chain.run(folder, tasks)
    (kept,) = (first.folder / SUPERSEDED).iterdir()
    assert (kept / "checkpoints" / saved.name).read_text() == "100 of 100 epochs"


def test_every_task_of_the_plan_stays_below_its_root(tmp_path: Path) -> None:
    for task in plan(UG2, tmp_path).values():
        assert task.folder.is_relative_to(task.root or task.folder)
        for pattern in (*task.leftovers, *task.earlier_outputs):
            assert not pattern.startswith(("/", "*")), pattern
            assert ".." not in pattern.split("/")
