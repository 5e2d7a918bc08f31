"""Frames one after the other are those of a plain decode; damage is noticed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import probe
from nightcrawler.data.video.reader import is_live
from nightcrawler.data.video.stream import Frame, SteadyClock, live_frames, paced, video_frames
from nightcrawler.predict.live import live_windows
from nightcrawler.predict.sliding_windows import sliding_windows
from nightcrawler.utils.errors import VideoError
from tests.conftest import MakeClip
from tests.paths import shared
from tests.reading import read_file


def streamed(path: Path, **options: int) -> list[Frame]:
    return list(video_frames(str(path), probe(str(path), Limits()), **options))


@pytest.mark.parametrize("rotation", [0, 90])
@pytest.mark.parametrize("short_side", [0, 24])
def test_frames_are_those_of_decode(
    make_clip: MakeClip, tmp_path: Path, rotation: int, short_side: int
) -> None:
    path = make_clip(tmp_path / "clip.mp4", 14, rotation=rotation, options={"bf": "2"})
    frames = streamed(path, short_side=short_side)
    np.testing.assert_array_equal(
        [one.rgb for one in frames], read_file(path, range, short_side=short_side).frames
    )
    assert [one.number for one in frames] == list(range(14))
    np.testing.assert_allclose([one.time_sec for one in frames], np.arange(14) / 25, atol=1e-6)


def test_a_file_cut_short_is_an_error_at_its_end(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.avi", 20, codec="mpeg4")
    found = probe(str(path), Limits())
    shorter = make_clip(tmp_path / "shorter.avi", 10, codec="mpeg4")
    with pytest.raises(VideoError, match="cut short: 10 of 20 frames"):
        list(video_frames(str(shorter), found))


def test_names_of_live_sources() -> None:
    assert [name for name in ("rtsp://a/b", "RTSPS://a", "/dev/video0") if not is_live(name)] == []
    others = (
        "http://a/b",
        "rtsp:",
        "file:rtsp://a",
        "/dev/video0/x",
        "/dev/videos",
        "clip.mp4",
        "/dev/video0\n",
    )
    assert [name for name in others if is_live(name)] == []


@pytest.mark.parametrize("source", ["rtsp://127.0.0.1:1/x", "/dev/video987"])
def test_a_source_that_is_not_there(source: str) -> None:
    with pytest.raises(VideoError, match="no live source there"):
        next(live_frames(source))


def test_paced_frames_come_no_sooner_than_a_camera_gives_them() -> None:
    pixel = np.zeros((1, 1, 3), np.uint8)
    start = time.monotonic()
    arrived = [
        time.monotonic() - start
        for _ in paced([Frame(n, n / 10, pixel) for n in range(4)], speed=2)
    ]
    assert all(at >= n / 20 for n, at in enumerate(arrived))


def camera(seconds: float, fps: int, speed: float) -> Iterator[Frame]:
    pixel = np.zeros((1, 1, 3), np.uint8)
    return paced((Frame(n, n / fps, pixel) for n in range(int(seconds * fps))), speed)


def test_a_slow_viewer_drops_frames_and_stays_up_to_date() -> None:
    """30 seconds at 10 times their pace; each answer takes 0.2 s, in which 2 seconds pass."""
    start, lags, dropped, seen = time.monotonic(), [], 0, 0
    for window, passed in live_windows(camera(30, 20, 10.0), 1.0, 0.5):
        lags.append((time.monotonic() - start) * 10 - window.end_sec)
        assert len(window.frames) <= 21
        dropped, seen = dropped + passed, seen + 1
        time.sleep(0.2)
    assert 3 <= seen <= 20  # of the 59 that a viewer without delay would see
    assert dropped > 200
    assert max(lags) < 8  # one that queues would be 20 behind


def test_a_quick_viewer_sees_nearly_all() -> None:
    found = list(live_windows(camera(10, 20, 10.0), 1.0, 0.5))
    assert sum(passed for _, passed in found) <= 20
    assert 10 <= len(found) <= 19


def test_a_source_that_is_lost_ends_with_its_error() -> None:
    def broken() -> Iterator[Frame]:
        yield from camera(2, 20, 50.0)
        raise VideoError("rtsp://x", "lost (gone)", "decode")

    windows = live_windows(broken(), 1.0, 0.5)
    with pytest.raises(VideoError, match="lost"):
        for _ in windows:
            pass


def test_a_fault_of_the_reader_is_not_lost() -> None:
    def faulty() -> Iterator[Frame]:
        raise RuntimeError("boom")
        yield

    with pytest.raises(VideoError, match="RuntimeError: boom"):
        next(live_windows(faulty(), 1.0, 0.5, "cam"))


def test_the_case_of_a_clock_that_is_set_back(caplog: pytest.LogCaptureFixture) -> None:
    """Times begin anew at 4 and 8 of 12 seconds, of 24 frames each."""
    path = shared() / "cases/03-timestamps-go-back/clock_set_back.ts"
    frames = streamed(path, short_side=8)
    np.testing.assert_allclose([one.time_sec for one in frames], np.arange(288) / 24, atol=1e-4)
    (line,) = caplog.messages
    assert line.startswith(f"{path}: its time stamps go back or stand still at frame 96 (3.96 s)")
    windows = list(sliding_windows(frames, 1.0, 1.0))
    assert len(windows) == 12
    assert max(len(window.frames) for window in windows) <= 25
    live = list(live_windows(paced(frames, 40.0), 1.0, 0.5))
    assert live[-1][0].end_sec > 11


def times_of(stamps: list[float | None], fps: float = 10) -> list[float]:
    clock = SteadyClock("cam", fps)
    return [round(clock.time_of(number, stamp), 6) for number, stamp in enumerate(stamps)]


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [
        ([5.0, 5.1, 5.2], [0.0, 0.1, 0.2]),
        ([None, None, None], [0.0, 0.1, 0.2]),
        # Set back, and back again to an earlier time.
        ([5.0, 5.1, 2.0, 2.1, 0.0, 0.1], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        # A pause is no fault.
        ([0.0, 0.1, 9.0, 9.1], [0.0, 0.1, 9.0, 9.1]),
        # Stamps in a slightly wrong order, and one that comes twice, move nothing behind them.
        ([0.0, 0.3, 0.2, 0.3, 0.4], [0.0, 0.3, 0.3, 0.3, 0.4]),
    ],
)
def test_a_clock_that_is_steady(stamps: list[float | None], expected: list[float]) -> None:
    assert times_of(stamps) == expected


def test_a_clock_that_jumps_ahead_by_lifetimes() -> None:
    """Seconds could not be added to so large a time: windows of it would never end."""
    times = times_of([0.0, 0.1, 1e17, 1e17 + 1000, 0.4])
    assert times == sorted(times)
    assert times[-1] < 1e9


def test_a_clock_that_stands_still() -> None:
    """Windows would hold the whole recording."""
    times = times_of([3.0] * 100)
    assert times == sorted(times)
    assert times[-1] == pytest.approx(9.5)


def test_a_source_shorter_than_a_window_has_one() -> None:
    ((window, passed),) = live_windows(camera(0.6, 20, 10.0), 3.0, 1.5)
    assert passed == 0
    assert len(window.frames) == 12
    assert window.end_sec == pytest.approx(12 / 20)
    assert list(live_windows(camera(0, 20, 10.0), 3.0, 1.5)) == []
