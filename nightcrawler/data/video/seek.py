"""Seeking: frames that decoding can start from, and runs of decoding that save work."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

# Seeking loses the frames that the decoder has in flight: about this many frames of work.
SEEK_FRAMES = 8
# Seek where that saves at least this share of decoding (measured on videos of 60 s: time follows
# the share).
LEAST_SAVING = 0.3
# Shorter videos are decoded to their end, which checks all of them.
LEAST_FRAMES = 500

# Codecs in which no frame after a keyframe refers to one before it.
CLOSED_GOP_CODECS = ("vp8", "vp9", "av1")


class NalFormat(NamedTuple):
    """Layout of the NAL units of a codec.

    Attributes:
        length_byte: position of the header's byte that holds the number of bytes of a unit's
            length, less one.
        unit_type: maps the first byte of a unit to its type.
        idr_types: types of the units of an instantaneous decoder refresh.
    """

    length_byte: int
    unit_type: Callable[[int], int]
    idr_types: tuple[int, ...]


# ISO/IEC 14496-15 (the headers), ITU-T H.264 table 7-1 and H.265 table 7-1 (the types).
NAL_FORMATS = {
    "h264": NalFormat(4, lambda byte: byte & 31, (5,)),
    "hevc": NalFormat(21, lambda byte: byte >> 1 & 63, (19, 20)),
}


def is_random_access_point(codec: str, header: bytes, packet: memoryview) -> bool:
    """Return whether decoding can start at a keyframe.

    It can where no frame shown after the keyframe refers to one before it.

    Args:
        codec: FFmpeg's name of the codec.
        header: the codec's header in an MP4 or Matroska file.
        packet: bytes of the keyframe.
    """
    if codec in CLOSED_GOP_CODECS:
        return True
    if codec not in NAL_FORMATS:
        return False
    nal = NAL_FORMATS[codec]
    # Version 1 is the only one: other headers are those of a stream without lengths.
    if len(header) <= nal.length_byte or header[0] != 1:
        return False
    num_bytes = (header[nal.length_byte] & 3) + 1
    start = 0
    while start + num_bytes < len(packet):
        if nal.unit_type(packet[start + num_bytes]) in nal.idr_types:
            return True
        start += num_bytes + int.from_bytes(packet[start : start + num_bytes], "big")
    return False


def plan_runs(
    starts: Sequence[int], wanted: Sequence[int], num_frames: int
) -> list[tuple[int, list[int]]]:
    """Plan runs of decoding, each from a start over the wanted frames before the next start.

    Args:
        starts: numbers of frames that decoding can start from, increasing.
        wanted: numbers of the wanted frames, increasing.
        num_frames: number of frames in the video.

    Returns:
        (start, wanted frames) of each run. An empty list where decoding everything is as fast.
    """
    if num_frames < LEAST_FRAMES or not starts or not wanted or wanted[0] < starts[0]:
        return []
    runs: dict[int, list[int]] = {}
    for number in wanted:
        start = starts[bisect_right(starts, number) - 1]
        runs.setdefault(start, []).append(number)
    work = sum(numbers[-1] - start + 1 + SEEK_FRAMES for start, numbers in runs.items())
    if work > (1 - LEAST_SAVING) * num_frames:
        return []
    return list(runs.items())
