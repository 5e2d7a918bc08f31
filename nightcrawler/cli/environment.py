"""Advise in one line where the libraries are missing, with the standard library only."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from nightcrawler.utils.project import project_root

# Imported by every command; the first one missing tells that the environment is not the right one.
REQUIRED = ("torch", "torchvision", "numpy", "av", "fvcore", "timm", "pydantic")


def missing_library() -> str:
    """Return advice if a required library is missing, and an empty text if none is."""
    # find_spec only looks for the files: importing torch here would cost seconds.
    missing = [name for name in REQUIRED if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    return f"this Python ({sys.executable}) lacks {', '.join(missing)}: {advice(project_root())}"


def advice(root: Path) -> str:
    """Return the command that brings the libraries of a project."""
    # The nearest remedy first: an environment that exists, one that make builds, then pip.
    if (root / ".venv/bin/activate").is_file():
        return f"activate the environment with `source {root / '.venv/bin/activate'}`"
    if (root / "Makefile").is_file():
        return f"run `make -C {root} install`, which makes .venv, and try again"
    return "install them with `python -m pip install nightcrawler-video`"
