"""Jobs and shards as tasks of a real Ray: the bytes of the runner, also after a worker is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightcrawler.utils import ray_tasks
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow.console import Screen
from nightcrawler.workflow.job_queue import JobQueue
from nightcrawler.workflow.ray_jobs import RayExecutor
from nightcrawler.workflow.recipe_file import Resources
from nightcrawler.workflow.task import Task, dependencies
from tests.paths import ROOT
from tests.waiting import wait_until
from tests.workflow import chain

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def real_ray() -> Iterator[None]:
    """A Ray of two processors on this machine."""
    ray = pytest.importorskip("ray", reason="needs the extra cluster")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Idle workers and the store of objects are small here.
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000
        )
        yield
        ray.shutdown()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return chain.prepare(tmp_path / "run")


def queue_of(folder: Path, tasks: list[Task], seconds: float) -> JobQueue:
    executor = RayExecutor(ROOT, folder / "jobs")
    command = chain.job_command_of(folder, seconds)
    return JobQueue(tasks, dependencies(tasks), executor, command, Screen(quiet=True))


def parent_of(pid: int) -> int:
    """Process that started another."""
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def pid_of_job(folder: Path, task: str) -> int:
    """Process of the command of a job."""
    found = subprocess.run(
        ["pgrep", "-f", f"tests.workflow.chain only {folder} .* {task}$"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout.split()[0])


@pytest.mark.slow
def test_a_killed_worker_changes_no_byte(real_ray: None, folder: Path, tmp_path: Path) -> None:
    tasks = chain.small_chain(folder, 1.0)
    queue = queue_of(folder, tasks, 1.0)
    killed = []

    def kill() -> None:
        wait_until((folder / "second/b/checkpoints/latest").exists, 300)
        killed.append(parent_of(pid_of_job(folder, "train/second/b")))
        os.kill(killed[0], signal.SIGKILL)

    with chain.in_thread(kill):
        assert queue.run() == 0
    assert killed
    other = chain.prepare(tmp_path / "other")
    assert chain.run(other, chain.small_chain(other))[0] == 0
    assert chain.outputs(folder, tasks) == chain.outputs(other, chain.small_chain(other))
    started = chain.started(folder)
    assert started.count("train/second/b") == 2
    assert len(started) == len(tasks) + 1


def test_a_failed_job_fails_the_chain(real_ray: None, folder: Path) -> None:
    (folder / "list.csv").write_text("break")
    queue = queue_of(folder, chain.small_chain(folder)[:2], 0.0)
    assert queue.run() == 1
    assert queue.status == {"train/first/a": "failed", "test/first/a": "blocked"}


def test_a_stopped_queue_lets_its_jobs_save_themselves(real_ray: None, folder: Path) -> None:
    tasks = chain.small_chain(folder, 4.0)[:1]
    queue = queue_of(folder, tasks, 4.0)

    def stop() -> None:
        wait_until((folder / "first/a/checkpoints/latest").exists, 300)
        os.kill(os.getpid(), signal.SIGTERM)

    with chain.in_thread(stop):
        assert queue.run() == 75
    step = int((folder / "first/a/checkpoints/latest").read_text().split()[0])
    assert step < 4
    assert queue_of(folder, tasks, 0.0).run() == 0


def test_a_job_gets_the_resources_of_the_recipe(real_ray: None, folder: Path) -> None:
    """Two jobs of two processors each do not run side by side."""
    tasks = [
        Task(f"label/{name}", "label", (), "", {}, (folder / name,), folder, resources=resources)
        for name, resources in (("a", Resources(CPUS=2)), ("b", Resources(CPUS=2, MEMORY_GB=0.1)))
    ]
    code = "import sys, time\nfor word in ('start', 'end'):\n"
    code += "    print(word, file=open(sys.argv[1], 'a'))\n    time.sleep(0.5)"
    queue = JobQueue(
        tasks,
        dependencies(tasks),
        RayExecutor(ROOT, folder / "jobs"),
        lambda task: [sys.executable, "-S", "-c", code, str(folder / "order")],
        Screen(quiet=True),
    )
    assert queue.run() == 0
    assert (folder / "order").read_text().split() == ["start", "end"] * 2


@pytest.mark.parametrize(
    "resources", [Resources(GPUS=1), Resources(CPUS=3), Resources(MEMORY_GB=9e6)]
)
def test_a_task_that_no_machine_can_hold_is_refused(
    real_ray: None, folder: Path, resources: Resources
) -> None:
    """Ray would wait for such a machine without an end."""
    task = Task("label/a", "label", (), "", {}, (folder / "a",), folder, resources=resources)
    with pytest.raises(UserError, match=r"label/a: no machine of Ray has .*; the first has CPU 2"):
        RayExecutor(ROOT, folder / "jobs", [task])


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"--ray needs the extra cluster: .*\[cluster\]"):
        ray_tasks.connect("--ray")
