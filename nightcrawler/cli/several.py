"""Run several commands one after the other, each with a log of its own (for the pipeline)."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence

from nightcrawler.utils.command_line import EXIT_USER_ERROR, make_parser
from nightcrawler.utils.io import open_own

EXAMPLES = """\
  {command} '[{"words": ["score", "a.npz"], "log": "a.log"}]' codes.jsonl"""
# A command that was asked to stop: those after it are asked, too.
EXIT_STOPPED = 75


def main(argv: Sequence[str]) -> int:
    """Run each command, and append its exit code and seconds to the report.

    Returns:
        The first exit code other than 0.
    """
    parser = make_parser(__doc__ or "", EXAMPLES)
    parser.add_argument("commands", metavar="JSON", help="a list of words and log of each command")
    parser.add_argument("report", metavar="FILE", help="[exit code, seconds] of each, as lines")
    arguments = parser.parse_args(argv)
    first = 0
    for part in json.loads(arguments.commands):
        started = time.monotonic()
        code = _run(part["words"], part["log"])
        with open_own(arguments.report) as file:
            file.write(f"{json.dumps([code, round(time.monotonic() - started, 3)])}\n")
        first = first or code
        if code == EXIT_STOPPED:
            break
    return first


def _run(words: Sequence[str], log: str) -> int:
    """Run a command with its output in its log, as a process of its own would."""
    # Below: commands import one another's modules only when they run.
    from nightcrawler.cli.main import main as nightcrawler

    with open_own(log, "ab") as file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(file.fileno(), stream.fileno())
    try:
        return nightcrawler(words)
    except SystemExit as end:
        # argparse ends the process where an option is wrong.
        return end.code if isinstance(end.code, int) else EXIT_USER_ERROR
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
