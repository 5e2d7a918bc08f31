"""Command lines of tasks: the only place that knows how a program of this project is started.

A task's signature does not depend on its command, so a change here makes no finished task run
again.
"""

from __future__ import annotations

from collections.abc import Iterable


def program(python: str, name: str, arguments: Iterable[str] = ()) -> list[str]:
    """Return the command line of a sub-command of `nightcrawler` on one process.

    The package is started as a module, since a wheel outside a checkout has no scripts.

    Args:
        python: The interpreter.
        name: `train`, `test`, `label`, `vote`, `prepare` or `pipeline`.
        arguments: Arguments of the sub-command.
    """
    return [python, "-m", "nightcrawler", name, *arguments]


def net_command(name: str, arguments: Iterable[str], nproc: int, python: str) -> list[str]:
    """Return the command line of a training or test on one or several processes.

    Args:
        name: `train` or `test`.
        arguments: `--cfg FILE`, overlays and `KEY VALUE` pairs.
        nproc: Number of processes.
        python: The interpreter.
    """
    # One process needs no launcher, whose start takes seconds.
    if nproc == 1:
        return program(python, name, arguments)
    launcher = ["-m", "nightcrawler.engine.launch", "--standalone", "--nproc-per-node", str(nproc)]
    return [python, *launcher, "-m", "nightcrawler", name, *arguments]


def control_command(arguments: Iterable[str], nproc: int, python: str) -> list[str]:
    """Return the command line of an equal-step control, given the arguments of its training."""
    return [python, "-m", "nightcrawler.workflow.control", str(nproc), *arguments]
