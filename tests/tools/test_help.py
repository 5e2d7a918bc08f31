"""`--help` of every tool: at once (no torch), with examples."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nightcrawler.cli import label
from nightcrawler.utils import command_line
from tests import tiny
from tests.paths import ROOT

TOOLS = sorted(path.name for path in (ROOT / "tools").glob("[!_]*.py"))
SLOW = ("torch", "torchvision", "timm", "av", "pandas", "sklearn")


@pytest.mark.parametrize("tool", TOOLS)
def test_help_is_quick_and_has_examples(tool: str) -> None:
    command = [sys.executable, "-X", "importtime", str(ROOT / "tools" / tool), "--help"]
    env = tiny.environment(COLUMNS="120")
    process = subprocess.run(
        command, capture_output=True, text=True, env=env, timeout=60, check=False
    )
    assert process.returncode == 0
    imported = {
        line.rsplit("|", 1)[-1].strip() for line in process.stderr.splitlines() if "|" in line
    }
    assert "argparse" in imported
    assert sorted(imported & set(SLOW)) == []
    assert process.stdout.startswith("usage: ")
    assert "examples:" in process.stdout
    assert f"python tools/{tool}" in process.stdout.split("examples:")[1]


def test_every_tool_is_covered() -> None:
    assert {"run_net.py", "score.py"} <= set(TOOLS)


@pytest.mark.parametrize("tool", TOOLS)
def test_an_unknown_option_exits_with_2_without_a_traceback(tool: str) -> None:
    process = tiny.run_tool(tool, "--no-such-option")
    assert process.returncode == 2
    assert "Traceback" not in process.stderr
    assert process.stderr.startswith("usage: ")


@pytest.mark.parametrize(
    ("tool", "task"),
    [
        *(("prepare_data", task) for task in ("ug2", "arid", "tree")),
    ],
)
def test_help_of_a_subcommand_has_its_own_examples(
    tool: str, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        tiny.load_tool(tool).main([task, "--help"])
    shown = capsys.readouterr().out.split("examples:\n")[1].strip().splitlines()
    assert shown
    assert all(line.strip().startswith(f"nightcrawler {task}") for line in shown)


@pytest.mark.parametrize(
    ("tool", "argv", "least"),
    [
        ("serve", ("--experiment", "a", "--threads", "-1"), 0),
        ("export", ("a", "--threads", "-1"), 0),
    ],
)
def test_numbers_that_cannot_be(
    tool: str, argv: tuple[str, ...], least: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        tiny.load_tool(tool).main(argv)
    assert stop.value.code == 2
    assert (
        f"argument {argv[-2]}: '{argv[-1]}': expected a whole number of at least {least}"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    ("tool", "argv"),
    [
        ("predict", ("merge", "--out", "nowhere", "a.csv")),
        ("prepare_data", ("ug2", "--root", "nowhere")),
        ("run_net", ("show-config", "--cfg", "nowhere.yaml")),
    ],
)
def test_debug_is_known_after_a_subcommand(
    tool: str, argv: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    for more in ((), ("--debug",)):
        assert command_line.run(tiny.load_tool(tool).main, [*argv, *more]) == 2
        assert ("Traceback" in capsys.readouterr().err) is bool(more)


def test_labels_of_any_round_have_help_and_refuse_what_is_no_round(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for argv, code, said in (
        (["--help"], 0, "examples:\n  nightcrawler 5"),
        (["x"], 2, "argument ROUND: 'x': expected a whole number of at least 1"),
        (["0"], 2, "argument ROUND: '0': expected a whole number of at least 1"),
        ([], 2, "the following arguments are required: ROUND"),
    ):
        with pytest.raises(SystemExit) as stop:
            label.main(argv)
        assert stop.value.code == code
        assert said in "".join(capsys.readouterr())
