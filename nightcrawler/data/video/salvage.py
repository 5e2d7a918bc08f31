"""Read the sound frames of a damaged video, and note those that are lost.

Training and tests refuse a damaged clip. Of an hour of recording, all but the damage is of use:
reading goes on at the next key frame. Frames that refer to something damaged are never given.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from nightcrawler.data.video.integrity.gaps import Gaps
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.parts import PartDecoder, placed_packets
from nightcrawler.data.video.probe import StreamInfo, probe, probe_readable
from nightcrawler.data.video.reader import FAULTS, open_video, reason
from nightcrawler.utils.errors import VideoError

# Stretches that a status lists.
SHOWN_STRETCHES = 3


@dataclass
class Damage:
    """Parts of a video that cannot be read.

    Attributes:
        causes: faults in the order of the file, each once.
        stretches: start and end of each lost stretch, in seconds from the start.
        num_lost: number of lost frames.
        num_frames: number of frames of the whole video.
    """

    causes: list[str] = field(default_factory=list)
    stretches: list[tuple[float, float]] = field(default_factory=list)
    num_lost: int = 0
    num_frames: int = 0
    _num_read: int = 0
    _is_interrupted: bool = False
    _end_sec: float = 0.0

    def __bool__(self) -> bool:
        """Return whether anything is damaged."""
        return bool(self.causes)

    @property
    def begins(self) -> bool:
        """True where the next frame is the first one behind damage."""
        return self._is_interrupted

    def note(self, cause: str) -> None:
        """Note a fault of the whole file."""
        if cause not in self.causes:
            self.causes.append(cause)

    def interrupt(self, cause: str) -> None:
        """Note a fault behind the last frame."""
        self.note(cause)
        self._is_interrupted = True

    def follow(self, time_sec: float, frame_sec: float) -> None:
        """Note that a frame was read.

        Args:
            time_sec: its time, in seconds from the start.
            frame_sec: time to the next frame.
        """
        if self._is_interrupted and time_sec - self._end_sec > frame_sec / 2:
            self.stretches.append((self._end_sec, time_sec))
        self._is_interrupted = False
        self._end_sec = time_sec + frame_sec
        self._num_read += 1

    def end(self, info: StreamInfo, frame_sec: float) -> None:
        """Note that no more frames are read.

        Args:
            info: properties of the video, with the number of frames that it promises.
            frame_sec: time from one frame to the next.
        """
        self.num_frames = info.num_frames
        self.num_lost = max(info.num_frames - self._num_read, 0)
        if self._is_interrupted and info.num_frames * frame_sec > self._end_sec:
            self.stretches.append((self._end_sec, info.num_frames * frame_sec))

    def describe(self) -> str:
        """Return the damage in one line."""
        if not self.stretches and not self.num_lost:
            return self.causes[0]
        seconds = sum(end - start for start, end in self.stretches)
        shown = [f"{start:.1f} - {end:.1f} s" for start, end in self.stretches[:SHOWN_STRETCHES]]
        if len(self.stretches) > SHOWN_STRETCHES:
            shown.append(f"{len(self.stretches) - SHOWN_STRETCHES} more")
        where = f" ({', '.join(shown)})" if shown else ""
        frames = f"{self.num_lost} of {self.num_frames} frames"
        return f"{seconds:.1f} s lost, {frames}{where}: {self.causes[0]}"


def probe_damaged(path: str, limits: Limits, damage: Damage) -> StreamInfo:
    """Return the properties of a video, damaged or not.

    Args:
        path: a regular file.
        limits: largest file, picture and number of frames that are accepted.
        damage: takes the faults for which `probe` refuses the file.

    Raises:
        VideoError: if nothing of the file can be read, or it is over a limit.
    """
    try:
        return probe(path, limits)
    except VideoError as error:
        if error.where == "limits":
            raise
    info, faults = probe_readable(path, limits)
    for fault in faults:
        damage.note(fault.cause)
    return info


def readable_frames(
    path: str, info: StreamInfo, limits: Limits, damage: Damage
) -> Iterator[tuple[VideoStream, VideoFrame]]:
    """Yield the frames of a video that can be read, and the stream that each is of.

    Args:
        path: a regular file.
        info: result of `probe_damaged` for this file.
        limits: largest picture that is accepted.
        damage: takes the parts that cannot be read.
    """
    for section, gaps in info.files():
        try:
            with open_video(path, limits, section) as (container, stream):
                for frame in _sound_frames(container, stream, gaps, damage):
                    yield stream, frame
        except VideoError as error:
            damage.interrupt(error.cause)


def _sound_frames(
    container: InputContainer, stream: VideoStream, gaps: Gaps, damage: Damage
) -> Iterator[VideoFrame]:
    """Yield sound frames, and go on at the next key frame behind damage."""
    decoder = PartDecoder(stream)
    waits = False
    for placed in placed_packets(container, stream, gaps):
        if waits and (placed.is_damaged or not placed.packet.is_keyframe) and placed.packet.size:
            continue
        waits = False
        cause = "damaged packets" if placed.is_damaged else ""
        try:
            if not cause:
                for frame in decoder.decode(placed):
                    if frame.is_corrupt:
                        cause = "damaged frames"
                        break
                    yield frame
        except FAULTS as error:
            cause = f"damaged ({reason(error)})"
        if cause:
            yield from _frames_before(decoder, placed.packet)
            damage.interrupt(cause)
            waits = True


def _frames_before(decoder: PartDecoder, damaged: Packet) -> Iterator[VideoFrame]:
    """Yield the frames that the decoder holds back from before a damaged packet."""
    try:
        for frame in decoder.finish():
            # What was decoded of the damaged frame is among them.
            if not frame.is_corrupt and frame.pts != damaged.pts:
                yield frame
    except FAULTS:
        decoder.forget()
