"""`--help` of every tool: at once (no torch), with examples."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests import tiny
from tests.paths import ROOT

TOOLS = sorted(path.name for path in (ROOT / "tools").glob("*.py"))
SLOW = ("torch", "torchvision", "timm", "av", "pandas", "sklearn")


@pytest.mark.parametrize("tool", TOOLS)
def test_help_is_quick_and_has_examples(tool: str) -> None:
    command = [sys.executable, "-X", "importtime", str(ROOT / "tools" / tool), "--help"]
    env = tiny.environment(COLUMNS="120")
    process = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)
    assert process.returncode == 0
    imported = {line.rsplit("|", 1)[-1].strip() for line in process.stderr.splitlines() if "|" in line}
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
