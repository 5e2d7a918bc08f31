"""Seeking to keyframes: only where it pays, only to where decoding begins afresh, and the same frames bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nightcrawler.data.video.decode as decode_module
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import StreamInfo, probe
from nightcrawler.data.video.seek import (
    LEAST_FRAMES,
    LEAST_SAVING,
    SEEK_FRAMES,
    is_random_access_point,
    plan_runs,
)
from tests.conftest import MakeClip
from tests.reading import read_file

NUM_FRAMES = LEAST_FRAMES + 20
SIZE = (32, 24)

SEEKABLE = {
    "h264": ("mp4", "libx264", {"g": "48", "bf": "3"}),
    "h264 of short groups": ("mp4", "libx264", {"g": "2", "bf": "1"}),
    "h264 in matroska": ("mkv", "libx264", {"g": "50"}),
    "h264 in a transport stream": ("ts", "libx264", {"g": "50"}),
    "hevc": ("mp4", "libx265", {"x265-params": "log-level=none:keyint=60:open-gop=0:pools=1"}),
    "hevc of open groups": (
        "mp4",
        "libx265",
        {"x265-params": "log-level=none:keyint=60:open-gop=1:pools=1"},
    ),
    "h264 of open groups": ("mp4", "libx264", {"g": "40", "bf": "3", "x264-params": "open-gop=1"}),
    "h264 of intra refresh": ("mp4", "libx264", {"g": "40", "x264-params": "intra-refresh=1"}),
    "vp8": ("webm", "libvpx", {"g": "60", "cpu-used": "16", "deadline": "realtime"}),
    "vp9": ("webm", "libvpx-vp9", {"g": "60", "cpu-used": "8", "deadline": "realtime"}),
    # FFmpeg's decoder of AV1 is named libdav1d.
    "av1": ("mkv", "libsvtav1", {"g": "60", "preset": "12"}),
    "mpeg4": ("avi", "mpeg4", {"g": "12"}),
}
READ_WHOLE = (
    "h264 in a transport stream",
    "hevc of open groups",
    "h264 of open groups",
    "h264 of intra refresh",
    "mpeg4",
)


@pytest.mark.parametrize("variant", SEEKABLE)
def test_frames_are_those_of_a_whole_read(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    suffix, codec, options = SEEKABLE[variant]
    path = make_clip(tmp_path / f"long.{suffix}", NUM_FRAMES, SIZE, codec, options=options)
    found = probe(str(path), Limits())
    assert found.num_frames == NUM_FRAMES
    decoded: list[int] = []
    plain = decode_module.decoded_frames
    count = lambda *given: (decoded.append(1) or frame for frame in plain(*given))  # noqa: E731
    for wanted in ([30, 70, 71, 333, 470], [0, NUM_FRAMES - 1], [47, 48, 49, 95, 96]):
        with monkeypatch.context() as patch:
            patch.setattr(decode_module, "decoded_frames", count)
            decoded.clear()
            some = read_file(path, lambda num_frames, wanted=wanted: wanted)
        if variant in READ_WHOLE:
            assert len(found.starts) <= 1
            assert wanted[-1] < 100 or len(decoded) == NUM_FRAMES
        else:
            assert len(decoded) < (1 - LEAST_SAVING) * NUM_FRAMES
        with monkeypatch.context() as patch:
            patch.setattr(decode_module, "plan_runs", lambda *given: [])
            whole = read_file(path, lambda num_frames, wanted=wanted: wanted)
        assert some.indices == whole.indices == wanted
        assert (some.num_frames, some.fps) == (whole.num_frames, whole.fps) == (NUM_FRAMES, 25.0)
        np.testing.assert_array_equal(some.frames, whole.frames)


def test_frames_that_are_not_where_they_should_be(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong survey leads to a whole read, not to other frames."""
    path = make_clip(tmp_path / "long.mp4", NUM_FRAMES, SIZE, options={"g": "50"})
    true = probe(str(path), Limits())
    for times in (tuple(time + 1 for time in true.times), tuple(time * 2 for time in true.times)):
        wrong = StreamInfo(NUM_FRAMES, true.codec, 8, 25.0, times, true.starts)
        monkeypatch.setattr(decode_module, "probe", lambda path, limits, wrong=wrong: wrong)
        some = read_file(path, lambda num_frames: [60, 400])
        monkeypatch.undo()
        whole = read_file(path, range)
        np.testing.assert_array_equal(some.frames, whole.frames[[60, 400]])


def test_short_videos_are_read_whole() -> None:
    starts = list(range(0, LEAST_FRAMES, 10))
    assert plan_runs(starts, [5], LEAST_FRAMES - 1) == []
    assert plan_runs(starts, [15], LEAST_FRAMES) == [(10, [15])]


@given(
    st.sets(st.integers(0, 999), min_size=1, max_size=60),
    st.sets(st.integers(0, 999), max_size=40),
)
def test_each_wanted_frame_is_in_the_run_of_the_start_before_it(
    wanted: set[int], starts: set[int]
) -> None:
    runs = plan_runs(sorted(starts), sorted(wanted), 1000)
    work = 0
    for start, numbers in runs:
        assert start in starts
        assert not starts & set(range(start + 1, numbers[-1] + 1))
        work += numbers[-1] - start + 1 + SEEK_FRAMES
    if runs:
        assert [number for _, numbers in runs for number in numbers] == sorted(wanted)
        assert work <= 700
    else:
        nearest = {
            max((start for start in starts if start <= number), default=None): number
            for number in sorted(wanted)
        }
        assert (
            None in nearest
            or sum(last - start + 1 + SEEK_FRAMES for start, last in nearest.items()) > 700
        )


AVC, HVC = b"\x01\x64\x00\x1f\xff", b"\x01" + bytes(20) + b"\x03"


@pytest.mark.parametrize(
    ("codec", "header", "packet", "expected"),
    [
        ("h264", AVC, b"\0\0\0\2\x67\0\0\0\0\2\x65\0", True),
        ("h264", AVC, b"\0\0\0\2\x06\0\0\0\0\2\x41\0", False),
        ("h264", b"\x01\x64\0\x1f\xfd", b"\0\2\x67\0\0\2\x65\0", True),
        ("h264", b"\0\0\0\1\x67", b"\0\0\0\1\x65\0", False),
        ("h264", b"", b"\0\0\0\2\x65\0", False),
        ("h264", AVC, b"", False),
        ("h264", AVC, b"\xff\xff\xff\xff\x67\x65", False),
        ("hevc", HVC, b"\0\0\0\2\x26\1", True),
        ("hevc", HVC, b"\0\0\0\2\x28\1", True),
        ("hevc", HVC, b"\0\0\0\2\x2a\1", False),
        ("vp9", b"", b"\x82", True),
        ("mpeg4", b"\x01" * 30, b"\0\0\1\xb6", False),
    ],
)
def test_where_decoding_begins_afresh(
    codec: str, header: bytes, packet: bytes, expected: bool
) -> None:
    """By hand: H.264 units of type 5 (IDR), HEVC units of types 19 and 20, of the size that the header says."""
    assert is_random_access_point(codec, header, memoryview(packet)) is expected
