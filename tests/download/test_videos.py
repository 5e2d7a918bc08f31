"""Videos on other machines and in archives: fetched once, bounded, and refused in one line without secrets."""

from __future__ import annotations

import contextlib
import io
import multiprocessing
import os
import tarfile
import threading
import time
from pathlib import Path

import pytest

from nightcrawler.data.lists import read_list
from nightcrawler.data.video.remote import local_video
from nightcrawler.download import addresses, file_cache, tar_files, videos
from nightcrawler.download.faults import DownloadError
from nightcrawler.download.file_cache import FileCache
from nightcrawler.utils.errors import UserError, VideoError
from nightcrawler.utils.io import plain_name
from tests.download.conftest import HASTE
from tests.download.server import Handler, Site, breaks_after, silent, status


@pytest.fixture
def fetching(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(videos, "PATIENCE", HASTE)
    return cache / "videos"


def write_tar(path: Path, members: dict[str, bytes], **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def read(path: str) -> bytes:
    with local_video(path) as local:
        return Path(local).read_bytes()


def test_names_in_lists_and_paths() -> None:
    for address in ("s3://bucket/a/b.mp4", "hf://datasets/o/n@main/a.mp4", "s3://b-1/x.tar::a.mp4"):
        addresses.check_address(address)
        assert plain_name(address) == address
        path = str(addresses.path_of_address(address))
        assert addresses.address_of_path(path) == address
        assert addresses.is_elsewhere(path)
    assert plain_name("s3://bucket/u\u0308.mp4") == "s3://bucket/\u00fc.mp4"
    assert addresses.address_of_path("/a/s3:/b") == "/a/s3:/b"


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("s3://bucket", r"expected s3://BUCKET/KEY"),
        ("s3://UPPER/a.mp4", r"expected s3://BUCKET/KEY"),
        ("s3://bucket/a//b.mp4", "an empty part"),
        ("s3://bucket/x.tar::../a.mp4", r"leaves its folder \('\.\.'\)"),
        ("s3://bucket/x.tar::/etc/passwd", "must be relative|an empty part"),
        ("https://u:secret@host/a.mp4", "without"),
        ("https://host/a.mp4?X-Amz-Signature=secret", "without"),
        ("http://host/a.mp4", "expected an https://"),
        ("hf://datasets/owner/a.mp4", "expected hf://OWNER"),
    ],
)
def test_addresses_that_are_refused(address: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=said) as found:
        addresses.check_address(address)
    assert "secret" not in str(found.value)
    (tmp_path / "list.csv").write_text(f"{address},0\n")
    with pytest.raises(UserError, match="row 1: "):
        read_list(tmp_path / "list.csv", [tmp_path], 1)


def test_a_video_is_fetched_once(site: Site, fetching: Path) -> None:
    site.files["/a.mp4"] = bytes(range(256)) * 5000
    site.faults["/a.mp4"] = [breaks_after(100_000), status(503)]
    address = f"{site.address}/a.mp4"
    assert read(str(Path(address))) == site.files["/a.mp4"]
    num_requests = len(site.requests)
    assert num_requests == 3
    assert read(address) == site.files["/a.mp4"]
    assert len(site.requests) == num_requests
    assert [path.suffix for path in fetching.rglob("*") if path.stem != ".lock"][-1:] == [".mp4"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (status(404), r"answers with status 404"),
        (status(403), r"answers with status 403"),
        (status(500), r"answers with status 500"),
        (breaks_after(10), r"broke off"),
        (silent(1.0), r"broke off"),
    ],
)
def test_failures_are_one_line_of_one_video(
    site: Site, fetching: Path, fault: object, said: str
) -> None:
    site.files["/a.mp4"] = bytes(1000)
    site.faults["/a.mp4"] = [fault] * 9
    with pytest.raises(VideoError, match=said) as found:
        read(str(Path(f"{site.address}/a.mp4")))
    assert found.value.status.endswith("(open)"), "it is tried again by the next run"
    assert found.value.path == f"{site.address}/a.mp4"
    assert "\n" not in str(found.value)
    assert not [path for path in fetching.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_server_that_is_silent_is_given_up(fetching: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        start = time.monotonic()
        with pytest.raises(VideoError, match="cannot be reached"):
            read(f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4")
    assert HASTE.silent_sec * HASTE.attempts < time.monotonic() - start < 10


def test_faults_of_a_decoder_name_the_address(site: Site, fetching: Path) -> None:
    site.files["/a.mp4"] = b"x"
    with pytest.raises(VideoError) as found, local_video(f"{site.address}/a.mp4") as local:
        raise VideoError(local, "damaged")
    assert str(found.value) == f"{site.address}/a.mp4: damaged (while decode)"
    assert found.value.status == "error: damaged (decode)"


def announces(handler: Handler, content: bytes) -> None:
    """The size of the file, and no byte of it: whoever waits for them waits long."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.send_header("Content-Type", "video/mp4")
    handler.end_headers()
    time.sleep(0.2)


def in_pieces(handler: Handler, content: bytes) -> None:
    """The file without its size."""
    handler.send_response(200)
    handler.send_header("Content-Type", "video/mp4")
    handler.end_headers()
    with contextlib.suppress(OSError):
        handler.wfile.write(content)
    handler.close_connection = True


@pytest.mark.parametrize("answer", [announces, in_pieces])
def test_a_file_above_the_limit_is_refused_before_it_comes(
    site: Site, fetching: Path, monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    """Once in a process: other samples of it are refused without a question."""
    monkeypatch.setenv("NIGHTCRAWLER_VIDEOS_GIB", str(2 / 1024))
    site.files["/a.mp4"] = bytes(20 << 20)
    site.faults["/a.mp4"] = [answer] * 9
    said = r"(has 20971520 bytes|brings \d{7} bytes and more), more than the cache of 2097152"
    for _ in range(3):
        with pytest.raises(VideoError, match=f"{said}; raise NIGHTCRAWLER_VIDEOS_GIB"):
            read(f"{site.address}/a.mp4")
    assert len(site.requests) == 1
    assert not [path for path in fetching.rglob("*") if path.is_file() and path.name != ".lock"]
    monkeypatch.setenv("NIGHTCRAWLER_VIDEOS_GIB", "1")
    site.faults.clear()
    assert len(read(f"{site.address}/a.mp4")) == 20 << 20


def test_a_member_above_the_limit_is_not_copied(
    tmp_path: Path, fetching: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIGHTCRAWLER_VIDEOS_GIB", str(1 / 1024))
    archive = write_tar(tmp_path / "x.tar", {"a.mp4": bytes((1 << 20) + 1), "b.mp4": b"b"})
    monkeypatch.setattr(tar_files, "COPY_BYTES", 0)
    with pytest.raises(VideoError, match="has 1048577 bytes, more than the cache of 1048576"):
        read(f"{archive}::a.mp4")


def test_the_least_recently_used_make_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = FileCache(tmp_path, 1000)
    (tmp_path / "ab").mkdir()
    others = [tmp_path / "mine.mp4", tmp_path / "ab" / "mine.mp4"]
    for path in others:
        path.write_bytes(bytes(5000))

    def add(key: str, size: int) -> Path:
        return cache.add(key, "a.mp4", lambda part: part.write_bytes(bytes(size)) and None)

    first, second = add("first", 400), add("second", 400)
    for age, path in ((900, second), (950, first)):
        os.utime(path, (time.time() - age,) * 2)
    assert cache.find("first", "a.mp4") == first
    stale = first.with_name(f"{'0' * 62}.{'1' * 32}.part")
    stale.write_bytes(bytes(9))
    os.utime(stale, (1, 1))
    third = add("third", 400)
    assert [path.exists() for path in (first, second, third, stale)] == [True, False, True, False]
    assert add("fourth", 400).exists()
    assert first.exists(), "what was used in the last minute stays"
    monkeypatch.setattr(file_cache, "IN_USE_SEC", 0.0)
    cache.make_room()
    assert not first.exists()
    with pytest.raises(DownloadError, match="has 1001 bytes, more than the cache of 1000"):
        add("large", 1001)
    assert all(path.exists() for path in others)


def _add_many(folder: Path, seed: int) -> None:
    cache = FileCache(folder, 3000)
    for number in range(40):
        key = str((number * (7 + seed)) % 23)
        path = cache.find(key, "a") or cache.add(
            key, "a", lambda part, key=key: part.write_bytes(key.encode() * 100) and None
        )
        content = path.read_bytes()
        assert content == key.encode() * 100


def test_processes_share_a_cache(tmp_path: Path) -> None:
    processes = [
        multiprocessing.get_context("fork").Process(target=_add_many, args=(tmp_path, seed))
        for seed in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert not [*tmp_path.rglob("*.part")]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_archives(tmp_path: Path, fetching: Path, site: Site, form: int) -> None:
    contents = {
        "a.mp4": bytes(range(256)),
        "Run/" + "long" * 40 + ".mp4": b"long",
        "empty.mp4": b"",
        "z\u00fc.mp4": b"last" * 1000,
    }
    if form == tarfile.USTAR_FORMAT:
        contents = {name.replace("long" * 40, "l" * 90): one for name, one in contents.items()}
    path = write_tar(tmp_path / "shards/000.tar", contents, format=form)
    site.files["/000.tar"] = path.read_bytes()
    for name, content in contents.items():
        assert read(f"{path}::{name}") == content
        assert read(f"{site.address}/000.tar::{name}") == content
    assert len(site.requests) == 1
    with pytest.raises(VideoError, match=r"no regular file 'b.mp4' in the archive"):
        read(f"{path}::b.mp4")
    write_tar(path, {"a.mp4": b"another"})
    os.utime(path, (1, 1))
    assert read(f"{path}::a.mp4") == b"another"


def test_lists_name_members_of_local_archives(tmp_path: Path, fetching: Path) -> None:
    write_tar(tmp_path / "data/shards/000.tar", {"Run/a.mp4": b"content"})
    lists = tmp_path / "list.csv"
    lists.write_text("shards/000.tar::Run/a.mp4,0\ns3://bucket/b.mp4,1\n")
    items = read_list(lists, [tmp_path / "nowhere", tmp_path / "data"], 2)
    assert [item.name for item in items] == ["shards/000.tar::Run/a.mp4", "s3://bucket/b.mp4"]
    assert read(str(items[0].path)) == b"content"
    lists.write_text("shards/000.tar::../a.mp4,0\n")
    with pytest.raises(UserError, match=r"row 1: .*leaves its folder"):
        read_list(lists, [tmp_path / "data"], 2)


def _header(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    header = bytearray(512)
    header[: len(name)] = name
    header[124 : 124 + len(size)] = size
    header[156:157] = kind
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _pax(records: bytes) -> bytes:
    """An archive whose first member is a pax header."""
    padded = records.ljust(-(-len(records) // 512) * 512, b"\0")
    return _header(b"x", b"%011o" % len(records), b"x") + padded + _header(b"a.mp4", b"0")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no plain tar archive"),
        (b"x" * 2000, "no plain tar archive"),
        (_header(b"a.mp4", b"77777777777") + bytes(1024), "cut short"),
        # A size below zero, which sends other readers back to the beginning.
        (_header(b"a.mp4", b"\xff" * 12) + bytes(1024), "a size that is no number"),
        (_header(b"a.mp4", b"-1") + bytes(1024), "a size that is no number"),
        (_header(b"L", b"00000300000", b"L") + bytes(200_000), "has a header of"),
        (_header(b"x", b"00000000014", b"x") + b"99 path=a".ljust(512, b"\0"), "is damaged"),
        # Python reads no such numbers, and raises an error of its own.
        (_pax(b"5011 size=" + b"9" * 5000 + b"\n"), "a number of 5000 digits"),
        (_pax(b"9" * 5000 + b" size=1\n"), "a number of 5000 digits"),
        (_header(b"a.mp4", b"00000000000", b"2") + bytes(1024), "no regular file 'a.mp4'"),
        (_header(b"a.mp4", b"0") * 2 + bytes(1024), "holds 'a.mp4' twice"),
    ],
)
def test_hostile_archives(tmp_path: Path, fetching: Path, content: bytes, said: str) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(VideoError, match=said):
        read(f"{tmp_path}/x.tar::a.mp4")


def test_members_that_lead_out_are_names_only(tmp_path: Path, fetching: Path) -> None:
    """Whatever an archive says, a member becomes a file of the cache, under a name of the cache."""
    path = write_tar(
        tmp_path / "in/x.tar", {"../../out.mp4": b"x", "/abs.mp4": b"x", "a.mp4": b"a"}
    )
    assert read(f"{path}::a.mp4") == b"a"
    assert not (tmp_path / "out.mp4").exists()
    with open(path, "rb") as file:
        names = [name for name, _, _ in tar_files.members(file, path.stat().st_size)]
    assert names == ["../../out.mp4", "/abs.mp4", "a.mp4"]


def test_settings(cache: Path, monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    monkeypatch.setenv("NIGHTCRAWLER_VIDEOS_GIB", "x")
    with pytest.raises(UserError, match="NIGHTCRAWLER_VIDEOS_GIB is 'x'"):
        read(f"{site.address}/a.mp4")
    monkeypatch.setenv("NIGHTCRAWLER_VIDEOS_GIB", "0.5")
    assert videos.video_cache().max_bytes == 1 << 29
    monkeypatch.setenv("NIGHTCRAWLER_OFFLINE", "1")
    with pytest.raises(VideoError, match="NIGHTCRAWLER_OFFLINE is set"):
        read(f"{site.address}/a.mp4")


def test_threads_may_fetch_together(site: Site, fetching: Path) -> None:
    site.files["/a.mp4"] = bytes(300_000)
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: found.append(read(f"{site.address}/a.mp4")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [bytes(300_000)] * 4
