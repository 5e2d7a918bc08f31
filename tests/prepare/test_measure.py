"""Measuring a video: noise of known size, brightness by hand, a row for whatever a file may be."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import av
import numpy as np
import pytest

import nightcrawler.prepare.measure as module
from nightcrawler.config.node import get_cfg
from nightcrawler.prepare.measure import TARGET_MEAN, Measurement, measure, usable
from tests.conftest import MakeClip
from tests.paths import shared


def write_lossless(path: Path, frames: np.ndarray) -> Path:
    """Grey frames without loss; the luminance of every frame is kept."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_brightness_is_that_of_the_frames(tmp_path: Path) -> None:
    frames = np.random.default_rng(3).gamma(2.0, 12.0, (5, 48, 64, 3)).clip(0, 255).astype(np.uint8)
    path = write_lossless(tmp_path / "a.mkv", frames)
    found = measure(str(path))
    status = path.stat()
    assert (found.status, found.cause, found.path) == ("ok", "", str(path))
    assert (found.num_frames, found.height, found.width, found.fps) == (5, 48, 64, 10.0)
    assert (found.size_bytes, found.mtime_ns) == (status.st_size, status.st_mtime_ns)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.mean == pytest.approx(frames.mean(), abs=0.01)
    assert [found.p5, found.p50, found.p95] == np.percentile(
        frames, [5, 50, 95], method="inverted_cdf"
    ).tolist()
    lit = 255 * (frames / 255.0) ** found.gamma
    assert lit.mean() == pytest.approx(TARGET_MEAN, abs=0.5)


def test_the_gamma_aims_at_the_default_of_the_configuration() -> None:
    assert get_cfg().ENHANCE.TARGET_MEAN == TARGET_MEAN


def test_a_large_picture_keeps_its_size_in_the_row(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_clip(tmp_path / "a.mp4", 3, (64, 48))
    monkeypatch.setattr(module, "MEASURED_SIDE_PX", 24)
    found = measure(str(path))
    assert (found.width, found.height) == (64, 48)


def test_whatever_is_no_video_has_a_row_with_its_cause(make_clip: MakeClip, tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    os.mkfifo(tmp_path / "pipe.mp4")
    cut = make_clip(tmp_path / "cut.avi", 30, codec="mpeg4")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    names = ("missing.mp4", "empty.mp4", "text.mp4", "pipe.mp4", "cut.avi")
    rows = {name: measure(str(tmp_path / name)) for name in names}
    assert {row.status for row in rows.values()} == {"bad"}
    assert [row.num_frames for row in rows.values()] == [0] * 5
    assert rows["missing.mp4"] == Measurement(
        str(tmp_path / "missing.mp4"), "bad", "cannot be read: No such file or directory"
    )
    assert rows["pipe.mp4"].cause == "not a regular file"
    assert rows["empty.mp4"].cause == "the file is empty"
    assert "not a video" in rows["text.mp4"].cause
    assert rows["cut.avi"].cause
    assert rows["cut.avi"].sha256 == hashlib.sha256(cut.read_bytes()).hexdigest()


def test_a_fault_that_nobody_thought_of_is_a_row_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("strange")

    (tmp_path / "a.mp4").write_bytes(b"x")
    monkeypatch.setattr(module, "read_frames", fail)
    found = measure(str(tmp_path / "a.mp4"))
    assert (found.status, found.cause, found.size_bytes) == (
        "bad",
        "unexpected RuntimeError: strange",
        1,
    )


def test_dark_real_clips_are_dark_and_get_a_gamma() -> None:
    for path in sorted((shared() / "clips/arid").rglob("*.mp4"))[:3]:
        found = measure(str(path))
        assert (found.status, found.width, found.height) == ("ok", 320, 240)
        assert 5 < found.mean < 60
        assert 0.1 <= found.gamma < 0.8
        assert 0 < found.noise < 15


def test_what_can_be_read_of_a_damaged_video_is_measured() -> None:
    path = shared() / "cases/05-one-bad-frame-loses-a-recording/hit_at_55s.mp4"
    found = measure(str(path))
    assert (found.status, found.num_frames) == ("damaged", 1421)
    assert found.cause.startswith("0.8 s lost, 19 of 1440 frames (55.2 - 56.0 s)")
    assert found.mean > 0
    assert usable([found]) == []
