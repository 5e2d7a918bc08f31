"""Where tests find fixtures and, on developers' machines, the shared folder beside the project."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FIXTURES = Path(__file__).resolve().parent / "fixtures"
GOLDEN = FIXTURES / "golden"
MANIFESTS = FIXTURES / "manifests"


def shared() -> Path:
    """The `shared` folder beside the project; the calling test is skipped where it is absent."""
    folder = ROOT.parent / "shared"
    if not (folder / "README.md").is_file():
        pytest.skip("needs the shared folder beside the project")
    return folder
