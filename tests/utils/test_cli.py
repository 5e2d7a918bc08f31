"""Command lines: when a traceback is shown, and a reader that has seen enough."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import pytest

from nightcrawler.utils import cli
from nightcrawler.utils.errors import UserError


def failing(argv: Sequence[str]) -> int:
    raise UserError("a.csv: row 3 is bad")


@pytest.mark.parametrize(
    ("argv", "value", "shown"),
    [([], None, False), ([], "", False), ([], "0", False), ([], "1", True), (["--debug"], None, True)],
)
def test_a_traceback_is_shown_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    value: str | None,
    shown: bool,
) -> None:
    monkeypatch.delenv(cli.DEBUG, raising=False)
    if value is not None:
        monkeypatch.setenv(cli.DEBUG, value)
    assert cli.run(failing, argv) == 2
    text = capsys.readouterr().err
    assert ("Traceback" in text) is shown
    assert text.splitlines()[-1] == "error: a.csv: row 3 is bad"


def test_every_parser_has_debug() -> None:
    assert cli.make_parser("x").parse_args(["--debug"]).debug
    assert cli.DEBUG in cli.make_parser("x").format_help()


def test_an_interrupt_is_said_and_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(argv: Sequence[str]) -> int:
        raise KeyboardInterrupt

    assert cli.run(interrupted, []) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    """As `tool | head -1`."""
    code = (
        "import sys\nfrom nightcrawler.utils.cli import run\n"
        "sys.exit(run(lambda argv: [print('x' * 99) for _ in range(99999)] and 0))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 141


def test_another_pipe_that_breaks_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(argv: Sequence[str]) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    assert cli.run(broken, []) == 2
    assert "Broken pipe" in capsys.readouterr().err
