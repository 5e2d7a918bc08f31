"""Tasks as jobs on this machine: order, room, stops and failures; other executors give the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nightcrawler.workflow.console import Screen
from nightcrawler.workflow.job_queue import JobQueue
from nightcrawler.workflow.local_jobs import LocalExecutor
from nightcrawler.workflow.recipe_file import Resources
from nightcrawler.workflow.task import Task, dependencies
from nightcrawler.workflow.task_state import read_state
from tests.paths import ROOT
from tests.waiting import wait_until
from tests.workflow import chain


def run_jobs(folder: Path, tasks: list[Task], jobs: int = 2, gpus: tuple[str, ...] = ()) -> int:
    executor = LocalExecutor(ROOT, folder / "jobs", jobs, gpus)
    command = chain.job_command_of(folder)
    queue = JobQueue(tasks, dependencies(tasks), executor, command, Screen(quiet=True))
    return queue.run()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return chain.prepare(tmp_path / "run")


def test_jobs_give_the_bytes_of_the_runner(folder: Path, tmp_path: Path) -> None:
    tasks = chain.small_chain(folder)
    assert run_jobs(folder, tasks) == 0
    other = chain.prepare(tmp_path / "other")
    assert chain.run(other, chain.small_chain(other))[0] == 0
    assert chain.outputs(folder, tasks) == chain.outputs(other, chain.small_chain(other))
    assert {read_state(task.state_file).status for task in tasks} == {"done"}
    # Each task once, none before one that it needs.
    started = chain.started(folder)
    assert sorted(started) == sorted(task.name for task in tasks)
    for name, before in dependencies(tasks).items():
        assert all(started.index(one) < started.index(name) for one in before)


def test_as_many_jobs_run_as_the_graph_allows(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two trainings need nothing: each waits until both have started, so that one at a time fails."""
    monkeypatch.setenv("FAKE_TASK_STARTS", "2")
    assert run_jobs(folder, chain.small_chain(folder)[:4]) == 0


def test_no_more_jobs_run_than_asked_for(folder: Path) -> None:
    assert run_jobs(folder, chain.small_chain(folder, 0.1)[:4], jobs=1) == 0
    lines = chain.journal(folder)
    assert [line.split()[0] for line in lines] == ["start", "end"] * 4


def test_a_failed_job_blocks_those_after_it(folder: Path) -> None:
    (folder / "recipe.txt").write_text("break")
    tasks = chain.small_chain(folder)
    assert run_jobs(folder, tasks) == 1
    statuses = {task.name: read_state(task.state_file) for task in tasks}
    assert statuses["label/second"].status == "failed"
    assert statuses["test/first/b"].status == "done"
    assert statuses["train/second/a"] is None
    assert "input says break" in statuses["label/second"].error


def test_a_task_that_was_stopped_is_queued_again(folder: Path) -> None:
    """SIGTERM to the job of a training, as a scheduler does it: 75, and the training resumes."""
    tasks = chain.small_chain(folder, 2.0)[:1]
    executor = LocalExecutor(ROOT, folder / "jobs", 1)
    queue = JobQueue(
        tasks, dependencies(tasks), executor, chain.job_command_of(folder, 2.0), Screen(quiet=True)
    )

    def stop_first() -> None:
        saved = folder / "first/a/checkpoints/latest"
        wait_until(lambda: saved.exists() and saved.read_text()[0] == "1", 60)
        os.kill(int(queue.jobs[tasks[0].name].label), signal.SIGTERM)

    with chain.in_thread(stop_first):
        assert queue.run() == 0
    assert chain.started(folder) == ["train/first/a"] * 2


@pytest.mark.slow
def test_a_stopped_queue_ends_with_75_and_goes_on(folder: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.workflow.chain", "jobs", str(folder), "0.4", "2"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(program, env=env, cwd=ROOT) as process:
        wait_until((folder / "second/a/checkpoints/latest").exists, 60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 75
    assert subprocess.run(program, env=env, cwd=ROOT, timeout=120, check=False).returncode == 0
    other = chain.prepare(tmp_path / "other")
    assert chain.run(other, chain.small_chain(other))[0] == 0
    assert (folder / "vote/arid_pred.csv").read_bytes() == (
        other / "vote/arid_pred.csv"
    ).read_bytes()


def test_jobs_share_out_the_gpus(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training takes one, a task that asks for two waits for both, a label sees none."""
    shown = folder / "shown"
    shown.mkdir()
    tasks = [
        Task("train/a", "train", (), "", {}, (folder / "a",), folder),
        Task("train/b", "train", (), "", {}, (folder / "b",), folder),
        Task("train/c", "train", (), "", {}, (folder / "c",), folder, resources=Resources(GPUS=5)),
        Task("label/d", "label", (), "", {}, (folder / "d",), folder),
    ]
    executor = LocalExecutor(ROOT, folder / "jobs", 4, ("3", "7"))
    code = "import os, pathlib, sys, time; time.sleep(0.3); "
    code += "pathlib.Path(sys.argv[1]).write_text(os.environ['CUDA_VISIBLE_DEVICES'])"
    queue = JobQueue(
        tasks,
        dependencies(tasks),
        executor,
        lambda task: [sys.executable, "-c", code, str(shown / task.slug)],
        Screen(quiet=True),
    )
    assert queue.run() == 0
    found = {path.name: path.read_text() for path in shown.iterdir()}
    assert found["train-c"] == "3,7"
    assert found["label-d"] == ""
    assert {found["train-a"], found["train-b"]} == {"3", "7"}


def test_the_whole_pipeline_is_recorded(folder: Path) -> None:
    assert run_jobs(folder, chain.small_chain(folder)[:2]) == 0
    links = json.loads((folder / "pipeline.json").read_text())["links"]
    assert [link["status"] for link in links[:2]] == ["done", "done"]
