"""Files of the Hugging Face hub, from a stand-in of it on this machine."""

from __future__ import annotations

import contextlib
import hashlib
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import constants

from nightcrawler.download.cache import cached_weights, read_record
from nightcrawler.download.faults import TooLargeError
from nightcrawler.download.fetch import Wanted, fetch, file_of_address
from nightcrawler.download.hub import download_from_hub
from nightcrawler.utils.errors import UserError
from tests.download.server import Handler, Site, status

CONTENT = np.random.default_rng(1).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "0" * 40
ADDRESS = "hf://me/repo/sub/x.pth"


@pytest.fixture
def hub(site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """A hub with one large file, whose tag is its SHA-256."""
    monkeypatch.setattr(constants, "ENDPOINT", site.address)
    monkeypatch.setattr(
        constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        site.address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    site.headers = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{SHA256}"'}
    for revision in ("main", "v1", COMMIT):
        site.files[f"/me/repo/resolve/{revision}/sub/x.pth"] = CONTENT
    return site


def test_a_file_comes_with_the_hash_that_the_hub_publishes(hub: Site) -> None:
    for address in (ADDRESS, "hf://me/repo@v1/sub/x.pth"):
        target = cached_weights(file_of_address(address))
        fetch(address, target, Wanted("x"))
        assert target.read_bytes() == CONTENT
        record = read_record(target)
        assert record is not None
        assert record.published
        assert record.sha256 == SHA256
        assert {p.name for p in target.parent.iterdir()} == {
            "x.pth",
            ".x.pth.lock",
            "x.pth.download.json",
        }


def test_a_break_is_continued_by_the_same_or_a_later_command(
    hub: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The library keeps whole chunks, which are larger than this file.
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 10_000)
    path = "/me/repo/resolve/main/sub/x.pth"
    breaks: list[int] = [200_000, 50_000]

    def answer(handler: Handler, content: bytes) -> None:
        # Its first questions are about the file, not for it.
        most = breaks.pop(0) if handler.command == "GET" and breaks else None
        handler.send_file(content, most)
        handler.close_connection = True

    hub.faults[path] = [answer] * 20
    target = cached_weights(file_of_address(ADDRESS))
    for _ in range(3):
        with contextlib.suppress(UserError):
            fetch(ADDRESS, target, Wanted("x"))
        # Whole, or absent.
        assert not target.exists() or target.read_bytes() == CONTENT
    assert target.read_bytes() == CONTENT
    ranges = [headers.get("Range") for method, _, headers in hub.requests if method == "GET"]
    # The library may ask for the whole once more before it continues.
    assert "bytes=200000-" in ranges[:3]


def test_a_file_above_the_limit_is_not_asked_for(hub: Site, tmp_path: Path) -> None:
    with pytest.raises(TooLargeError, match="has 300000 bytes, more than 299999"):
        download_from_hub(ADDRESS, tmp_path / "part", 299_999)
    assert {method for method, _, _ in hub.requests} == {"HEAD"}
    download_from_hub(ADDRESS, tmp_path / "part", 300_000)


def test_a_file_of_another_hash_is_removed(hub: Site) -> None:
    for path in hub.files:
        hub.files[path] = CONTENT[::-1]
    target = cached_weights("hf/x.pth")
    with pytest.raises(UserError, match=f"the server says {SHA256}; it was removed"):
        fetch(ADDRESS, target, Wanted("x"))
    assert not list(target.parent.glob("x*"))


@pytest.mark.parametrize(
    ("headers", "code", "cause"),
    [
        ({"X-Error-Code": "EntryNotFound"}, 404, "no such file or revision"),
        ({"X-Error-Code": "RevisionNotFound"}, 404, "no such file or revision"),
        ({"X-Error-Code": "RepoNotFound"}, 404, "no public repository me/repo"),
        ({"X-Error-Code": "GatedRepo"}, 403, "asks to accept its terms"),
        ({}, 500, "the hub refuses"),
    ],
)
def test_each_refusal_is_one_line(
    hub: Site, headers: dict[str, str], code: int, cause: str
) -> None:
    named = {name.replace("-", "_"): value for name, value in headers.items()}
    hub.faults["/me/repo/resolve/main/sub/x.pth"] = [status(code, **named)] * 9
    target = cached_weights("hf/x.pth")
    with pytest.raises(UserError) as caught:
        fetch(ADDRESS, target, Wanted("weights 'x'", by_hand=Path("weights/x.pth")))
    text = str(caught.value)
    assert text.startswith(f"{ADDRESS}: {cause}")
    assert "expected weights 'x'" in text
    assert "put it at weights/x.pth" in text
    assert "\n" not in text
    assert not target.exists()


def test_no_network_is_one_line(hub: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"cannot be reached .*check the network"):
        fetch(ADDRESS, cached_weights("hf/x.pth"), Wanted("x"))
