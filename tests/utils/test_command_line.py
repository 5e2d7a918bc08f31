"""Command lines: when a traceback is shown, and a reader that has seen enough."""

from __future__ import annotations

import importlib
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from nightcrawler.cli import net, pipeline
from nightcrawler.utils import command_line
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.logging import JsonLines


def failing(argv: Sequence[str]) -> int:
    raise UserError("a.csv: row 3 is bad")


@pytest.mark.parametrize(
    ("argv", "value", "shown"),
    [
        ([], None, False),
        ([], "", False),
        ([], "0", False),
        ([], "1", True),
        (["--debug"], None, True),
    ],
)
def test_a_traceback_is_shown_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    argv: list[str],
    value: str | None,
    shown: bool,
) -> None:
    monkeypatch.delenv(command_line.DEBUG, raising=False)
    if value is not None:
        monkeypatch.setenv(command_line.DEBUG, value)
    assert command_line.run(failing, argv) == 2
    text = capsys.readouterr().err
    assert ("Traceback" in text) is shown
    assert text.splitlines()[-1] == "error: a.csv: row 3 is bad"


def test_every_parser_has_debug() -> None:
    assert command_line.make_parser("x").parse_args(["--debug"]).debug
    assert command_line.DEBUG in command_line.make_parser("x").format_help()


@pytest.mark.parametrize(
    ("module", "argv", "argument"),
    [
        ("pipeline", ["r.yaml", "--out", ""], "--out"),
        ("pipeline", ["r.yaml", "--only", ""], "--only"),
        ("pipeline", [""], "RECIPE"),
        ("net", ["train", "--cfg", ""], "--cfg"),
        ("prepare", ["tree", "a", "--out", ""], "--out"),
        ("weights", ["pull", ""], "NAME"),
        ("serve", ["--model", ""], "--experiment/--model"),
        ("pose", ["extract", "a", "b", "--model", ""], "--model"),
        ("show", ["a.mp4", "--out", ""], "--out"),
        ("info", [""], "an experiment"),
    ],
)
def test_an_empty_value_is_refused(
    module: str, argv: list[str], argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Such as `--out "$OUT"` where nothing sets the variable: the current folder is not meant."""
    with pytest.raises(SystemExit) as stop:
        importlib.import_module(f"nightcrawler.cli.{module}").main(argv)
    assert stop.value.code == 2
    assert f"{argument}{': ' if module != 'info' else ' '}is empty: give" in capsys.readouterr().err


def test_a_key_of_a_configuration_may_be_empty() -> None:
    words = ["--cfg", "config.yaml", "TEST.CHECKPOINT_FILE_PATH", ""]
    assert net.parse(words, "test").overrides == words[2:]
    assert pipeline.parse(["r.yaml", *words[2:]]).overrides == words[2:]


def test_an_interrupt_is_said_and_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(argv: Sequence[str]) -> int:
        raise KeyboardInterrupt

    assert command_line.run(interrupted, []) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_leaves_is_no_error() -> None:
    """As `tool | head -1`."""
    code = (
        "import sys\nfrom nightcrawler.utils.command_line import run\n"
        "sys.exit(run(lambda argv: [print('x' * 99) for _ in range(99999)] and 0))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(30) == 141


def test_another_pipe_that_breaks_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    def broken(argv: Sequence[str]) -> int:
        raise BrokenPipeError(32, "Broken pipe")

    assert command_line.run(broken, []) == 2
    assert "Broken pipe" in capsys.readouterr().err


def test_an_error_of_the_system_names_the_file_that_was_wanted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(argv: Sequence[str]) -> int:
        with atomic_write(tmp_path):
            return 0

    assert command_line.run(write, []) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: Is a directory\n"


def write_whole(path: Path) -> None:
    with atomic_write(path, "w") as file:
        file.write("x")


def write_line(path: Path) -> None:
    JsonLines(path).write(x=1)


@pytest.mark.parametrize("write", [write_whole, write_line])
@pytest.mark.parametrize("kind", ["device", "file"])
def test_a_full_disk_names_the_file(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    write: Callable[[Path], None],
    kind: str,
) -> None:
    """An open file that cannot be written to gives an error without a name."""
    path = Path("/dev/full") if kind == "device" else tmp_path / "out.csv"
    if kind == "file":
        # Python ignores SIGXFSZ, so that the error is that of a disk that is full.
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        assert command_line.run(lambda argv: write(path), []) == 2
    finally:
        if kind == "file":
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    words = {"device": "No space left on device", "file": "File too large"}
    assert capsys.readouterr().err == f"error: {path}: {words[kind]}\n"


@pytest.mark.parametrize("count", [1, 99_999])
def test_a_full_output_is_named(count: int) -> None:
    """Lines that wait in memory until the end, and more of them than fit there."""
    code = (
        "import sys\nfrom nightcrawler.utils.command_line import run\n"
        f"sys.exit(run(lambda argv: [print('x') for _ in range({count})] and 0))"
    )
    with open("/dev/full", "w") as full:
        process = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert process.stderr.startswith("error: standard output, or a log")
    assert process.returncode == 2


@pytest.mark.parametrize("text", ["-1", "x", "1.5", ""])
def test_numbers_below_the_least_say_what_is_expected(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    parser = command_line.make_parser("x")
    parser.add_argument("--threads", type=command_line.at_least(0))
    assert parser.parse_args(["--threads", "0"]).threads == 0
    with pytest.raises(SystemExit):
        parser.parse_args(["--threads", text])
    assert (
        f"argument --threads: '{text}': expected a whole number of at least 0"
        in capsys.readouterr().err
    )


def test_an_error_is_not_hidden_by_all_options(capsys: pytest.CaptureFixture[str]) -> None:
    parser = command_line.make_parser("Do it.")
    for number in range(40):
        parser.add_argument(f"--option-{number}", metavar="VALUE")
    with pytest.raises(SystemExit) as caught:
        parser.parse_args(["--unknown"])
    assert caught.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first == "usage: nightcrawler ... (--help lists all options)"
    assert second == "nightcrawler: error: unrecognized arguments: --unknown"
    with pytest.raises(SystemExit):
        command_line.make_parser("Do it.").parse_args(["--unknown"])
    assert capsys.readouterr().err.startswith("usage: nightcrawler [-h] [--debug]\n")
