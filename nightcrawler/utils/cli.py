"""What every command line shares: one-line errors, `--debug` for the traceback."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Sequence

from nightcrawler.utils.errors import UserError

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130


def make_parser(description: str, examples: str = "") -> argparse.ArgumentParser:
    """An argument parser with a description, an `examples` block under `--help`, and `--debug`."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    return parser


def run(main: Callable[[Sequence[str]], int | None], argv: Sequence[str] | None = None) -> int:
    """Call `main(argv)`; a `UserError` becomes `error: ...` on standard error and exit code 2.

    Args:
        main: takes the arguments (without the program's name) and returns an exit code (`None` is 0).
        argv: the arguments; those of the process when absent.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return main(arguments) or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except (UserError, OSError) as error:
        if "--debug" in arguments:
            traceback.print_exc()
        print(f"error: {error}", file=sys.stderr)
        return EXIT_USER_ERROR
