"""Locate the project folder (`configs/`, `exp_*/`, `data/`) and the files inside the package.

A project is a checkout or a folder made by `nightcrawler init`. Standard library only: command
lines import this before anything else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

# A folder with this file is a project.
MARKER = Path("configs/base.yaml")
_PACKAGE = Path(__file__).resolve().parent.parent
# Set while a script of a project runs, so that its own project is used wherever it was started.
_chosen: list[Path] = []


def find_project(start: Path) -> Path | None:
    """Return the nearest project at or above a folder, or `None`."""
    for folder in (start, *start.parents):
        if (folder / MARKER).is_file():
            return folder
    return None


def project_root() -> Path:
    """Return the project folder of this command.

    In this order: the project of the script that runs, the nearest project at or above the current
    folder, the checkout that this package lies in, the current folder.
    """
    if _chosen:
        return _chosen[-1]
    here = Path.cwd()
    return find_project(here) or find_project(_PACKAGE.parent) or here


@contextlib.contextmanager
def use_project(root: Path) -> Iterator[None]:
    """Make a folder the project for as long as the context lasts."""
    _chosen.append(root)
    try:
        yield
    finally:
        _chosen.pop()


def packaged_root() -> Path:
    """Return the folder of the files that come with the package, laid out as a project.

    A wheel holds them in `nightcrawler/assets`. In a checkout they are the checkout's own.
    """
    assets = _PACKAGE / "assets"
    if (assets / MARKER).is_file():
        return assets
    return _PACKAGE.parent
