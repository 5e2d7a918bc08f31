"""Start a command from a script of this project, with the environment that has its libraries."""

import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")


def start(command, script, *arguments):
    """Run a sub-command of nightcrawler and exit with its code.

    A Python that lacks the libraries is replaced by that of `.venv`, if there is one. This file
    runs on any Python 3, since it must tell users of old ones how to go on.
    """
    sys.path.insert(0, ROOT)  # a checkout runs its own package, not an installed one
    problem = _problem()
    python = os.path.join(VENV, "bin", "python")
    if problem and os.path.exists(python) and os.path.abspath(sys.prefix) != VENV:
        os.execv(python, [python] + sys.argv)
    if problem:
        sys.exit("error: " + problem)
    from nightcrawler.cli.main import run_script

    sys.exit(run_script(command, ROOT, os.path.relpath(os.path.abspath(script), ROOT), arguments))


def _problem():
    """Return one line of advice if this Python cannot run the project; an empty text if it can."""
    if sys.version_info < (3, 11):
        have = "%d.%d" % sys.version_info[:2]
        return "this is Python " + have + ", 3.11 or newer is needed: see INSTALL.md"
    try:
        from nightcrawler.cli.environment import missing_library
    except ImportError:
        return (
            "this Python ("
            + sys.executable
            + ") lacks nightcrawler: activate the environment that "
            "has it, or install it with `python -m pip install nightcrawler-video`"
        )
    return missing_library()
