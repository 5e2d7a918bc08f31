"""Fixtures of the fault tests: every one of them is a `fault`; one data folder for all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import tiny

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is in this folder."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.fault)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data folder that no test may change."""
    return tiny.build_data(tmp_path_factory.mktemp("data"))
