"""The command `nightcrawler`: its overview, wrong commands, and `--help` of every command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nightcrawler import __version__
from nightcrawler.cli import main as program
from nightcrawler.cli.commands import COMMANDS
from tests import tiny
from tests.paths import ROOT

SLOW = ("torch", "torchvision", "timm", "av", "pandas", "sklearn", "matplotlib")
# The benchmarks have a command line of their own below `benchmarks/`.
HELPED = sorted(COMMANDS)
MAX_CPU_SEC = 1.0


def test_no_command_prints_the_overview_and_exits_with_2(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert program.main([]) == 2
    shown = capsys.readouterr().out
    assert shown.startswith("usage: nightcrawler COMMAND")
    for name, command in COMMANDS.items():
        listed = f"  {name} " in shown and command.summary in shown
        assert listed is not command.hidden, name


@pytest.mark.parametrize("word", ["--help", "-h", "help"])
def test_help_is_the_overview(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([word]) == 0
    assert capsys.readouterr().out.startswith("usage: nightcrawler COMMAND")


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_version(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main([word]) == 0
    assert capsys.readouterr().out == f"nightcrawler {__version__}\n"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("trian", "did you mean 'train'?"),
        ("pipelines", "did you mean 'pipeline'?"),
        ("xyzzy", "see nightcrawler --help"),
        ("--csv", "see nightcrawler --help"),
    ],
)
def test_an_unknown_command_is_one_line_and_exits_with_2(
    word: str, hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main([word, "--more"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == f"error: no command '{word}': {hint}\n"


@pytest.mark.parametrize("module", ["engine.tester", "predict.command", "pseudo.labels"])
def test_models_run_without_libraries_that_take_longer_than_torch(module: str) -> None:
    code = f"import sys, nightcrawler.{module}; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    env = tiny.environment(PYTHONPATH=str(ROOT))
    process = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert process.returncode == 0, process.stderr[-500:]
    imported = set(process.stdout.split())
    assert f"nightcrawler.{module}" in imported
    # torchvision and timm bring torch._dynamo with them, and that brings sympy.
    slow = {"torchvision", "timm", "torch._dynamo", "sympy", "triton", "sklearn", "matplotlib"}
    assert not imported & slow


@pytest.mark.parametrize("name", HELPED)
def test_help_of_every_command_is_quick_and_shows_how_it_was_started(name: str) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "nightcrawler", name, "--help"]
    before = os.times()
    process = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=tiny.environment(COLUMNS="120"),
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    after = os.times()
    assert process.returncode == 0, process.stderr[-500:]
    imported = set()
    for line in process.stderr.splitlines():
        if "|" in line:
            imported.add(line.rsplit("|", 1)[-1].strip())
    assert "argparse" in imported
    assert sorted(imported & set(SLOW)) == []
    assert process.stdout.startswith("usage: ")
    if name != "benchmark":
        assert f"nightcrawler {name}" in process.stdout
        assert "examples:" in process.stdout
        assert f"nightcrawler {name}" in process.stdout.split("examples:")[1]
    # Time of the processor, not of the clock: other work on the machine does not count.
    used = (after.children_user - before.children_user) + (
        after.children_system - before.children_system
    )
    assert used < MAX_CPU_SEC


def test_every_command_has_its_function() -> None:
    for command in COMMANDS.values():
        source = (ROOT / "nightcrawler/cli" / f"{command.module}.py").read_text()
        assert f"def {command.function}(" in source


def test_benchmarks_need_a_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nightcrawler.cli import benchmark

    monkeypatch.setattr(benchmark, "__file__", str(tmp_path / "nightcrawler/cli/benchmark.py"))
    assert program.main(["benchmark", "--help"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: benchmarks come with a checkout")
    assert error.count("\n") == 1
