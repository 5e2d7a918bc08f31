"""Every fault of a download, on a server of this machine: what is told, what is left."""

from __future__ import annotations

import errno
import hashlib
import os
import resource
import shutil
import socket
import threading
from email.utils import formatdate
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.download import client
from nightcrawler.download import fetch as module
from nightcrawler.download.cache import cached_weights, read_record, record_file
from nightcrawler.download.fetch import Wanted, fetch, file_of_address, is_address
from nightcrawler.utils.errors import UserError
from tests.download.server import (
    Site,
    breaks_after,
    dripping,
    page,
    silent,
    status,
)

CONTENT = np.random.default_rng(0).bytes(3 * client.BLOCK + 12_345)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
WANTED = Wanted("weights 'x'", by_hand=Path("weights/x.pth"))


@pytest.fixture
def target(cache: Path) -> Path:
    return cached_weights("x/x.pth")


@pytest.fixture
def address(site: Site) -> str:
    site.files["/x.pth"] = CONTENT
    return f"{site.address}/x.pth"


def failure(address: str, target: Path, wanted: Wanted = WANTED) -> str:
    """The one line of a failed download, which left no file under its name."""
    with pytest.raises(UserError) as caught:
        fetch(address, target, wanted)
    assert not target.exists()
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{address}: ")
    assert f"expected {wanted}" in text
    assert text.endswith(" (and put it at weights/x.pth)")
    return text


def left(target: Path) -> list[str]:
    """Names beside a target, but for the lock."""
    return sorted(p.name for p in target.parent.iterdir() if p.suffix != ".lock")


def test_a_file_is_whole_checked_and_recorded(
    address: str, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fetch(address, target, WANTED)
    assert target.read_bytes() == CONTENT
    record = read_record(target)
    assert record is not None
    assert (record.address, record.sha256, record.size) == (address, SHA256, len(CONTENT))
    assert not record.published
    assert "first download is trusted" in caplog.text
    assert SHA256 in caplog.text
    assert left(target) == ["x.pth", "x.pth.download.json"]


def test_a_published_hash_is_checked_and_says_so(
    address: str, target: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fetch(address, target, Wanted("weights 'x'", SHA256[:8], len(CONTENT)))
    record = read_record(target)
    assert record is not None
    assert record.published
    assert "trusted" not in caplog.text


def test_what_is_there_is_not_read_again(address: str, target: Path, site: Site) -> None:
    fetch(address, target, WANTED)
    fetch(address, target, WANTED)
    assert len(site.requests) == 1


def test_a_break_is_continued(address: str, target: Path, site: Site) -> None:
    site.faults["/x.pth"] = [breaks_after(client.BLOCK + 7), breaks_after(5)]
    fetch(address, target, WANTED)
    assert target.read_bytes() == CONTENT
    ranges = [headers.get("Range") for _, _, headers in site.requests]
    assert ranges == [None, f"bytes={client.BLOCK + 7}-", f"bytes={client.BLOCK + 12}-"]


def test_a_later_command_continues(address: str, target: Path, site: Site) -> None:
    site.faults["/x.pth"] = [breaks_after(1000), breaks_after(1000), breaks_after(1000)]
    text = failure(address, target)
    assert f"broke off after 3000 of {len(CONTENT)} bytes" in text
    assert "run the command again, which continues where it broke off" in text
    assert left(target) == ["x.pth.part", "x.pth.part.state"]
    fetch(address, target, WANTED)
    assert target.read_bytes() == CONTENT
    assert site.requests[-1][2]["Range"] == "bytes=3000-"


def test_another_file_on_the_server_is_not_mixed_in(address: str, target: Path, site: Site) -> None:
    site.faults["/x.pth"] = [breaks_after(1000)] * 3
    failure(address, target)
    site.etag = '"v2"'
    site.files["/x.pth"] = CONTENT[::-1]
    fetch(address, target, WANTED)
    assert target.read_bytes() == CONTENT[::-1]


def test_a_server_without_versions_begins_again(address: str, target: Path, site: Site) -> None:
    site.etag = 'W/"weak"'
    site.faults["/x.pth"] = [breaks_after(1000)]
    fetch(address, target, WANTED)
    assert target.read_bytes() == CONTENT
    assert "Range" not in site.requests[-1][2]


def test_a_part_that_is_too_long_is_dropped(address: str, target: Path, site: Site) -> None:
    site.faults["/x.pth"] = [breaks_after(2000)] * 3
    failure(address, target)
    site.files["/x.pth"] = CONTENT[:2000]
    fetch(address, target, WANTED)
    assert target.read_bytes() == CONTENT[:2000]


def test_redirects_are_followed_within_this_machine(address: str, target: Path, site: Site) -> None:
    site.faults["/moved"] = [status(302, Location="/x.pth")]
    fetch(f"{site.address}/moved", target, WANTED)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "where", ["http://example.org/x.pth", "ftp://example.org/x", "file:///etc/passwd"]
)
def test_redirects_elsewhere_than_https_are_refused(
    address: str, target: Path, site: Site, where: str
) -> None:
    site.faults["/moved"] = [status(302, Location=where)]
    text = failure(f"{site.address}/moved", target)
    # The library refuses some by itself.
    assert f"redirects to {where}" in text or "not followed" in text
    assert len(site.requests) == 1


def test_nothing_outside_leads_to_this_machine() -> None:
    assert client.is_allowed("https://example.org/x", "https://example.com/")
    assert client.is_allowed("http://127.0.0.1:8/x")
    assert not client.is_allowed("http://127.0.0.1:8/x", "https://example.org/x")
    assert not client.is_allowed("http://example.org/x")
    assert not client.is_allowed("https://user:password@example.org/x")
    assert not client.is_allowed("https:///x")


def test_a_circle_of_redirects_ends(target: Path, site: Site) -> None:
    site.faults["/a"] = [status(302, Location="/a")] * 50
    assert "status 302 (Found): not followed" in failure(f"{site.address}/a", target)


@pytest.mark.parametrize(
    ("wanted", "cause"),
    [
        (Wanted("weights 'x'", "0" * 64, 0, WANTED.by_hand), f"brought a file of sha256 {SHA256}"),
        (Wanted("weights 'x'", "", 17, WANTED.by_hand), f"brought {len(CONTENT)} bytes"),
    ],
)
def test_another_file_is_removed(address: str, target: Path, wanted: Wanted, cause: str) -> None:
    text = failure(address, target, wanted)
    assert cause in text
    assert "it was removed" in text
    assert left(target) == []


def test_a_later_download_must_match_the_first(address: str, target: Path, site: Site) -> None:
    fetch(address, target, WANTED)
    target.unlink()
    site.files["/x.pth"] = b"another"
    text = failure(address, target)
    assert f"the first download had {SHA256}" in text
    site.files["/x.pth"] = CONTENT
    fetch(address, target, WANTED)
    assert target.read_bytes() == CONTENT


def test_a_file_that_stays_truncated_is_an_error(address: str, target: Path, site: Site) -> None:
    # The server says the whole size, and never brings more than a part.
    site.faults["/x.pth"] = [breaks_after(0)] * 9
    assert f"broke off after 0 of {len(CONTENT)} bytes" in failure(address, target)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        (404, "look for it where it is published"),
        (410, "look for it where it is published"),
        (403, "ask its owner"),
        (400, "check the address"),
    ],
)
def test_a_refusal_is_told_at_once(
    address: str, target: Path, site: Site, code: int, advice: str
) -> None:
    site.faults["/x.pth"] = [status(code)] * 5
    text = failure(address, target)
    assert f"answers with status {code}" in text
    assert advice in text
    assert len(site.requests) == 1


def test_a_server_that_is_busy_is_asked_again(
    address: str, target: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(client.time, "sleep", waits.append)
    date = formatdate(4e9, usegmt=True)
    site.faults["/x.pth"] = [status(429, Retry_After="2"), status(500), status(429)]
    assert "too many requests; expected" not in failure(address, target)
    assert waits == [2.0, 0.02]
    site.faults["/x.pth"] = [status(503, Retry_After="1")]
    fetch(address, target, WANTED)
    assert target.read_bytes() == CONTENT
    target.unlink()
    site.faults["/x.pth"] = [status(429, Retry_After=date)]
    text = failure(address, target)
    # Longer than anybody waits for: told at once.
    assert "status 429" in text
    assert "try again in " in text


def test_a_stalled_connection_is_given_up(address: str, target: Path, site: Site) -> None:
    site.faults["/x.pth"] = [silent(1.0)] * 3
    text = failure(address, target)
    assert "broke off (timed out)" in text
    assert target.with_name("x.pth.part").stat().st_size == 30


def test_a_connection_that_drips_is_given_up(address: str, target: Path, site: Site) -> None:
    site.files["/x.pth"] = CONTENT[:3000]
    site.faults["/x.pth"] = [dripping(0.1)] * 3
    assert "brings only " in failure(address, target)


def test_no_room_is_told_before_the_download(
    address: str, target: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(client.shutil, "disk_usage", lambda path: usage)
    text = failure(address, target)
    assert f"{len(CONTENT)} bytes are to come, 1000 bytes are free" in text
    assert "NIGHTCRAWLER_CACHE" in text


def test_a_disk_that_fills_up_keeps_nothing(address: str, target: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As on a disk with room for one block: the system refuses the next one.
    resource.setrlimit(resource.RLIMIT_FSIZE, (client.BLOCK + 100, hard))
    try:
        text = failure(address, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert os.strerror(errno.EFBIG) in text
    assert "make room" in text
    assert left(target) == []


def test_no_network_is_told_at_once(target: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        text = failure(f"http://127.0.0.1:{taken.getsockname()[1]}/x.pth", target)
    assert "cannot be reached (Connection refused)" in text
    assert "check the network" in text


@pytest.mark.parametrize("name", ["NIGHTCRAWLER_OFFLINE", "HF_HUB_OFFLINE"])
def test_an_offline_switch_stops_every_download(
    address: str, target: Path, site: Site, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    text = failure(address, target)
    assert f"{name} is set" in text
    assert site.requests == []
    monkeypatch.setenv(name, "0")
    fetch(address, target, WANTED)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_web_page_is_no_file(address: str, target: Path, site: Site, hidden: bool) -> None:
    if hidden:
        # Under the type of a file.
        site.files["/x.pth"] = b"\n <!DOCTYPE HTML><html>Sign in</html>"
    else:
        site.faults["/x.pth"] = [page]
    assert "answers with a web page instead of a file" in failure(address, target)


def test_google_drive_is_read_by_id_or_opened_by_hand(
    address: str, target: Path, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DRIVE_DOWNLOAD", f"{site.address}/x.pth?id={{}}&confirm=t")
    view = "https://drive.google.com/file/d/1-rpMARX_y/view"
    site.faults["/x.pth"] = [page]
    text = failure(view, target)
    assert "Google Drive answers with a web page" in text
    assert "open the address in a browser (and put it at weights/x.pth)" in text
    fetch(view, target, WANTED)
    assert target.read_bytes() == CONTENT
    assert site.requests[-1][1] == "/x.pth?id=1-rpMARX_y&confirm=t"


def test_two_processes_download_once(address: str, target: Path, site: Site) -> None:
    # Locks are those of processes, so the other one is a process.
    site.faults["/x.pth"] = [breaks_after(1000)]
    found: list[int] = []

    def other() -> None:
        pid = os.fork()
        if not pid:
            try:
                fetch(address, target, WANTED)
                os._exit(0)
            finally:
                os._exit(1)
        found.append(os.waitpid(pid, 0)[1])

    thread = threading.Thread(target=other)
    thread.start()
    fetch(address, target, WANTED)
    thread.join()
    assert found == [0]
    assert target.read_bytes() == CONTENT
    assert left(target) == ["x.pth", "x.pth.download.json"]


def test_a_link_in_the_cache_is_not_followed(address: str, target: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    target.parent.mkdir(parents=True)
    target.with_name("x.pth.part").symlink_to(outside)
    with pytest.raises(UserError, match="symbolic link"):
        fetch(address, target, WANTED)
    assert outside.read_bytes() == b"mine"
    (target.parent.parent / "y").symlink_to(tmp_path)
    with pytest.raises(UserError, match="through a link"):
        cached_weights("y/x.pth")


@pytest.mark.parametrize(
    ("address", "file"),
    [
        ("hf://me/repo/a/b.pth", "hf/me/repo/a/b.pth"),
        ("hf://me/repo@v1/b.pth", "hf/me/repo@v1/b.pth"),
        ("https://example.org/a/best.pth", "https/example.org/*/best.pth"),
        ("https://example.org/%2e%2e/%2e%2e", "https/example.org/*/file"),
        ("https://example.org/a/..%2f..%2fb.pth?x=1", "https/example.org/*/b.pth"),
    ],
)
def test_the_place_of_an_address(address: str, file: str, cache: Path) -> None:
    found = file_of_address(address)
    start, star, end = file.partition("*")
    assert found.startswith(start)
    assert found.endswith(end)
    assert len(found) == len(start) + 16 * len(star) + len(end)
    assert cached_weights(found).is_relative_to(cache)


@pytest.mark.parametrize(
    "address",
    [
        "hf://me",
        "hf://me/repo/",
        "hf://me/repo/../../x",
        "hf://me//x",
        "hf://../x/y.pth",
        "hf://me/../x.pth",
        "hf://./me/x.pth",
        "hf://me/..@v1/x.pth",
        "hf://..\\me/repo/x.pth",
        "http://example.org/x",
        "https://me:secret@example.org/x",
    ],
)
def test_addresses_that_are_not_read(address: str) -> None:
    assert is_address(address)
    with pytest.raises(UserError) as caught:
        file_of_address(address)
    assert "expected" in str(caught.value) or "leaves its folder" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_damaged_record_is_told(address: str, target: Path) -> None:
    target.parent.mkdir(parents=True)
    record_file(target).write_text("{}")
    with pytest.raises(UserError, match="not a record of a download"):
        fetch(address, target, WANTED)
