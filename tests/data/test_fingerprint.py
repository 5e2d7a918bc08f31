"""Fingerprints of videos: other content of the same list is seen, a move is not."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nightcrawler.data.fingerprint import fingerprint, hash_ends, video_list
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
