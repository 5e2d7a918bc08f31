"""Fixtures of end-to-end tests: one data folder for all (read only), and one trained run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests import tiny
from tests.download.conftest import cache as cache
from tests.download.conftest import site as site


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data folder that no test may change."""
    return tiny.build_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def own_data(data: Path, tmp_path: Path) -> Path:
    """A copy of the data folder, to be spoilt."""
    return Path(shutil.copytree(data, tmp_path / "own_data"))


@pytest.fixture(scope="session")
def trained(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of two epochs of training with BatchNorm adaptation, through the command line; read only."""
    out = tmp_path_factory.mktemp("trained") / "run"
    assert tiny.run_net("train", data, out) == 0
    return out
