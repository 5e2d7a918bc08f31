"""Whole-file checks are done once a file: an unchanged file is opened once a sample, a changed one is probed again."""

from __future__ import annotations

import builtins
import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import av
import pytest

import nightcrawler.data.video.integrity.checksums as checksums_module
import nightcrawler.data.video.integrity.file_identity as file_state
import nightcrawler.data.video.probe as probe_module
from nightcrawler.data.batch_sampler import SampleKey
from nightcrawler.data.cache import CachedReader, RamCache, video_key
from nightcrawler.data.dataset import ClipDataset
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.decode import FileReader, VideoReader, read_frames
from nightcrawler.data.video.integrity.checksums import ChecksumReader
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import probe
from nightcrawler.utils.errors import VideoError
from nightcrawler.utils.lru import LruMapping
from tests.conftest import MakeClip
from tests.data.test_dataset import eval_clips


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is remembered before a test, and files count as settled at once."""
    monkeypatch.setattr(probe_module, "_remembered", LruMapping(1000))
    monkeypatch.setattr(checksums_module, "_remembered", LruMapping(1000))
    monkeypatch.setattr(file_state, "SETTLED_SEC", 0.0)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often videos are opened from now on: by FFmpeg, and as plain files."""
    counts: Counter[str] = Counter()
    real_av_open, real_open = av.open, builtins.open

    def av_open(*args: Any, **options: Any) -> Any:
        counts["av"] += 1
        return real_av_open(*args, **options)

    def plain_open(file: Any, *args: Any, **options: Any) -> Any:
        counts["plain"] += str(file).endswith((".mp4", ".mkv"))
        return real_open(file, *args, **options)

    monkeypatch.setattr(av, "open", av_open)
    monkeypatch.setattr(builtins, "open", plain_open)
    return counts


def opens_per_sample(path: Path, reader: VideoReader, opened: Counter[str]) -> list[dict[str, int]]:
    """Opens of each of three samples of one video."""
    dataset = ClipDataset([VideoItem(path.name, 0, path, 1)], reader, eval_clips((1, 1)), 7, False)
    found = []
    for epoch in range(3):
        opened.clear()
        assert dataset[SampleKey(0, epoch)]["status"] == "ok"
        found.append({kind: count for kind, count in opened.items() if count})
    return found


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_a_sample_opens_its_file_seven_times_at_first_and_once_from_then_on(
    make_clip: MakeClip, tmp_path: Path, opened: Counter[str], suffix: str
) -> None:
    """By hand: tables of MP4, elements of three kinds, joined files, packets, frames; then frames alone."""
    path = make_clip(tmp_path / f"clip.{suffix}", 9, (40, 30))
    first, *others = opens_per_sample(path, FileReader(), opened)
    assert first == {"av": 2, "plain": 5}
    assert others == [{"av": 1}, {"av": 1}]


def test_checksums_and_keys_of_a_cache_are_made_once(
    make_clip: MakeClip, tmp_path: Path, opened: Counter[str]
) -> None:
    """The file is read once for both, and checked once in `ChecksumReader`; a cached video is not opened at all."""
    path = make_clip(tmp_path / "clip.mp4", 9, (40, 30))
    sums = {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
    cached = CachedReader(FileReader(), RamCache(1 << 30), {})
    _, *others = opens_per_sample(path, ChecksumReader(cached, sums), opened)
    assert others == [{}, {}]


def wait_for_another_ctime(path: Path, before: os.stat_result) -> None:
    """Set the old time of change again until the file system's clock has moved on."""
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("how", ["other size", "same size and time", "another file in its place"])
def test_a_file_that_changes_is_probed_again(make_clip: MakeClip, tmp_path: Path, how: str) -> None:
    path = make_clip(tmp_path / "clip.mp4", 9, (40, 30))
    assert probe(str(path), Limits()).num_frames == 9
    key, before = video_key(str(path), {}), path.stat()
    content = make_clip(tmp_path / "other.mp4", 12, (40, 30)).read_bytes()
    if how == "other size":
        path.write_bytes(content)
        assert probe(str(path), Limits()).num_frames == 12
    elif how == "same size and time":
        path.write_bytes(bytes(before.st_size))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        wait_for_another_ctime(path, before)
        after = path.stat()
        assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
        with pytest.raises(VideoError, match="not a video"):
            probe(str(path), Limits())
    else:
        os.replace(tmp_path / "other.mp4", path)
        assert probe(str(path), Limits()).num_frames == 12
    assert video_key(str(path), {}) != key


def test_a_file_that_changes_after_its_checksum_was_compared(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / "clip.mp4", 9, (40, 30))
    before = path.stat()
    sums = {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}
    reader = ChecksumReader(FileReader(), sums)
    for _ in range(2):
        assert read_frames(reader, path, range).num_frames == 9
    path.write_bytes(path.read_bytes() + b"\0")
    wait_for_another_ctime(path, before)
    with pytest.raises(VideoError, match="damaged: its bytes are not those"):
        read_frames(reader, path, range)


def test_a_file_that_changed_just_now_is_not_remembered(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Counter[str]
) -> None:
    """Within a step of the file system's clock it may change again and look the same."""
    monkeypatch.setattr(file_state, "SETTLED_SEC", 3600.0)
    path = make_clip(tmp_path / "clip.mp4", 9, (40, 30))
    for found in opens_per_sample(path, FileReader(), opened):
        assert found == {"av": 2, "plain": 5}


def test_a_file_that_was_refused_is_read_after_it_was_mended(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"not a video")
    before = path.stat()
    for _ in range(2):
        with pytest.raises(VideoError, match="not a video"):
            probe(str(path), Limits())
    make_clip(path, 9, (40, 30))
    wait_for_another_ctime(path, before)
    assert probe(str(path), Limits()).num_frames == 9


def test_other_limits_are_another_question(make_clip: MakeClip, tmp_path: Path) -> None:
    path = str(make_clip(tmp_path / "clip.mp4", 9, (40, 30)))
    assert probe(path, Limits()).num_frames == 9
    with pytest.raises(VideoError, match="more than 8 frames"):
        probe(path, Limits(frames=8))


def test_no_more_frames_are_remembered_than_allowed(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Counter[str]
) -> None:
    """Two videos of nine frames do not fit into a memory of seventeen."""
    monkeypatch.setattr(probe_module, "_remembered", LruMapping(17))
    one, other = (str(make_clip(tmp_path / name, 9, (40, 30))) for name in ("a.mp4", "b.mp4"))
    opened.clear()
    for path, expected in ((one, 1), (one, 1), (other, 2), (other, 2), (one, 3)):
        probe(path, Limits())
        assert opened["av"] == expected
