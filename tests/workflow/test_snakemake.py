"""A chain as a workflow of a real Snakemake: whole, killed in the middle, and with a changed input."""

from __future__ import annotations

import functools
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.file_hashes import FileHashes
from nightcrawler.workflow.console import plan_rows
from nightcrawler.workflow.recipe_file import Resources
from nightcrawler.workflow.snakemake_file import write_snakefile
from nightcrawler.workflow.task import Task, dependencies
from tests.paths import ROOT
from tests.waiting import wait_until
from tests.workflow import chain

# It wants other versions of packages than the project has, so it has an environment of its own.
OWN = ROOT / "build/snakemake/bin/snakemake"
SNAKEMAKE = os.environ.get("SNAKEMAKE") or shutil.which("snakemake") or (OWN.exists() and str(OWN))
needs_snakemake = pytest.mark.skipif(
    not SNAKEMAKE, reason="needs Snakemake: make snakemake, or SNAKEMAKE=its program"
)
pytestmark = [pytest.mark.timeout(900), needs_snakemake]
RULE = re.compile(r"Finished jobid: \d+ \(Rule: t\d+_(\w+)\)")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    # Its own cache of sources lies in the home folder.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    # A space and a quote, which a shell reads in ways of its own.
    return chain.prepare(tmp_path / "a 'run")


def _command(folder: Path, seconds: float, task: Task) -> list[str]:
    return [*chain.job_command_of(folder, seconds)(task), "{ignored}"]


def write(folder: Path, tasks: list[Task], seconds: float = 0.0) -> Path:
    path = folder / "Snakefile"
    rows = plan_rows(tasks, FileHashes(folder / "hashes"), set(), {task.name for task in tasks})
    # Braces are those of Snakemake's wildcards.
    command = functools.partial(_command, folder, seconds)
    write_snakefile(path, rows, dependencies(tasks), command, ROOT, folder / "snakemake")
    return path


def command_of(path: Path, *options: str) -> list[str]:
    return [str(SNAKEMAKE), "--snakefile", str(path), "--cores", "2", "--nocolor", *options]


def run(path: Path, *options: str, code: int = 0) -> list[str]:
    """Names of the rules that Snakemake ran."""
    done = subprocess.run(
        command_of(path, "--rerun-incomplete", *options),
        # Its logs go to the folder in which it is started.
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return RULE.findall(done.stdout + done.stderr)


@pytest.mark.slow
def test_a_whole_run_has_the_bytes_of_the_runner(folder: Path, tmp_path: Path) -> None:
    tasks = chain.small_chain(folder)
    assert len(run(write(folder, tasks))) == len(tasks)
    other = chain.prepare(tmp_path / "other")
    assert chain.run(other, chain.small_chain(other))[0] == 0
    assert chain.outputs(folder, tasks) == chain.outputs(other, chain.small_chain(other))
    chain.started(folder)
    assert run(folder / "Snakefile") == []
    # Written again, it knows what is up to date, in another folder too.
    shutil.rmtree(folder / "snakemake")
    assert run(write(folder, tasks)) == []

    # A changed input: what depends on it runs again, and nothing else.
    (folder / "recipe.txt").write_text("other\n")
    after = ["label/second", "train/second/a", "train/second/b", "test/second/a", "test/second/b"]
    after.append("vote")
    rules = run(folder / "Snakefile")
    assert sorted(rules) == sorted(name.replace("/", "_") for name in after)
    assert sorted(chain.started(folder)) == sorted(after)
    (other / "recipe.txt").write_text("other\n")
    assert chain.run(other, chain.small_chain(other))[0] == 0
    assert chain.outputs(folder, tasks) == chain.outputs(other, chain.small_chain(other))

    # An output that is gone is seen by the plan.
    (folder / "second/b/1.pkl").unlink()
    assert sorted(run(write(folder, tasks))) == ["test_second_b", "vote"]
    assert chain.started(folder) == ["test/second/b"]


@pytest.mark.slow
def test_a_killed_run_goes_on(folder: Path, tmp_path: Path) -> None:
    tasks = chain.small_chain(folder, 1.0)
    path = write(folder, tasks, 1.0)
    with subprocess.Popen(command_of(path), cwd=folder, start_new_session=True) as snakemake:
        wait_until((folder / "second/a/checkpoints/latest").exists, 300)
        os.killpg(snakemake.pid, signal.SIGKILL)
        snakemake.wait(60)
    before = chain.started(folder)
    assert "vote" not in before
    subprocess.run(command_of(path, "--unlock"), cwd=folder, check=True, timeout=120)
    run(path)
    after = chain.started(folder)
    # What had ended before does not run again.
    assert not {"train/first/a", "test/first/b", "label/second"} & set(after)
    assert after[-1] == "vote"
    other = chain.prepare(tmp_path / "other")
    assert chain.run(other, chain.small_chain(other))[0] == 0
    assert chain.outputs(folder, tasks) == chain.outputs(other, chain.small_chain(other))


def test_only_a_task_that_was_stopped_is_tried_again(folder: Path) -> None:
    tasks = chain.small_chain(folder, 2.0)[:1]
    path = write(folder, tasks, 2.0)

    def stop() -> None:
        saved = folder / "first/a/checkpoints/latest"
        wait_until(saved.exists, 120)
        found = subprocess.run(
            ["pgrep", "-f", "tests.workflow.chain only"], capture_output=True, text=True, check=True
        )
        for number in found.stdout.split():
            words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
            if str(folder).encode() in words:
                os.kill(int(number), signal.SIGTERM)

    with chain.in_thread(stop):
        run(path)
    assert chain.started(folder) == ["train/first/a"] * 2

    (folder / "list.csv").write_text("break")
    run(path, code=1)
    assert chain.started(folder) == ["train/first/a"]


def test_a_file_of_another_kind_is_not_replaced(folder: Path) -> None:
    foreign = folder / "Snakefile"
    foreign.write_text("rule all:\n    input: []\n")
    with pytest.raises(UserError, match="this command did not write"):
        write(folder, chain.small_chain(folder))
    assert foreign.read_text() == "rule all:\n    input: []\n"
    foreign.unlink()
    path = write(folder, chain.small_chain(folder))
    assert write(folder, chain.small_chain(folder)) == path


def test_braces_in_names_of_inputs_are_refused(tmp_path: Path) -> None:
    folder = chain.prepare(tmp_path / "{run}")
    with pytest.raises(UserError, match=r"list\.csv: Snakemake reads braces"):
        write(folder, chain.small_chain(folder))


def test_rules_ask_for_the_resources_of_the_recipe(folder: Path) -> None:
    task = chain.small_chain(folder)[0]
    resources = Resources(CPUS=2, MEMORY_GB=1.5, GPUS=1, MINUTES=90, PARTITION="night")
    object.__setattr__(task, "resources", resources)
    path = write(folder, [task])
    shown = subprocess.run(
        command_of(path, "--dry-run"),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    text = shown.stdout + shown.stderr
    assert "threads: 2" in text
    for part in ("mem_mb=1536", "gpu=1", "runtime=90", "slurm_partition=night"):
        assert part in text
