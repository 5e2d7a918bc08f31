"""Cameras that go away and come back: connected again with longer and longer pauses, or given up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import nightcrawler.data.video.stream as stream_module
from nightcrawler.data.video.stream import Frame, Patience, live_frames
from nightcrawler.predict.live import live_windows
from nightcrawler.utils.errors import VideoError
from tests.rtsp import FPS, Camera

pytestmark = pytest.mark.fault
QUICK = Patience(first_sec=0.2, most_sec=0.5, give_up_sec=20.0)


@pytest.fixture
def camera() -> Iterator[Camera]:
    camera = Camera()
    camera.switch_on()
    yield camera
    camera.switch_off()


def after_outage(camera: Camera, first: list[Frame], frames: Iterator[Frame]) -> Frame:
    """The first frame that comes after the camera was away for a second."""
    camera.switch_off()
    timer = threading.Timer(1.0, camera.switch_on)
    timer.start()
    for frame in frames:
        first.append(frame)
        if camera.num_viewers == 2:
            return frame
    raise AssertionError("the source ended")


def test_a_camera_that_comes_back_is_connected_again(
    camera: Camera, caplog: pytest.LogCaptureFixture
) -> None:
    frames = live_frames(camera.address, patience=QUICK)
    seen = [next(frames) for _ in range(10)]
    start = time.monotonic()
    seen.append(after_outage(camera, seen, frames))
    frames.close()
    del seen[-1]
    assert [frame.number for frame in seen] == list(range(len(seen)))
    times = [frame.time_sec for frame in seen]
    assert times == sorted(times)
    # Time went on while the camera was away.
    assert 0.9 < times[-1] - times[-2] < time.monotonic() - start + 4
    lost = [line for line in caplog.messages if "lost (" in line]
    assert "lost (it ended): connecting again in 0.2 s" in lost[0]
    assert "in 0.4 s" in lost[1]
    assert "connected again after" in caplog.messages[-1]


def test_a_camera_that_stays_away_is_given_up(
    camera: Camera, caplog: pytest.LogCaptureFixture
) -> None:
    frames = live_frames(camera.address, patience=Patience(0.1, 0.4, 1.5))
    for _ in range(10):
        next(frames)
    camera.switch_off()
    start = time.monotonic()
    with pytest.raises(VideoError, match=r"lost, and not there again within 1\.5 s"):
        list(frames)
    assert time.monotonic() - start < 5
    pauses = [line.rsplit(" in ", 1)[1] for line in caplog.messages]
    assert pauses[:4] == ["0.1 s", "0.2 s", "0.4 s", "0.4 s"]
    camera.switch_on()


def test_answers_go_on_after_an_outage(camera: Camera) -> None:
    """Windows hold no frames from before it, and are whole."""
    frames = live_frames(camera.address, patience=QUICK)
    ends = []
    for window, _ in live_windows(frames, 1.0, 0.5):
        assert window.end_sec - window.start_sec > 0.7
        ends.append(window.end_sec)
        if len(ends) == 2:
            camera.switch_off()
            threading.Timer(2.5, camera.switch_on).start()
        if camera.num_viewers == 2 and ends[-1] - ends[-2] > 2:
            break
    assert len(window.frames) >= 0.7 * FPS


def test_pauses_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: 1, 2, 4, 8, 16 s, then 30 s each, until 300 s would be over."""
    now = [0.0]
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(stream_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stream_module.time, "sleep", sleep)
    connection = stream_module._Connection("rtsp://user:secret@camera/x", Patience())
    connection.take(Frame(0, 0.0, np.zeros((1, 1, 3), np.uint8)))
    for _ in range(13):
        connection.wait("gone")
    with pytest.raises(VideoError, match="lost, and not there again within 300 s") as found:
        connection.wait("gone")
    assert str(found.value).startswith("rtsp://***@camera/x: ")
    assert pauses == [1, 2, 4, 8, 16, *[30] * 8]
