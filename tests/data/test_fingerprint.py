"""Fingerprints of videos: other content of the same list is seen, a move is not."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nightcrawler.data.fingerprint import content_of, fingerprint, hash_ends, video_list
from nightcrawler.utils.file_hashes import FileHashes

LARGE = bytes(range(256)) * 1024


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    (folder / "Test").mkdir(parents=True)
    (folder / "test.csv").write_text("0.mp4,0\n1.mp4,1\n")
    (folder / "Test/0.mp4").write_bytes(b"short")
    (folder / "Test/1.mp4").write_bytes(LARGE)
    return folder


def of(folder: Path, memory: Path | None = None) -> str:
    hashes = FileHashes(memory or folder / "none.json")
    found = fingerprint(video_list("test", folder), hashes)
    hashes.save()
    return found


def test_the_hash_of_the_ends_is_that_of_size_head_and_tail(data: Path) -> None:
    for name, content in (("0.mp4", b"short"), ("1.mp4", LARGE)):
        wanted = f"{len(content)}\n".encode() + content[: 64 << 10] + content[-(64 << 10) :]
        assert hash_ends(data / "Test" / name) == hashlib.sha256(wanted).hexdigest()


def test_a_move_or_a_copy_is_the_same_data(data: Path, tmp_path: Path) -> None:
    before = of(data)
    copy = Path(shutil.copytree(data, tmp_path / "elsewhere/copy"))
    assert of(copy) == before
    data.rename(tmp_path / "moved")
    assert of(tmp_path / "moved") == before


@pytest.mark.parametrize(
    "change",
    [
        lambda video: video.write_bytes(b"x" + LARGE[1:]),
        lambda video: video.write_bytes(LARGE[:-1] + b"x"),
        lambda video: video.write_bytes(LARGE + b"x"),
        lambda video: video.unlink(),
        lambda video: video.with_name("0.mp4").write_bytes(b"Short"),
        lambda video: video.with_name("0.mp4").unlink(),
    ],
)
def test_other_content_is_other_data(data: Path, change: Callable[[Path], object]) -> None:
    memory = data / ".hashes.json"
    for path in (data / "Test").iterdir():
        os.utime(path, (1, 1))
    before = of(data, memory)
    assert of(data, memory) == before
    change(data / "Test/1.mp4")
    assert of(data, memory) != before


def test_videos_are_read_once(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = data / ".hashes.json"
    for path in (data / "Test").iterdir():
        os.utime(path, (1, 1))
    before = of(data, memory)

    def fail(path: Path) -> str:
        raise AssertionError(path)

    monkeypatch.setattr("nightcrawler.data.fingerprint.hash_ends", fail)
    assert of(data, memory) == before


def test_a_list_that_is_not_there_or_is_none_has_no_fingerprint(data: Path) -> None:
    (data / "test.csv").write_text("../../etc/passwd,0\n")
    assert of(data) == ""
    (data / "test.csv").unlink()
    assert of(data) == ""


def test_a_fifo_in_the_place_of_a_video_is_not_waited_for(data: Path) -> None:
    (data / "Test/0.mp4").unlink()
    os.mkfifo(data / "Test/0.mp4")
    assert of(data)


def put_in_archive(path: Path, **members: bytes) -> None:
    with tarfile.open(path, "w") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(f"{name}.mp4")
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))


def test_members_of_archives_count_as_files_do(data: Path) -> None:
    """Two archives with two videos swapped are other data; one that is written again is not."""
    (data / "test.csv").write_text("clips.tar::a.mp4,0\nclips.tar::b.mp4,1\n")
    memory = data / ".hashes.json"
    archive = data / "Test/clips.tar"
    put_in_archive(archive, a=b"short", b=LARGE)
    os.utime(archive, (1, 1))
    before = of(data, memory)
    for member, file in (("a.mp4", "0.mp4"), ("b.mp4", "1.mp4")):
        assert hash_ends(Path(f"{archive}::{member}")) == hash_ends(data / "Test" / file)
    put_in_archive(archive, a=LARGE, b=b"short")
    os.utime(archive, (2, 2))
    assert of(data, memory) != before
    put_in_archive(archive, b=LARGE, a=b"short")
    os.utime(archive, (3, 3))
    assert of(data, memory) == before


def test_what_cannot_be_read_is_no_constant(data: Path) -> None:
    """Another damaged archive, another file without permission, another address: other content."""
    archive = data / "Test/clips.tar"
    found = set()
    for content in (b"", b"x" * 1024, LARGE):
        archive.write_bytes(content)
        found.add(content_of(Path(f"{archive}::a.mp4"), FileHashes(data / "none.json")))
        found.add(content_of(Path(f"{archive}::a.mp4")))
    assert len(found) == 3
    addresses = ("s3:/night/a.mp4", "s3:/night/b.mp4", "https:/host/x.tar::a.mp4")
    assert len({content_of(Path(one)) for one in addresses}) == 3
