"""Words of a camera's owner for a file that cannot be used, and its readable part."""

from __future__ import annotations

import time
from dataclasses import dataclass

from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.salvage import Damage, probe_damaged
from nightcrawler.data.video.stream import ASSUMED_FPS, readable_video_frames
from nightcrawler.utils.clip_worker import report_alive
from nightcrawler.utils.errors import NO_PERSON, VideoError

# Short side of frames that are only counted, and seconds of work to count them in.
COUNTED_SIDE_PX = 32
COUNTING_SEC = 20.0
# Frames between two signs of life.
ALIVE_FRAMES = 50
NOT_A_VIDEO = (
    "this is no video that can be read: it may be another kind of file, or the camera lost power "
    "before it finished the recording"
)
# Beginnings of a fault's text, for the words that an owner of a camera would use. The fault itself
# is shown below them.
WORDS = {
    "the file is empty": "the file is empty: nothing was recorded into it",
    "not a video that can be read": NOT_A_VIDEO,
    "no frame in it": NOT_A_VIDEO,
    "no video stream in it": "there is no picture in this file, only sound or other data",
    "its video codec is unknown": (
        "its video format is not known here: convert the file to MP4 (H.264), then send it again"
    ),
    NO_PERSON: "nobody was seen in this clip for long enough to say what they do",
}


@dataclass(frozen=True)
class Refusal:
    """Why a clip cannot be used.

    Attributes:
        error: sentence for its owner.
        detail: the fault as the reader of the file puts it.
        readable_sec: seconds of the clip that can be read, 0 where nothing can.
    """

    error: str
    detail: str
    readable_sec: float = 0.0


def explain(error: VideoError, path: str, limits: Limits) -> Refusal:
    """Return the reason for a refused clip in words of its owner.

    Args:
        error: raised for the clip.
        path: the clip.
        limits: limits of the clip.
    """
    detail = f"{error.cause} ({error.where})"
    for begin, words in WORDS.items():
        if error.cause.startswith(begin):
            return Refusal(words, detail)
    if error.where == "limits":
        return Refusal(error.cause, detail)
    damage, read_sec, end_sec = _measure(path, limits)
    if not damage:
        return Refusal(f"this clip cannot be used: {error.cause}", detail)
    return Refusal(describe(damage, read_sec, end_sec), detail, read_sec)


def describe(damage: Damage, read_sec: float, end_sec: float) -> str:
    """Describe the damage of a file in one sentence.

    Args:
        damage: the parts that cannot be read.
        read_sec: seconds that can be read.
        end_sec: end of the last part that can be read, in seconds.
    """
    if read_sec == 0:
        return "the file is damaged: no picture in it can be read"
    between = [(start, end) for start, end in damage.stretches if start < end_sec]
    if not between:
        return f"the file breaks off after about {end_sec:.2g} s"
    start, end = between[0]
    lost = sum(end - start for start, end in between)
    if len(between) == 1:
        return f"the file is damaged from about {start:.2g} s to {end:.2g} s"
    return f"the file is damaged in {len(between)} places, about {lost:.2g} s in all"


def _measure(path: str, limits: Limits) -> tuple[Damage, float, float]:
    """Return the damage of a file, the seconds that can be read, and where they end.

    A long file is read for `COUNTING_SEC` only.
    """
    damage = Damage()
    num_read = 0
    end_sec = 0.0
    deadline = time.monotonic() + COUNTING_SEC
    try:
        info = probe_damaged(path, limits, damage)
        frame_sec = 1 / (info.fps or ASSUMED_FPS)
        for frame in readable_video_frames(path, info, damage, COUNTED_SIDE_PX, limits):
            num_read += 1
            end_sec = frame.time_sec + frame_sec
            if num_read % ALIVE_FRAMES == 0:
                report_alive()
            if time.monotonic() > deadline:
                break
    except VideoError as error:
        damage.interrupt(error.cause)
        if num_read == 0:
            return damage, 0.0, 0.0
    return damage, num_read * frame_sec, end_sec
