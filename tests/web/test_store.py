"""Clips that are kept: room for videos, results that outlive them, names out of addresses."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="needs the extra: pip install 'nightcrawler-video[web]'")

from nightcrawler.predict.video_result import VideoResult
from nightcrawler.web import store as store_module
from nightcrawler.web.answers import Failure
from nightcrawler.web.store import ClipStore, KeptClip


def add(store: ClipStore, num_bytes: int) -> str:
    name, folder = store.create()
    for part in ("upload.mp4", "before.mp4"):
        (folder / part).write_bytes(bytes(num_bytes // 2))
    result = VideoResult("a.mp4", -1, "ok", ("Run",), 0, (1.0,))
    store.keep(KeptClip(name, result, Failure(error=""), folder / "upload.mp4"))
    return name


def test_videos_used_longest_ago_go_and_results_stay(tmp_path: Path) -> None:
    store = ClipStore(tmp_path, 1000)
    first, second = add(store, 400), add(store, 400)
    assert store.video(first, "before.mp4")  # used again: now the second is the oldest
    third = add(store, 400)
    assert store.video(second, "before.mp4") is None
    assert store.video(first, "before.mp4")
    assert store.video(third, "before.mp4")
    known = store.find(second)
    assert known is not None
    assert known.result.class_id == 0
    assert {path.name for path in tmp_path.iterdir()} == {first, third}


def test_a_clip_larger_than_the_room_is_kept_alone(tmp_path: Path) -> None:
    store = ClipStore(tmp_path, 1000)
    add(store, 600)
    large = add(store, 5000)
    assert [path.name for path in tmp_path.iterdir()] == [large]


def test_the_number_of_results_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "MAX_RESULTS", 2)
    store = ClipStore(tmp_path, 10**6)
    names = [add(store, 10) for _ in range(4)]
    assert [store.find(name) is not None for name in names] == [False, False, True, True]
    assert len(list(tmp_path.iterdir())) == 2


def test_only_videos_of_known_clips_have_a_path(tmp_path: Path) -> None:
    store = ClipStore(tmp_path, 1000)
    name = add(store, 10)
    for clip, part in ((name, "upload.mp4"), (name, "../x"), ("..", "before.mp4"), ("", "")):
        assert store.video(clip, part) is None
    assert store.remove(name)
    assert not store.remove(name)
    assert list(tmp_path.iterdir()) == []
