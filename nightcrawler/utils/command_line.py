"""Parsers and errors of all command lines: one line per error, a traceback with `--debug`.

The variable NIGHTCRAWLER_DEBUG=1 does the same as `--debug`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import select
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from nightcrawler.utils.errors import UserError, is_disk_full, mask_credentials

EXIT_USER_ERROR = 2
# As shells report a process that ended by SIGINT (128 + 2) and by SIGPIPE (128 + 13).
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141
# The longest side squared, see `data.video.integrity.limits.Limits`.
MAX_PIXELS = 8192 * 8192
DEBUG = "NIGHTCRAWLER_DEBUG"
# Of an error.
MOST_USAGE_LINES = 4


# How the user started the running command, such as `nightcrawler predict`.
_invocation: list[str] = []


@contextlib.contextmanager
def invoked_as(program: str) -> Iterator[None]:
    """Show a command under the name that the user typed, in usage lines and examples."""
    _invocation.append(program)
    try:
        yield
    finally:
        _invocation.pop()


# Of both ranges, and those that turn the direction of text.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def invocation() -> str:
    """Return how the running command was started, or `nightcrawler` outside of one."""
    if _invocation:
        return _invocation[-1]
    return "nightcrawler"


class Parser(argparse.ArgumentParser):
    """Parser that refuses empty values, and of a long usage prints only the first words.

    An empty value is most often that of a variable that is not set, and an empty path would be the
    current folder. An argument that may be empty has `type=str`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register("type", None, filled)
        self.register("type", Path, filled_path)

    def add_subparsers(self, **kwargs: Any) -> Any:
        """Add sub-commands, see argparse."""
        tasks = super().add_subparsers(**kwargs)
        # It is given all words of the task, whose own parser knows which of them may be empty.
        tasks.type = str
        return tasks

    def error(self, message: str) -> NoReturn:
        """Print the fault of a command line under its usage, and exit with code 2."""
        usage = self.format_usage()
        if usage.count("\n") > MOST_USAGE_LINES:
            usage = f"usage: {self.prog} ... (--help lists all options)\n"
        self.exit(EXIT_USER_ERROR, f"{usage}{self.prog}: error: {message}\n")


def make_parser(description: str, examples: str = "") -> argparse.ArgumentParser:
    """Make an argument parser with a description, examples under `--help`, and `--debug`.

    Args:
        description: first lines of the help.
        examples: lines in which `{command}` stands for the command as the user started it.
    """
    command = invocation()
    shown = examples.replace("{command}", command)
    parser = Parser(
        prog=command.removeprefix("python "),
        description=description.replace("{command}", command),
        epilog=f"examples:\n{shown}" if shown else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--debug", action="store_true", help=f"show the traceback of an error (as {DEBUG}=1)"
    )
    return parser


def filled(text: str) -> str:
    """Return the value of an argument: an unset "$NAME" must not mean something.

    Args:
        text: as given.

    Raises:
        argparse.ArgumentTypeError: if it is empty.
    """
    if not text:
        raise argparse.ArgumentTypeError("is empty: give a value (is a variable not set?)")
    return text


def filled_path(text: str) -> Path:
    """Return the path that an argument gives: an empty one would be the current folder.

    Args:
        text: as given.

    Raises:
        argparse.ArgumentTypeError: if it is empty.
    """
    return Path(filled(text))


def add_task(
    tasks: Any, name: str, text: str, examples: str, parents: Sequence[Any] = ()
) -> argparse.ArgumentParser:
    """Add the parser of a sub-command, with the examples that call it under `--help`.

    Args:
        tasks: Result of `ArgumentParser.add_subparsers`.
        name: Name of the sub-command.
        text: Description, one sentence.
        examples: Examples of the whole command, one per line.
        parents: Parsers whose options are shared.
    """
    lines = examples.replace("{command}", invocation()).splitlines()
    shown = "\n".join(line for line in lines if f"{invocation()} {name} " in f"{line} ")
    raw = argparse.RawDescriptionHelpFormatter
    return tasks.add_parser(
        name,
        help=text,
        description=text,
        epilog=f"examples:\n{shown}",
        formatter_class=raw,
        parents=parents,
    )


def at_least(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return the `type` of an option that takes whole numbers from `least` on, to `most`."""
    expected = f"of at least {least}" if most is None else f"from {least} to {most}"

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least or (most is not None and number > most):
            raise argparse.ArgumentTypeError(f"'{text}': expected a whole number {expected}")
        return number

    return read


def add_max_pixels(parser: Any, default: str) -> None:
    """Add `--max-pixels`: the largest picture of a video that is read.

    Args:
        parser: Parser, or group of options.
        default: What holds without the option, for the help.
    """
    parser.add_argument(
        "--max-pixels",
        type=at_least(1, MAX_PIXELS),
        metavar="N",
        help=f"largest picture that is read, width x height (default {default})",
    )


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Call a command line, and turn a `UserError` into a line on standard error and exit code 2.

    Args:
        main: Function of the arguments, without the program's name, that returns the exit code
            (`None` is 0).
        argv: Arguments (default: those of the process).

    Returns:
        The exit code of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _tolerate_any_text()
    try:
        code = main(arguments) or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return EXIT_INTERRUPTED
    except (UserError, OSError) as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            return EXIT_BROKEN_PIPE
        if "--debug" in arguments or os.environ.get(DEBUG, "0") not in ("", "0"):
            traceback.print_exc()
        sys.stderr.write(f"error: {_format_error(error)}\n")
        return EXIT_USER_ERROR


def _tolerate_any_text() -> None:
    """Print what the terminal cannot show as escapes, and nothing where output is closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            # Closed by the caller (`>&-`): printing must not end the work.
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def escape_controls(text: str) -> str:
    r"""Return a line whose control characters, which terminals obey, are escapes.

    Example:
        >>> escape_controls("\x1b[31mred")
        '\\x1b[31mred'
    """
    return _CONTROLS.sub(lambda match: repr(match[0])[1:-1], text)


def _format_error(error: Exception) -> str:
    """Return an error as one line, with the file in front for errors of the system."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        place = mask_credentials(str(error.filename2 or error.filename))
        return escape_controls(f"{place}: {error.strerror}")
    if isinstance(error, OSError) and is_disk_full(error):
        # Outputs and journals have their name by now, see `named_where_full`.
        return f"standard output, or a log or temporary file: {error.strerror}"
    return "\n".join(map(escape_controls, mask_credentials(str(error)).split("\n")))


def _reader_is_gone() -> bool:
    """Return whether the reader of standard output is gone, as after `| head`.

    If so, redirect the rest of the output to nowhere, or Python would complain once more on exit.
    """
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), 0)
    except (OSError, ValueError):  # standard output is no file, as in tests
        return False
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return gone
