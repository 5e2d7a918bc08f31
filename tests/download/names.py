"""Names of public weights whose files a server of this machine has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest

from nightcrawler.download import client, fetch
from nightcrawler.download.cache import OFFLINE
from nightcrawler.models import zoo
from tests.download.server import Site

DRIVE = "https://drive.google.com/file/d/"


def allow_downloads(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, downloads, and no second attempt."""
    monkeypatch.setenv("NIGHTCRAWLER_CACHE", str(cache))
    for name in OFFLINE:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "PATIENCE", client.Patience(attempts=1))


def serve_names(site: Site, contents: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """Serve these contents for names, those of Google Drive by their id."""
    monkeypatch.setattr(fetch, "DRIVE_DOWNLOAD", f"{site.address}/drive/{{}}")
    for name, content in contents.items():
        entry = zoo.ZOO[name]
        if entry.address.startswith(DRIVE):
            file_id = entry.address.removeprefix(DRIVE).removesuffix("/view")
            site.files[f"/drive/{file_id}"] = content
            continue
        site.files[f"/{entry.file}"] = content
        served = dataclasses.replace(entry, address=f"{site.address}/{entry.file}")
        monkeypatch.setitem(zoo.ZOO, name, served)
