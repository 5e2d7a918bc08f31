"""`python -m benchmarks`: help at once, errors in one line, and the videos that are measured."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from nightcrawler.utils import command_line
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.paths import ROOT
from tests.tools.test_help import SLOW

PARTS = ("models", "data", "damage", "losses", "chain", "parts", "poses")


def test_help_is_quick_and_has_examples() -> None:
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "benchmarks", "--help"],
        capture_output=True,
        text=True,
        env=tiny.environment(COLUMNS="120"),
        cwd=ROOT,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0
    imported = {line.rsplit("|", 1)[-1].strip() for line in process.stderr.splitlines()}
    assert "argparse" in imported
    assert sorted(imported & set(SLOW)) == []
    assert "  python -m benchmarks models\n" in process.stdout.split("examples:")[1]


@pytest.mark.parametrize("part", PARTS)
def test_help_of_a_part_has_its_own_examples(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main([part, "--help"])
    shown = capsys.readouterr().out.split("examples:\n")[1].strip().splitlines()
    assert shown
    assert all(line.strip().startswith(f"python -m benchmarks {part}") for line in shown)


@pytest.mark.parametrize(
    ("argv", "least"),
    [
        (("models", "--threads", "-1"), 0),
        (("models", "--repeats", "0"), 1),
        (("data", "--repeats", "0"), 1),
    ],
)
def test_numbers_that_cannot_be(
    argv: tuple[str, ...], least: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        command.main(argv)
    assert stop.value.code == 2
    said = f"argument {argv[-2]}: '{argv[-1]}': expected a whole number of at least {least}"
    assert said in capsys.readouterr().err


def test_debug_is_known_after_a_part(capsys: pytest.CaptureFixture[str]) -> None:
    for more in ((), ("--debug",)):
        assert command_line.run(command.main, ["chain", "--videos", "0", *more]) == 2
        assert ("Traceback" in capsys.readouterr().err) is bool(more)


def test_videos_are_chosen_evenly(tmp_path: Path) -> None:
    names = [f"{number}.mp4" for number in range(9)]
    for name in [*names, "list.csv"]:
        (tmp_path / name).touch()
    assert [path.name for path in command.find_videos(tmp_path, 3)] == ["0.mp4", "3.mp4", "6.mp4"]
    assert [path.name for path in command.find_videos(tmp_path, 20)] == names
    for count, folder in ((0, tmp_path), (1, tmp_path / "none")):
        with pytest.raises(UserError, match="no video to measure"):
            command.find_videos(folder, count)


def test_models_of_the_command_are_those_of_the_benchmark() -> None:
    models_speed = pytest.importorskip("benchmarks.models_speed")
    assert tuple(models_speed.CONFIGS) == command.MODELS
