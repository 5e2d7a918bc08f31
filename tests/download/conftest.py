"""A served site, and a cache of its own for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nightcrawler.download import client
from nightcrawler.download.cache import OFFLINE
from tests.download.server import Site, serving

HASTE = client.Patience(
    silent_sec=0.3,
    slow_sec=0.4,
    slow_bytes=100,
    attempts=3,
    first_wait_sec=0.01,
    longest_wait_sec=5,
)


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as found:
        yield found


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, with downloads allowed and little patience."""
    monkeypatch.setenv("NIGHTCRAWLER_CACHE", str(tmp_path / "cache"))
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "PATIENCE", HASTE)
    return tmp_path / "cache"
