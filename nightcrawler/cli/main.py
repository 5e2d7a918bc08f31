"""Dispatch `nightcrawler COMMAND ...`. Standard library only until a command is chosen."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from nightcrawler import __version__
from nightcrawler.cli.commands import COMMANDS
from nightcrawler.cli.environment import missing_library
from nightcrawler.utils import command_line
from nightcrawler.utils.project import use_project

PROGRAM = "nightcrawler"
# Commands whose purpose is to say which library is missing.
WITHOUT_LIBRARIES = ("doctor",)


def usage() -> str:
    """Return the overview of all sub-commands."""
    listed = {name: command for name, command in COMMANDS.items() if not command.hidden}
    width = max(map(len, listed))
    lines = [
        f"usage: {PROGRAM} COMMAND [options]",
        "",
        "Recognise human actions in dark video.",
        "",
        "commands:",
        *(f"  {name:{width}}  {command.summary}" for name, command in listed.items()),
        "",
        "examples:",
        f"  {PROGRAM} doctor",
        f"  {PROGRAM} predict night.mp4 --experiment exp_adapt_bn/uniformer_b32_k600",
        f"  {PROGRAM} train --help",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sub-command named by the first argument, and return its exit code.

    Args:
        argv: arguments after the program's name; those of the process when absent.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else command_line.EXIT_USER_ERROR
    if arguments[0] in ("-V", "--version"):
        print(f"{PROGRAM} {__version__}")
        return 0
    name = arguments[0]
    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"see {PROGRAM} --help"
        print(f"error: no command '{name}': {hint}", file=sys.stderr)
        return command_line.EXIT_USER_ERROR
    return run_command(name, f"{PROGRAM} {name}", arguments[1:])


def run_command(name: str, program: str, argv: Sequence[str]) -> int:
    """Run a sub-command under the name that the user typed.

    Args:
        name: key of `COMMANDS`.
        program: how the user started it, for usage lines and examples.
        argv: the user's arguments.
    """
    # Before any import of the command: a traceback would hide the one useful line.
    problem = missing_library()
    if problem and name not in WITHOUT_LIBRARIES:
        print(f"error: {problem}", file=sys.stderr)
        return command_line.EXIT_USER_ERROR
    command = COMMANDS[name]
    with command_line.invoked_as(program):
        module = importlib.import_module(f"nightcrawler.cli.{command.module}")
        return command_line.run(getattr(module, command.function), argv)


def run_script(name: str, root: str | Path, script: str, arguments: Sequence[str] = ()) -> int:
    """Run a sub-command for a script of a project, such as `tools/predict.py`.

    Args:
        name: key of `COMMANDS`.
        root: the project folder, which the script lies in.
        script: path of the script below `root`.
        arguments: arguments put before the user's own.
    """
    with use_project(Path(root)):
        return run_command(name, f"python {script}", [*arguments, *sys.argv[1:]])
