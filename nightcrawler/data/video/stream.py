"""Read the frames of a video one after the other, with one frame in memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from av.error import InvalidDataError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from nightcrawler.data.video.convert import EXACT, RgbConverter, pixel_aspect
from nightcrawler.data.video.decode import all_frames, check_complete
from nightcrawler.data.video.integrity.limits import Limits, check_size
from nightcrawler.data.video.parts import PartDecoder, placed_packets
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.data.video.reader import faults_as_video_errors, open_video
from nightcrawler.data.video.salvage import Damage, readable_frames
from nightcrawler.utils.errors import VideoError, mask_credentials
from nightcrawler.utils.logging import get_logger

# Frame rate for frames without a time stamp, in videos that do not tell their rate.
ASSUMED_FPS = 25.0
# A later time, of 31 years, is of a broken clock: seconds could not be added to much larger ones.
MOST_SEC = 1e9
# Frames in a row that may have one time, and seconds that a stamp may lie before the last one: AVI
# files of B-frames have no better ones.
MOST_STILL_FRAMES = 4
JITTER_SEC = 0.2

logger = get_logger(__name__)


@dataclass(frozen=True)
class Frame:
    """A frame of a stream.

    Attributes:
        number: frame number, from 0.
        time_sec: seconds since the first frame, never decreasing.
        rgb: uint8 `[H, W, 3]`, upright.
    """

    number: int
    time_sec: float
    rgb: np.ndarray


def video_frames(
    path: str,
    info: StreamInfo,
    short_side: int = 0,
    limits: Limits | None = None,
    color: str = EXACT,
) -> Iterator[Frame]:
    """Yield all frames of a file, equal to those of `data.video.decode.decode`.

    Args:
        path: video file.
        info: stream information from `probe`.
        short_side: scale frames down to this short side in pixels, 0 keeps their size.
        limits: largest size and memory of a video.
        color: conversion of colours, see `data.video.convert.FLAGS`.

    Raises:
        VideoError: at the first damage, or at the end if frames are missing. Frames before it were
            sound.
    """
    limits = limits or Limits()
    count = 0
    decoded = all_frames(path, info, limits)
    for frame in _converted(path, decoded, short_side, color, limits):
        yield frame
        count += 1
    check_complete(path, info, count)


def readable_video_frames(
    path: str,
    info: StreamInfo,
    damage: Damage,
    short_side: int = 0,
    limits: Limits | None = None,
    color: str = EXACT,
) -> Iterator[Frame]:
    """Yield the frames of a file that can be read: all of them where it is not damaged.

    Args:
        path: video file.
        info: stream information from `probe_damaged`.
        damage: takes the parts that cannot be read.
        short_side: scale frames down to this short side in pixels, 0 keeps their size.
        limits: largest size and memory of a video.
        color: conversion of colours, see `data.video.convert.FLAGS`.
    """
    limits = limits or Limits()
    frame_sec = 1 / (info.fps or ASSUMED_FPS)
    count = 0
    decoded = readable_frames(path, info, limits, damage)

    def start_sec() -> float | None:
        # Where the first frames are lost, times still count from the start.
        return info.start_sec if damage.begins else None

    try:
        for frame in _converted(path, decoded, short_side, color, limits, start_sec):
            damage.follow(frame.time_sec, frame_sec)
            yield frame
            count += 1
        if not damage:
            check_complete(path, info, count)
    except VideoError as error:
        damage.interrupt(error.cause)
    damage.end(info, frame_sec)


@dataclass(frozen=True)
class Patience:
    """Times between attempts to connect to a live source again, in seconds.

    Attributes:
        first_sec: time to the first attempt. It is doubled for each one that fails.
        most_sec: longest time between two attempts.
        give_up_sec: time without a picture after which the source is given up.
    """

    first_sec: float = 1.0
    most_sec: float = 30.0
    give_up_sec: float = 300.0


def live_frames(
    source: str,
    short_side: int = 0,
    limits: Limits | None = None,
    color: str = EXACT,
    patience: Patience | None = None,
) -> Iterator[Frame]:
    """Yield frames of a live source, without damaged ones.

    A source that ends or is lost is connected again, and time goes on by the clock meanwhile. One
    that was never there is an error at once.

    Args:
        source: address or device, see `data.video.reader.is_live`.
        short_side: scale frames down to this short side in pixels, 0 keeps their size.
        limits: largest size and memory of a video.
        color: conversion of colours, see `data.video.convert.FLAGS`.
        patience: when to connect again, and when to give up.

    Raises:
        VideoError: if the source does not exist, is over a limit, or stays lost.
    """
    limits = limits or Limits()
    connection = _Connection(source, patience or Patience())
    while True:
        cause = "it ended"
        try:
            sound = _sound_frames(source, limits)
            for frame in _converted(source, sound, short_side, color, limits):
                yield connection.take(frame)
        except VideoError as error:
            if error.where == "limits":
                raise
            cause = error.cause
        connection.wait(cause)


class _Connection:
    """Number and time the frames of a source across its connections.

    Args:
        source: address or device.
        patience: when to connect again, and when to give up.
    """

    def __init__(self, source: str, patience: Patience) -> None:
        self._source = mask_credentials(source)
        self._patience = patience
        self._num_frames = 0
        self._time_sec = 0.0
        # Times of this connection count from here.
        self._start_sec = 0.0
        self._seen_at = 0.0
        self._delay_sec = patience.first_sec
        self._is_lost = False

    def take(self, frame: Frame) -> Frame:
        """Return a frame of this connection with its number and time in the whole."""
        now = time.monotonic()
        if self._is_lost:
            away_sec = now - self._seen_at
            logger.warning("%s: connected again after %.0f s", self._source, away_sec)
            self._start_sec = self._time_sec + away_sec
            self._delay_sec = self._patience.first_sec
            self._is_lost = False
        self._seen_at = now
        self._time_sec = self._start_sec + frame.time_sec
        self._num_frames += 1
        return Frame(self._num_frames - 1, self._time_sec, frame.rgb)

    def wait(self, cause: str) -> None:
        """Wait until it is time to connect again.

        Raises:
            VideoError: if the source was never there, or is given up.
        """
        if self._num_frames == 0:
            raise VideoError(self._source, cause, "open")
        self._is_lost = True
        away_sec = time.monotonic() - self._seen_at
        give_up_sec = self._patience.give_up_sec
        if away_sec + self._delay_sec > give_up_sec:
            cause = f"lost, and not there again within {give_up_sec:g} s ({cause})"
            raise VideoError(self._source, cause, "decode")
        text = "%s: lost (%s): connecting again in %g s"
        logger.warning(text, self._source, cause, self._delay_sec)
        time.sleep(self._delay_sec)
        self._delay_sec = min(2 * self._delay_sec, self._patience.most_sec)


def _sound_frames(source: str, limits: Limits) -> Iterator[tuple[VideoStream, VideoFrame]]:
    with open_video(source, limits) as (container, stream):
        decoder = PartDecoder(stream)
        # A camera drops packets now and then: damaged frames are left out, and no reason to stop.
        for placed in placed_packets(container, stream):
            with contextlib.suppress(InvalidDataError):
                for frame in decoder.decode(placed):
                    if not frame.is_corrupt:
                        yield stream, frame


def _converted(
    path: str,
    frames: Iterable[tuple[VideoStream, VideoFrame]],
    short_side: int,
    color: str,
    limits: Limits,
    start_sec: Callable[[], float | None] = lambda: None,
) -> Iterator[Frame]:
    """Convert decoded frames to RGB, and their time stamps to seconds since the first.

    `start_sec` is called at the first frame, and returns the time stamp of the start, or None for
    that of the first frame.
    """
    size: tuple[int, int] | None = None
    for number, (stream, frame) in enumerate(frames):
        if size is None:
            size = (frame.width, frame.height)
            convert = RgbConverter(short_side, color, pixel_aspect(stream))
            clock = SteadyClock(path, float(stream.average_rate or ASSUMED_FPS), start_sec())
            check_size(path, *size, limits)
            check_size(path, *convert.square(frame), limits)
        elif size != (frame.width, frame.height):
            raise VideoError(path, f"picture size changes at frame {number}", "decode")
        with faults_as_video_errors(path):
            rgb = convert(frame)
        yield Frame(number, clock.time_of(number, frame.time), rgb)


class SteadyClock:
    """Seconds since the first frame, from time stamps that may go back, stand still or be missing.

    Clocks of cameras are corrected, recorders begin anew, and files are joined. Time goes on by the
    frame rate then, as windows need an order.

    Args:
        source: name of the video, for the note that its clock went back.
        fps: frame rate, in frames per second.
        start_sec: time stamp of the start, in seconds. None takes that of the first frame.
    """

    def __init__(self, source: str, fps: float, start_sec: float | None = None) -> None:
        self._source = source
        self._fps = fps
        self._first_sec = start_sec
        self._shift_sec = 0.0
        self._now_sec = 0.0
        self._num_still = 0
        self._has_stepped = False

    def time_of(self, number: int, stamp_sec: float | None) -> float:
        """Return the time of the next frame, never before the one before it.

        Args:
            number: frame number, from 0, which gives the time of a frame without a stamp.
            stamp_sec: time stamp in seconds, or None.
        """
        if stamp_sec is None:
            stamp_sec = number / self._fps
        if self._first_sec is None:
            self._first_sec = stamp_sec
            return 0.0
        time_sec = stamp_sec - self._first_sec + self._shift_sec
        is_lost = time_sec > MOST_SEC
        if time_sec > self._now_sec and not is_lost:
            self._num_still = 0
            self._now_sec = time_sec
            return time_sec
        self._num_still += 1
        is_lost |= time_sec < self._now_sec - JITTER_SEC
        if is_lost or self._num_still > MOST_STILL_FRAMES:
            self._note(number)
            self._shift_sec += self._now_sec + 1 / self._fps - time_sec
            self._now_sec += 1 / self._fps
        return self._now_sec

    def _note(self, number: int) -> None:
        """Say once that the clock cannot be followed."""
        if not self._has_stepped:
            logger.warning(
                "%s: its time stamps go back or stand still at frame %d (%.2f s): from there on, "
                "time goes on by %g frames a second",
                mask_credentials(self._source),
                number,
                self._now_sec,
                self._fps,
            )
        self._has_stepped = True


def paced(frames: Iterable[Frame], speed: float = 1.0) -> Iterator[Frame]:
    """Yield frames no earlier than a camera that starts now would give them.

    Args:
        frames: frames in order of time.
        speed: multiple of real time.
    """
    start = time.monotonic()
    for frame in frames:
        time.sleep(max(start + frame.time_sec / speed - time.monotonic(), 0.0))
        yield frame
