"""Commands of tasks: programs that there are, one process or several; options of the pipeline command."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nightcrawler.cli import pipeline
from nightcrawler.cli.commands import COMMANDS
from nightcrawler.cli.pipeline_jobs import job_command
from nightcrawler.utils.errors import UserError
from nightcrawler.workflow import slurm
from nightcrawler.workflow.commands import control_command, net_command, program
from nightcrawler.workflow.jobs import PlanOptions
from nightcrawler.workflow.plan import make_plan
from nightcrawler.workflow.recipe import read_recipe
from tests.paths import ROOT

DEMO = ROOT / "configs/pipeline/demo.yaml"


def test_every_task_starts_a_sub_command_that_there_is(tmp_path: Path) -> None:
    options = PlanOptions(ROOT, tmp_path, tmp_path, control=("uniformer_b32_k600",))
    tasks, _ = make_plan(read_recipe(DEMO, ROOT), options)
    for task in tasks:
        if task.about.get("control") and task.kind == "train":
            assert task.command[1:4] == ("-m", "nightcrawler.workflow.control", "1")
        else:
            assert task.command[1:4] == ("-m", "nightcrawler", task.kind)
            assert task.kind in COMMANDS
    assert {"prepare", "pipeline"} <= set(COMMANDS)


def test_several_processes_go_through_the_launcher() -> None:
    one = net_command("train", ["--cfg", "x"], 1, "python")
    assert one == ["python", "-m", "nightcrawler", "train", "--cfg", "x"]
    launcher = ["-m", "nightcrawler.engine.launch", "--standalone", "--nproc-per-node", "2"]
    two = net_command("train", ["--cfg", "x"], 2, "python")
    assert two == ["python", *launcher, *one[1:]]
    assert control_command(["--cfg", "x"], 2, "python")[3:] == ["2", "--cfg", "x"]
    assert program("python", "vote") == ["python", "-m", "nightcrawler", "vote"]


@pytest.mark.parametrize(
    ("given", "meant"),
    [("refuse", "refuse"), ("adopt", "import"), ("import", "import"), ("replace", "replace")],
)
def test_both_spellings_of_importing_outputs_work(given: str, meant: str) -> None:
    arguments = pipeline.parse([str(DEMO), "--found", given])
    assert pipeline.FOUND[arguments.found] == meant


def test_a_job_of_a_scheduler_runs_one_task_with_the_same_options() -> None:
    argv = [str(DEMO), "--out", "o", "--control-of", "a", "--overlay", "x.yaml", "--oracle"]
    arguments = pipeline.parse([*argv, "--jobs", "3", "KEY", "1"])
    tasks, _ = make_plan(read_recipe(DEMO, ROOT), PlanOptions(ROOT, Path("/o"), Path("/o")))
    command = job_command(arguments, tasks[0])
    assert command[:5] == [sys.executable, "-m", "nightcrawler", "pipeline", str(DEMO)]
    again = pipeline.parse(command[4:])
    assert again.only == [tasks[0].name]
    for name in ("recipe", "out", "control_of", "overlay", "oracle", "found", "overrides"):
        assert getattr(again, name) == getattr(arguments, name)


def test_without_submitit_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError) as error:
        slurm.SlurmExecutor(ROOT, tmp_path, [])
    assert str(error.value) == (
        "--executor slurm needs the extra slurm: python -m pip install 'nightcrawler-video[slurm]'"
    )
