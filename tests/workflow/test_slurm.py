"""Tasks as jobs of a real Slurm: order, resources, kills, preemption, and a launcher that is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nightcrawler.utils.errors import UserError
from nightcrawler.workflow import slurm as executor_module
from nightcrawler.workflow.console import Screen
from nightcrawler.workflow.job_queue import JobQueue
from nightcrawler.workflow.recipe_file import Resources
from nightcrawler.workflow.slurm import SlurmExecutor, parse_settings
from nightcrawler.workflow.task import dependencies
from nightcrawler.workflow.task_state import read_state
from tests import slurm
from tests.paths import ROOT
from tests.waiting import wait_until
from tests.workflow import chain

pytest.importorskip("submitit", reason="needs the extra: pip install 'nightcrawler-video[slurm]'")
# A job starts Python twice and imports submitit: seconds on a busy machine.
pytestmark = pytest.mark.timeout(600)
FIELD = re.compile(r"(\S+?)=(\S*)")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(executor_module, "QUEUE_SEC", 0.3)
    return chain.prepare(tmp_path / "run")


def queue_of(folder: Path, seconds: float = 0.0, count: int = 11, *settings: str) -> JobQueue:
    """Queue of the first tasks of the small chain."""
    tasks = chain.small_chain(folder, seconds)[:count]
    executor = SlurmExecutor(ROOT, folder / "jobs", settings)
    command = chain.job_command_of(folder, seconds)
    return JobQueue(tasks, dependencies(tasks), executor, command, Screen(quiet=True))


def vote_of_runner(folder: Path) -> bytes:
    """Submission of the small chain, made by the runner in another folder."""
    other = chain.prepare(folder.parent / "other")
    assert chain.run(other, chain.small_chain(other))[0] == 0
    return (other / "vote/arid_pred.csv").read_bytes()


def job_facts(name: str) -> dict[str, str]:
    """Return what Slurm knows of a job that waits or runs."""
    numbers = [line.split()[0] for line in slurm.jobs() if line.split()[1] == name]
    return dict(FIELD.findall(slurm.ask("scontrol", "show", "job", "-o", numbers[0])))


def wait_for_step(folder: Path, task: str) -> None:
    saved = folder / task / "checkpoints/latest"
    wait_until(saved.exists, 120, f"{task} has saved")


@pytest.mark.slow
def test_a_killed_job_and_a_killed_launcher_change_no_byte(real_slurm: Path, folder: Path) -> None:
    program = [sys.executable, "-m", "tests.workflow.chain", "slurm", str(folder), "1.0"]
    with subprocess.Popen(program, cwd=ROOT) as launcher:
        wait_for_step(folder, "first/a")
        number = next(line.split()[0] for line in slurm.jobs() if " train-first-a " in line)
        slurm.ask("scancel", "--signal=KILL", "--full", number)
        launcher.kill()
        launcher.wait(60)
    # Slurm cancels what needs the killed job; what does not goes on without a launcher.
    wait_until(lambda: not any("train-first-a" in line for line in slurm.jobs()), 60)
    assert read_state(chain.small_chain(folder)[0].state_file).status == "started"
    assert subprocess.run(program, cwd=ROOT, timeout=500, check=False).returncode == 0
    assert (folder / "vote/arid_pred.csv").read_bytes() == vote_of_runner(folder)
    assert chain.started(folder).count("train/first/a") == 2


def test_jobs_of_a_launcher_that_is_gone_are_watched(real_slurm: Path, folder: Path) -> None:
    first = queue_of(folder, 2.0, 2)
    assert first._submit_ready()
    numbers = [job.label for job in first.jobs.values()]
    # Training and test; the second waits for the first.
    assert len(numbers) == 2
    assert job_facts("test-first-a")["Dependency"].startswith(f"afterok:{numbers[0]}")
    second = queue_of(folder, 2.0, 2)
    assert second.run() == 0
    assert [job.label for job in second.jobs.values()] == numbers
    assert chain.started(folder) == ["train/first/a", "test/first/a"]
    # Another command for the same task is another job.
    assert queue_of(folder, 0.0, 2).executor._found == {}


@pytest.mark.slow
@pytest.mark.parametrize("number", ["USR2", "TERM"])
def test_a_job_that_saved_itself_is_queued_again(
    real_slurm: Path, folder: Path, number: str
) -> None:
    """USR2 is what submitit asks Slurm for ahead of the time limit; TERM reaches the task itself."""
    queue = queue_of(folder, 4.0, 1)

    def stop() -> None:
        wait_for_step(folder, "first/a")
        job = queue.jobs["train/first/a"].label
        if number == "USR2":
            slurm.ask("scancel", "--signal=USR2", job)
        else:
            os.kill(pid_of_job(folder), signal.SIGTERM)

    with chain.in_thread(stop):
        assert queue.run() == 0
    assert chain.started(folder) == ["train/first/a"] * 2
    facts = slurm.ask("scontrol", "show", "job", "-o", queue.jobs["train/first/a"].label)
    assert " Restarts=1 " in facts


def pid_of_job(folder: Path) -> int:
    """Process of the pipeline command of a job."""
    found = subprocess.run(
        ["pgrep", "-f", f"tests.workflow.chain only {folder}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout.split()[0])


def test_a_cancelled_job_stays_cancelled(real_slurm: Path, folder: Path) -> None:
    """Its training saves itself and ends with 75, as one that is to be queued again does."""
    queue = queue_of(folder, 4.0, 2)

    def cancel() -> None:
        wait_for_step(folder, "first/a")
        slurm.ask("scancel", queue.jobs["train/first/a"].label)

    with chain.in_thread(cancel):
        assert queue.run() == 1
    assert queue.status == {"train/first/a": "failed", "test/first/a": "blocked"}
    assert slurm.jobs() == []
    assert chain.started(folder) == ["train/first/a"]


def test_a_failed_task_fails_its_job_and_cancels_those_after_it(
    real_slurm: Path, folder: Path
) -> None:
    (folder / "list.csv").write_text("break")
    queue = queue_of(folder, 0.0, 2)
    assert queue.run() == 1
    assert queue.status == {"train/first/a": "failed", "test/first/a": "blocked"}


def test_slurm_is_asked_for_the_resources_of_the_recipe(real_slurm: Path, folder: Path) -> None:
    resources = Resources(CPUS=3, MEMORY_GB=2.5, GPUS=2, MINUTES=90, PARTITION="night")
    task = chain.small_chain(folder, 60)[0]
    object.__setattr__(task, "resources", resources)
    executor = SlurmExecutor(ROOT, folder / "jobs", ["timeout_min=45"])
    job = executor.submit(task, [sys.executable, "-c", "import time; time.sleep(60)"], [])
    facts = job_facts("train-first-a")
    assert facts["JobId"] == job.label
    assert facts["Partition"] == "night"
    assert facts["CPUs/Task"] == "3"
    assert facts["MinMemoryNode"] == "2.50G"
    assert facts["TresPerNode"] == "gres:gpu:2"
    # What the command line asks for wins.
    assert facts["TimeLimit"] == "00:45:00"
    assert facts["Requeue"] == "1"


def test_a_partition_that_is_none_is_refused_before_the_first_job(
    real_slurm: Path, folder: Path
) -> None:
    with pytest.raises(UserError, match="no_such"):
        queue_of(folder, 0.0, 1, "slurm_partition=no_such").run()
    assert slurm.jobs() == []


@pytest.mark.parametrize("setting", ["partition", "=x", "Slurm=1", "timeout_min=1-00:00:00"])
def test_settings_that_are_none_are_refused(setting: str) -> None:
    with pytest.raises(UserError, match="--slurm"):
        parse_settings([setting])


def test_an_unknown_setting_is_refused(real_slurm: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="slurm_no_such"):
        SlurmExecutor(ROOT, tmp_path, ["slurm_no_such=1"])
