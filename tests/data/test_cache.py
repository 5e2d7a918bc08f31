"""The cache: never other frames than without it, whatever happens to its files, its writers and its bound."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fvcore.common.config import CfgNode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from nightcrawler.config.node import get_cfg
from nightcrawler.data import cache as cache_module
from nightcrawler.data.batch_sampler import MicroBatchSampler, SampleKey
from nightcrawler.data.build_video import build_video_reader
from nightcrawler.data.cache import (
    Cache,
    CachedReader,
    CachedVideo,
    DiskCache,
    RamCache,
    video_key,
)
from nightcrawler.data.dataset import ClipDataset, TrainCollate
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.decode import Decoded, FileReader, VideoReader, read_frames
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.utils.errors import UserError, VideoError
from tests.conftest import MakeClip
from tests.data.test_dataset import eval_clips, train_clips
from tests.paths import ROOT
from tests.reading import CountingReader, PromisingReader, read_file

MIB = 1 << 20
SETTINGS = {"short_side": 0}


@pytest.fixture(scope="module")
def clips(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Five videos of 9 to 33 frames of 40 x 30 pixels; frames of 3,600 bytes."""
    folder = tmp_path_factory.mktemp("cache_clips")
    return [
        make_clip(folder / f"{number}.mp4", 9 + 6 * number, (40, 30), seed=number)
        for number in range(5)
    ]


def every(num_frames: int) -> range:
    return range(num_frames)


def some(num_frames: int) -> list[int]:
    return [1, 4, num_frames - 1]


def assert_same(one: Decoded, other: Decoded) -> None:
    assert (one.frames == other.frames).all()
    assert (one.frames.dtype, one.frames.shape) == (other.frames.dtype, other.frames.shape)
    assert (list(one.indices), one.num_frames, one.fps) == (
        list(other.indices),
        other.num_frames,
        other.fps,
    )


def make_cache(kind: str, folder: Path, max_bytes: int = 64 * MIB) -> Cache:
    return RamCache(max_bytes) if kind == "ram" else DiskCache(folder / "cache", max_bytes)


def cached(cache: Cache, inner: VideoReader | None = None) -> CachedReader:
    return CachedReader(inner or FileReader(), cache, SETTINGS)


def clip_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.clip"))


def size_of(folder: Path) -> int:
    return sum(
        path.stat().st_size for path in folder.rglob("*") if path.suffix in (".clip", ".tmp")
    )


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_video_is_decoded_once_and_any_frames_come_from_the_cache(
    clips: list[Path], tmp_path: Path, kind: str
) -> None:
    counting = CountingReader()
    reader = cached(make_cache(kind, tmp_path), counting)
    assert_same(read_frames(reader, clips[1], some), read_file(clips[1], some))
    assert counting.asked == [[1, 4, 14], list(range(15))]
    for choose in (some, every, lambda num_frames: [0]):
        found = read_frames(reader, clips[1], choose)
        assert_same(found, read_file(clips[1], choose))
        assert found.frames.flags.writeable
    found.frames[:] = 0
    assert_same(read_frames(reader, clips[1], every), read_file(clips[1], every))
    assert len(counting.asked) == 2


def epochs(items: list[VideoItem], reader: VideoReader, workers: int) -> list[dict[str, Any]]:
    """Micro-batches of two epochs, by the same workers."""
    dataset = ClipDataset(items, reader, train_clips(), 7, replace_bad=True)
    sampler = MicroBatchSampler(len(items), 2, 4, 2, seed=1)
    collate = TrainCollate(torch.tensor([item.label for item in items]), None, 2)
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    batches = []
    for epoch in range(2):
        sampler.set_position(epoch)
        batches += list(loader)
    return batches


@pytest.mark.parametrize(("kind", "workers"), [("ram", 0), ("ram", 2), ("disk", 0), ("disk", 2)])
def test_samples_are_the_same_with_and_without(
    clips: list[Path], tmp_path: Path, kind: str, workers: int, make_clip: MakeClip
) -> None:
    """One of the videos is none, and one has a container that promises a frame more than there is."""
    (tmp_path / "broken.mp4").write_text("not a video")
    paths = [*clips, tmp_path / "broken.mp4", make_clip(tmp_path / "long.mp4", 40, (40, 30))]
    items = [
        VideoItem(path.name, number % 3, path, number + 1) for number, path in enumerate(paths)
    ]
    plain = epochs(items, FileReader(), 0)
    found = epochs(items, cached(make_cache(kind, tmp_path)), workers)
    assert len(plain) == len(found) == 8
    for one, other in zip(plain, found, strict=True):
        assert torch.equal(one["clip"], other["clip"])
        assert torch.equal(one["index"], other["index"])
        assert one["bad"] == other["bad"]
    assert any(batch["bad"] for batch in plain)


def test_all_views_and_crops_are_the_same(clips: list[Path], tmp_path: Path) -> None:
    items = [VideoItem(clips[4].name, 0, clips[4], 1)]
    reader = cached(make_cache("disk", tmp_path))
    plain, *again = (
        ClipDataset(items, one, eval_clips((1, 1), (3, 3)), 7, False)[SampleKey(0, 0)]
        for one in (FileReader(), reader, reader)
    )
    for sample in again:
        assert torch.equal(sample["clip"], plain["clip"])
        assert sample["members"] == plain["members"]


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_choice_is_asked_for_as_often_as_by_the_decoder(
    clips: list[Path], tmp_path: Path, kind: str
) -> None:
    """A choice draws from a generator: one question less, and all later draws were others."""
    reader = cached(make_cache(kind, tmp_path), PromisingReader(16))
    for _ in range(3):
        asked: list[int] = []
        found = read_frames(
            reader,
            clips[1],
            lambda num_frames, asked=asked: asked.append(num_frames) or [len(asked)],
        )
        assert asked == [16, 15]
        assert found.indices == [2]


def test_a_damaged_frame_does_not_ask_again(clips: list[Path], tmp_path: Path) -> None:
    reader, asked = cached(make_cache("disk", tmp_path), PromisingReader(16)), []
    read_frames(reader, clips[1], every)
    spoil(clip_files(tmp_path)[0], -1)
    read_frames(reader, clips[1], lambda num_frames: asked.append(num_frames) or [14])
    assert asked == [16, 15]


def spoil(path: Path, place: int) -> None:
    """Change one byte of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: spoil(path, 0),
        lambda path: spoil(path, 8),
        lambda path: spoil(path, 36),
        lambda path: spoil(path, 44),
        lambda path: spoil(path, 50),
        lambda path: spoil(path, 200),
        lambda path: spoil(path, -1),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(path.read_bytes() + b"x"),
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: shutil.copy(path.parent / "other.clip", path),
    ],
)
def test_a_damaged_file_is_never_used_and_made_again(
    clips: list[Path],
    tmp_path: Path,
    damage: Callable[[Path], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    counting = CountingReader()
    reader = cached(make_cache("disk", tmp_path), counting)
    read_frames(reader, clips[2], some)
    shutil.copy(clip_files(tmp_path)[0], tmp_path / "other")
    (path,) = clip_files(tmp_path)
    read_frames(reader, clips[1], some)
    shutil.copy(
        next(other for other in clip_files(tmp_path) if other != path), path.parent / "other.clip"
    )
    damage(path)
    with caplog.at_level(logging.WARNING, "nightcrawler"):
        assert_same(read_frames(reader, clips[2], every), read_file(clips[2], every))
    assert len(counting.asked) == 6
    assert path.read_bytes() == (tmp_path / "other").read_bytes()
    assert_same(read_frames(reader, clips[2], every), read_file(clips[2], every))
    assert len(counting.asked) == 6


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.integers(0, 10**9), st.integers(1, 255)), min_size=1, max_size=20),
    st.booleans(),
)
def test_wild_damage(
    clips: list[Path], tmp_path: Path, changes: list[tuple[int, int]], early: bool
) -> None:
    """Any bytes changed, anywhere or in the header: the frames are those of the video, and nothing else happens."""
    reader = cached(make_cache("disk", tmp_path))
    read_frames(reader, clips[0], every)
    (path,) = clip_files(tmp_path)
    data = bytearray(path.read_bytes())
    for place, change in changes:
        data[place % (90 if early else len(data))] ^= change
    path.write_bytes(data)
    assert_same(read_frames(reader, clips[0], some), read_file(clips[0], some))


def test_frames_that_are_not_taken_are_not_looked_at(clips: list[Path], tmp_path: Path) -> None:
    counting = CountingReader()
    reader = cached(make_cache("disk", tmp_path), counting)
    read_frames(reader, clips[1], some)
    spoil(clip_files(tmp_path)[0], -15 * 3600)  # frame 0
    assert_same(read_frames(reader, clips[1], some), read_file(clips[1], some))
    assert len(counting.asked) == 2


def test_a_video_goes_by_its_content_and_the_settings(clips: list[Path], tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    shutil.copy(clips[0], path)
    key = video_key(str(path), SETTINGS)
    status = path.stat()
    spoil(path, -1)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert video_key(str(path), SETTINGS) != key
    assert video_key(str(clips[0]), SETTINGS) == key
    others = [{"short_side": 15}, {"short_side": 0, "denoise": 3}, {}]
    assert len({key, *(video_key(str(clips[0]), other) for other in others)}) == 4
    assert {video_key(str(clip), SETTINGS).split("/")[0] for clip in clips} == {key.split("/")[0]}


def test_other_versions_are_other_keys(clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {video_key(str(clips[0]), SETTINGS)}
    monkeypatch.setattr(cache_module, "VERSION", 10**6)
    keys.add(video_key(str(clips[0]), SETTINGS))
    monkeypatch.setattr(cache_module.av, "library_versions", {"libavcodec": (1, 2, 3)})
    keys.add(video_key(str(clips[0]), SETTINGS))
    assert len(keys) == 3


def configured(folder: Path, **data: Any) -> CfgNode:
    cfg = get_cfg()
    cfg.DATA.PATH_PREFIX, cfg.DATA.CACHE = str(folder), "disk"
    for key, value in data.items():
        cfg.DATA[key] = value
    return cfg


def test_settings_of_the_configuration_do_not_share_frames(
    clips: list[Path], tmp_path: Path
) -> None:
    for number, (short_side, window) in enumerate([(0, 1), (15, 1), (0, 3), (15, 3)], start=1):
        cfg = configured(tmp_path, DECODE_SHORT_SIDE=short_side)
        plain = build_video_reader(
            configured(tmp_path, CACHE="none", DECODE_SHORT_SIDE=short_side), window
        )
        for _ in range(2):
            reader = build_video_reader(cfg, window)
            assert_same(read_frames(reader, clips[2], some), read_frames(plain, clips[2], some))
        assert len(clip_files(tmp_path / "cache")) == number


def test_the_configuration_says_where_and_how_much(clips: list[Path], tmp_path: Path) -> None:
    cfg = configured(tmp_path, CACHE_DIR=str(tmp_path / "there"), CACHE_GIB=0.001)
    reader = build_video_reader(cfg)
    assert (reader.cache.folder, reader.cache.max_bytes) == (
        tmp_path / "there",
        2**30 // 1000,
    )
    ram = [
        build_video_reader(configured(tmp_path, CACHE="ram", CACHE_GIB=1.5), window)
        for window in (1, 3)
    ]
    assert ram[0].cache is ram[1].cache
    assert ram[0].cache.max_bytes == 3 * 2**29


def test_ram_forgets_what_was_not_used_for_longest() -> None:
    videos = {name: CachedVideo(np.zeros((1, 10, 10, 3), np.uint8), 1, 0.0) for name in "abcd"}
    ram = RamCache(900)
    for name in "abc":
        ram.put(name, videos[name])
    assert ram.get("a") is videos["a"]
    ram.put("d", videos["d"])
    assert [name for name in "abcd" if ram.get(name)] == ["a", "c", "d"]
    ram.put("a", CachedVideo(np.zeros((2, 10, 10, 3), np.uint8), 2, 0.0))
    assert [name for name in "abcd" if ram.get(name)] == ["a", "d"]
    ram.put("b", CachedVideo(np.zeros((4, 10, 10, 3), np.uint8), 4, 0.0))
    assert [name for name in "abcd" if ram.get(name)] == ["a", "d"]


def test_a_full_folder_stays_below_its_bound_and_says_so_once(
    clips: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """9, 15, 21 frames of 3,600 bytes fit into 170,000 bytes, 27 and 33 do not."""
    counting = CountingReader()
    reader = cached(make_cache("disk", tmp_path, 170_000), counting)
    with caplog.at_level(logging.WARNING, "nightcrawler"):
        for _ in range(2):
            for clip in clips:
                assert_same(read_frames(reader, clip, some), read_file(clip, some))
    assert len(clip_files(tmp_path)) == 3
    assert 45 * 3600 < size_of(tmp_path) <= 170_000
    # Three videos twice (the wanted frames, all); the other two twice in both epochs.
    assert len(counting.asked) == 3 * 2 + 2 * 4
    assert sum("is full" in record.message for record in caplog.records) == 1
    assert "raise max_bytes" in caplog.text


def test_what_others_wrote_counts(clips: list[Path], tmp_path: Path) -> None:
    for clip in clips:
        read_frames(cached(make_cache("disk", tmp_path, 170_000)), clip, some)
    assert 45 * 3600 < size_of(tmp_path) <= 170_000


def test_a_removed_video_makes_room_for_the_next_run(clips: list[Path], tmp_path: Path) -> None:
    for clip in clips[:3]:
        read_frames(cached(make_cache("disk", tmp_path, 170_000)), clip, some)
    for path in clip_files(tmp_path):
        path.unlink()
    read_frames(cached(make_cache("disk", tmp_path, 170_000)), clips[4], some)
    assert len(clip_files(tmp_path)) == 1


def test_a_long_video_is_not_gathered_in_memory(
    clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "MAX_VIDEO_BYTES", 15 * 3600)
    counting = CountingReader()
    reader = cached(make_cache("disk", tmp_path), counting)
    read_frames(reader, clips[1], some)
    read_frames(reader, clips[2], some)
    assert counting.asked == [[1, 4, 14], list(range(15)), [1, 4, 20]]


def test_a_video_whose_other_frames_are_damaged_is_not_kept(
    clips: list[Path], tmp_path: Path
) -> None:
    class PartlyDamaged(FileReader):
        def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
            if 7 in indices:
                raise VideoError(path, "frame 7 is damaged")
            return super().decode(path, indices, info)

    reader = cached(make_cache("disk", tmp_path), PartlyDamaged())
    for _ in range(2):
        assert_same(read_frames(reader, clips[1], some), read_file(clips[1], some))
    assert clip_files(tmp_path) == []
    with pytest.raises(VideoError, match="frame 7"):
        read_frames(reader, clips[1], every)


@pytest.mark.parametrize("name", ["gone.mp4", "folder", "a\0b.mp4", "broken.mp4", "pipe"])
def test_errors_are_the_decoders(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken.mp4").write_text("not a video")
    os.mkfifo(tmp_path / "pipe")
    path = f"{tmp_path}/{name}"
    with pytest.raises(VideoError) as plain:
        read_file(path, every)
    with pytest.raises(VideoError) as found:
        read_frames(cached(make_cache("disk", tmp_path)), path, every)
    assert str(found.value) == str(plain.value)


def test_a_folder_that_can_only_be_read_is_read(
    clips: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Any user may be root, who writes everywhere: the system's answer is made up."""
    first, second = map(str, clips[:2])
    expected = read_frames(cached(DiskCache(tmp_path, 64 * MIB)), first, every)
    kept = clip_files(tmp_path)

    def refuse(self: DiskCache) -> object:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(DiskCache, "_open_tally", refuse)
    inner = CountingReader()
    reader = cached(DiskCache(tmp_path, 64 * MIB), inner)
    assert "its videos are read, no more are kept" in caplog.text
    assert_same(read_frames(reader, first, every), expected)
    read_frames(reader, second, every)
    read_frames(reader, second, every)
    assert clip_files(tmp_path) == kept


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match=r"cache: the folder of the cache cannot be written to"):
        DiskCache(tmp_path / "cache", MIB)


def test_a_full_disk_does_not_stop_a_run(
    clips: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def full(source: str, target: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache_module.os, "replace", full)
    reader = cached(make_cache("disk", tmp_path))
    with caplog.at_level(logging.WARNING, "nightcrawler"):
        for clip in clips[:2]:
            assert_same(read_frames(reader, clip, some), read_file(clip, some))
    assert size_of(tmp_path) == 0
    assert sum("No space left on device" in record.message for record in caplog.records) == 1


KILLED = """
import os, signal, sys
from nightcrawler.data import cache
from nightcrawler.data.video.decode import FileReader, read_frames
def killed(source, target):
    os.kill(os.getpid(), signal.SIGKILL)
cache.os.replace = killed
store = cache.DiskCache(sys.argv[1], 64 << 20)
reader = cache.CachedReader(FileReader(), store, {"short_side": 0})
read_frames(reader, sys.argv[2], range)
"""


@pytest.mark.fault
def test_a_killed_writer_leaves_nothing_broken(clips: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    command = [sys.executable, "-c", KILLED, str(folder), str(clips[1])]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    (left,) = folder.rglob("*.tmp")
    assert clip_files(folder) == []
    reader = cached(DiskCache(folder, 64 * MIB))
    for _ in range(2):
        assert_same(read_frames(reader, clips[1], some), read_file(clips[1], some))
    assert len(clip_files(folder)) == 1
    # It may still be written to, and counts; an hour later it goes.
    assert left.exists()
    os.utime(left, (time.time() - 3700,) * 2)
    read_frames(cached(DiskCache(folder, 64 * MIB)), clips[2], some)
    assert not left.exists()


def fill(folder: Path, paths: list[Path], max_bytes: int, results: Any) -> None:
    reader = cached(DiskCache(folder, max_bytes))
    results.put(
        [read_frames(reader, path, some).frames.tobytes() for path in paths for _ in range(2)]
    )


@pytest.mark.parametrize(("max_bytes", "num_kept"), [(64 * MIB, 5), (170_000, None)])
def test_two_processes_at_once(
    clips: list[Path], tmp_path: Path, max_bytes: int, num_kept: int | None
) -> None:
    """Every reader sees the right frames; together they stay below the bound."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    orders = [clips, clips, clips[::-1]]
    processes = [
        context.Process(target=fill, args=(tmp_path / "cache", order, max_bytes, results))
        for order in orders
    ]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    forward = [read_file(path, some).frames.tobytes() for path in clips for _ in range(2)]
    backward = [read_file(path, some).frames.tobytes() for path in clips[::-1] for _ in range(2)]
    assert sorted(found) == sorted([forward, forward, backward])
    assert size_of(tmp_path / "cache") <= max_bytes
    assert num_kept is None or len(clip_files(tmp_path / "cache")) == num_kept
    assert list((tmp_path / "cache").rglob("*.tmp")) == []


def test_files_of_others_in_the_folder_are_left_alone_and_not_counted(
    clips: list[Path], tmp_path: Path
) -> None:
    """CACHE_DIR may be a scratch folder, a project, or a home."""
    folder = tmp_path / "scratch"
    own = ("0123456789abcdef", f"{'0' * 64}.{'1' * 32}.tmp")
    elsewhere = tmp_path / "elsewhere"
    others = [
        folder / "notes.tmp",
        folder / "project/results/model.tmp",
        folder / "project" / own[1],
        folder / own[0] / "model.tmp",
        folder / own[0] / "deeper" / own[1],
        folder / "0123456789abcdeg" / own[1],
        folder / "film.clip",
        elsewhere / own[1],
    ]
    stale = folder.joinpath(*own)
    for path in (*others, stale):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weeks of work")
        os.utime(path, (1, 1))
    link = folder / "fedcba9876543210"
    link.symlink_to(elsewhere)
    linked = stale.with_name(f"{'2' * 64}.{'3' * 32}.tmp")
    linked.symlink_to(others[0])
    cache = DiskCache(folder, MIB)
    key = video_key(str(clips[0]), SETTINGS)
    frames = np.zeros((2, 4, 4, 3), np.uint8)
    cache.put(key, CachedVideo(frames, 2, 10.0))
    assert [path for path in others if path.read_bytes() != b"weeks of work"] == []
    assert link.is_symlink()
    assert linked.is_symlink()
    assert not stale.exists()
    (kept,) = (path for path in folder.rglob("*.clip") if path.name != "film.clip")
    assert int((folder / ".used").read_bytes()) == kept.stat().st_size


def test_a_link_in_the_place_of_the_count_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "thesis.txt"
    victim.write_text("mine")
    folder = tmp_path / "cache"
    folder.mkdir()
    (folder / ".used").symlink_to(victim)
    with pytest.raises(UserError, match="is a symbolic link"):
        DiskCache(folder, 1 << 20)
    (folder / ".used").unlink()
    cache = DiskCache(folder, 1 << 20)
    (folder / ".used").unlink()
    (folder / ".used").symlink_to(victim)
    cache.put(f"{'0' * 16}/{'1' * 64}", CachedVideo(np.zeros((1, 8, 8, 3), np.uint8), 1, 25.0))
    assert victim.read_text() == "mine"
