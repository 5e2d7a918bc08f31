"""Tasks that share a process: own logs and states, failures of one, a kill in the middle."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nightcrawler.workflow.console import Screen
from nightcrawler.workflow.run import Runner
from nightcrawler.workflow.run_options import RunOptions
from nightcrawler.workflow.shared_process import can_share
from nightcrawler.workflow.task import Task
from nightcrawler.workflow.task_state import read_state
from tests.paths import ROOT

NAMES = ("a", "b", "c")


@pytest.fixture
def tasks(tmp_path: Path) -> list[Task]:
    """Three tasks of one group that write list files, without torch."""
    for label in ("Run", "Walk"):
        (tmp_path / f"src/{label}").mkdir(parents=True)
        for number in range(3):
            (tmp_path / f"src/{label}/{number}.mp4").touch()
    found = []
    for name in NAMES:
        folder = tmp_path / name
        words = ("prepare", "tree", str(tmp_path / "src"), "--out", str(folder))
        task = Task(
            f"test/{name}",
            "test",
            (sys.executable, "-m", "nightcrawler", *words),
            "1",
            {},
            (folder / "train_label+val_dry.csv",),
            folder,
            group="g",
        )
        found.append(task)
    return found


def runner(tmp_path: Path, tasks: list[Task], jobs: int = 1) -> Runner:
    return Runner(tasks, RunOptions(ROOT, tmp_path / "state", jobs=jobs), None, Screen(quiet=True))


def report(tmp_path: Path) -> list[list[float]]:
    lines = (tmp_path / "state/logs/test-a.report").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_tasks_of_a_group_share_the_process_of_the_only_job(
    tmp_path: Path, tasks: list[Task]
) -> None:
    assert runner(tmp_path, tasks).run() == 0
    assert [code for code, _ in report(tmp_path)] == [0, 0, 0]
    for name, task in zip(NAMES, tasks, strict=True):
        log = (tmp_path / f"state/logs/test-{name}.log").read_text()
        # Each as if it had run alone: its command, its output, its state.
        assert log.count("\n== ") == 1
        assert f"--out {tmp_path / name}\n" in log
        assert f"{tmp_path / name}/train_label+val_dry.csv: to be written" in log
        state = read_state(task.state_file)
        assert state is not None
        assert (state.status, state.command) == ("done", list(task.command))
        assert 0 < state.seconds < 30
    again = runner(tmp_path, tasks)
    assert again.run() == 0
    assert set(again.reasons.values()) == {"up to date"}


def test_free_jobs_run_the_tasks_side_by_side(tmp_path: Path, tasks: list[Task]) -> None:
    assert runner(tmp_path, tasks, jobs=3).run() == 0
    assert not list((tmp_path / "state/logs").glob("*.report"))


def test_one_that_fails_leaves_the_others_alone(tmp_path: Path, tasks: list[Task]) -> None:
    words = [str(tmp_path / "no") if "src" in word else word for word in tasks[1].command]
    tasks[1] = replace(tasks[1], command=tuple(words))
    found = runner(tmp_path, tasks)
    assert found.run() == 1
    assert [code for code, _ in report(tmp_path)] == [0, 2, 0]
    assert list(found.status.values()) == ["done", "failed", "done"]
    reason = found.reasons["test/b"]
    assert reason.startswith(f"error: {tmp_path / 'no'}: no such folder (exit code 2, log: ")
    assert reason.endswith("test-b.log)")


def test_wrong_options_end_one_command_only(tmp_path: Path, tasks: list[Task]) -> None:
    tasks[0] = replace(tasks[0], command=(*tasks[0].command, "--nonsense"))
    found = runner(tmp_path, tasks)
    assert found.run() == 1
    assert list(found.status.values()) == ["failed", "done", "done"]


DEADLY = """\
import os, signal, sys

def hook(event, arguments):
    if event == "os.rename" and "/b/train_label" in str(arguments[1]):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
"""


def test_a_process_that_is_killed_fails_one_task_and_the_rest_get_another(
    tmp_path: Path, tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(DEADLY)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{ROOT}")
    found = runner(tmp_path, tasks)
    assert found.run() == 1
    assert list(found.status.values()) == ["done", "failed", "done"]
    assert "exit code -9" in found.reasons["test/b"]
    # The third ran in a process of its own, after the one that it shared had died.
    assert [code for code, _ in report(tmp_path)] == [0]
    assert (tmp_path / "state/logs/test-c.log").read_text().count("\n== ") == 2


def test_other_programs_and_other_groups_share_nothing(tasks: list[Task]) -> None:
    first, second, _ = tasks
    assert can_share(first, second)
    assert not can_share(first, replace(second, group="h"))
    assert not can_share(replace(first, group=""), replace(second, group=""))
    assert not can_share(first, replace(second, command=("python", "x.py", "y")))
    assert not can_share(replace(first, command=()), second)
