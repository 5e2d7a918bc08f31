"""Tasks as jobs of a scheduler: run by submitit's local executor, and what Slurm is told of their order."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.utils.errors import UserError
from nightcrawler.workflow import slurm
from nightcrawler.workflow.console import Screen
from nightcrawler.workflow.task import Task, dependencies
from nightcrawler.workflow.task_state import read_state
from tests.paths import ROOT
from tests.workflow import chain

submitit = pytest.importorskip("submitit")


def alone(folder: Path, task: Task) -> list[str]:
    """The command that does one task of the small chain, as `--only` does."""
    program = "import sys; from pathlib import Path; from tests.workflow import chain; place = Path(sys.argv[1]); "
    program += "sys.exit(chain.run(place, chain.small_chain(place), selected={sys.argv[2]})[0])"
    return [sys.executable, "-c", program, str(folder), task.name]


def hand_in(folder: Path, tasks: list[Task]) -> tuple[int, dict[str, Any]]:
    make = functools.partial(slurm.make_executor, "local", folder / "jobs", [])
    jobs = slurm.submit(make, tasks, dependencies(tasks), lambda task: alone(folder, task), ROOT)
    return slurm.wait(tasks, jobs, Screen(quiet=True)), jobs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return chain.prepare(tmp_path / "run")


def test_jobs_do_their_tasks_and_record_them(folder: Path) -> None:
    tasks = chain.small_chain(folder)[:2]
    code, jobs = hand_in(folder, tasks)
    assert code == 0
    assert list(jobs) == [task.name for task in tasks] == chain.started(folder)
    assert [read_state(task.state_file).status for task in tasks] == ["done", "done"]
    state = {
        task["name"]: task["status"]
        for task in json.loads((folder / "pipeline.json").read_text())["links"]
    }
    assert state[tasks[0].name] == state[tasks[1].name] == "done"
    assert (
        chain.run(folder, chain.small_chain(folder), selected={task.name for task in tasks})[0] == 0
    )
    assert chain.started(folder) == []


def test_a_failed_job_fails_the_chain(folder: Path) -> None:
    (folder / "list.csv").write_text("break")
    code, jobs = hand_in(folder, chain.small_chain(folder)[:1])
    assert code == 1
    assert "exit code 1" in str(next(iter(jobs.values())).exception())


def test_slurm_is_told_what_must_end_well_first(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `sbatch` that only numbers what it is given, and keeps it."""
    bin_folder, kept = tmp_path / "bin", tmp_path / "kept"
    bin_folder.mkdir()
    kept.mkdir()
    (bin_folder / "sbatch").write_text(
        f'#!/bin/sh\nn=$(ls {kept} | wc -l)\ncp "$1" {kept}/$((100 + n))\necho "Submitted batch job $((100 + n))"\n'
    )
    (bin_folder / "srun").write_text("#!/bin/sh\n")
    for path in bin_folder.iterdir():
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}:/usr/bin:/bin")
    tasks = chain.small_chain(folder)
    settings = ["slurm_partition=night", "timeout_min=90"]
    make = functools.partial(slurm.make_executor, "slurm", folder / "jobs", settings)
    jobs = slurm.submit(make, tasks, dependencies(tasks), lambda task: alone(folder, task), ROOT)
    assert [job.job_id for job in jobs.values()] == [
        str(100 + number) for number in range(len(tasks))
    ]
    asked = {}
    for name, job in jobs.items():
        lines = (kept / job.job_id).read_text().splitlines()
        options = dict(
            line.removeprefix("#SBATCH --").split("=", 1)
            for line in lines
            if line.startswith("#SBATCH --") and "=" in line
        )
        assert (options["partition"], options["time"], options["kill-on-invalid-dep"]) == (
            "night",
            "90",
            "yes",
        )
        assert options["job-name"] == name.replace("/", "-")
        asked[name] = options.get("dependency")
    assert asked["train/first/a"] is None
    for name, before in dependencies(tasks).items():
        assert asked[name] == (
            f"afterok:{':'.join(jobs[other].job_id for other in before)}" if before else None
        )


@pytest.mark.parametrize("setting", ["partition", "=x", "slurm_no_such=1"])
def test_settings_that_are_none_are_refused(folder: Path, setting: str) -> None:
    with pytest.raises(UserError, match=r"--slurm|--executor"):
        slurm.make_executor("local", folder, [setting])


def test_a_preempted_job_is_queued_again_with_its_command(tmp_path: Path) -> None:
    again = slurm.TaskJob(["a", "b"], tmp_path).checkpoint()
    assert (again.function.command, again.function.root) == (["a", "b"], tmp_path)
