"""Modules of the user's own, imported so that they register names."""

from __future__ import annotations

import functools
import importlib
import os
import re
import sys
from importlib import metadata

from nightcrawler.utils.errors import UserError

GROUP = "nightcrawler.plugins"
MODULE_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def import_user_module(name: str) -> None:
    """Import a module by its dotted name, from `sys.path` or from the current folder.

    The current folder is appended to `sys.path` for good: loader workers that are started anew
    (spawn, forkserver) receive the same path and can import the module when they unpickle its
    functions. Installed packages win over files of the current folder.

    Args:
        name: Dotted name, such as `my_models.net`.

    Raises:
        UserError: If there is no such module, or it fails while it is imported.
    """
    if not MODULE_NAME.fullmatch(name):
        raise UserError(f"'{name}' is no module name: expected dotted names such as my_models.net")
    folder = os.getcwd()
    if folder not in sys.path:
        sys.path.append(folder)
        # Without this, a module written a moment ago may go unseen.
        importlib.invalidate_caches()
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise UserError(
                f"no module named '{error.name}': start in the folder that holds it ({folder} is "
                "searched), add its folder to PYTHONPATH, or install it"
            ) from None
        raise UserError(f"importing '{name}' failed: {_one_line(error)}") from error
    except (Exception, SystemExit) as error:
        # Any error of foreign code is the user's to mend; `--debug` shows its traceback.
        raise UserError(f"importing '{name}' failed: {_one_line(error)}") from error


def _one_line(error: BaseException) -> str:
    lines = str(error).splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"


def plugin_modules() -> set[str]:
    """Return the modules that installed distributions offer as plugins."""
    return {entry.module for entry in metadata.entry_points(group=GROUP)}


@functools.cache
def load_plugins() -> None:
    """Import what installed distributions offer under the entry point group `nightcrawler.plugins`.

    Raises:
        UserError: If an entry point cannot be imported.
    """
    for point in metadata.entry_points(group=GROUP):
        try:
            point.load()
        except (Exception, SystemExit) as error:
            owner = "an unknown distribution"
            if point.dist is not None:
                owner = point.dist.name
            raise UserError(
                f"plugin '{point.name}' ({point.value}) of {owner} cannot be imported: "
                f"{_one_line(error)}; mend or uninstall it"
            ) from error
