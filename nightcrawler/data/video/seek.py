"""Where decoding can begin afresh, and when it pays to seek there for a few frames of a long video."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

# Seeking loses what the decoder has in flight: about this many frames of work.
SEEK_FRAMES = 8
# Seek where that saves at least this share of decoding (measured on 60 s videos: gains follow the share).
LEAST_SAVING = 0.3
# Shorter videos are read whole, which checks them whole.
LEAST_FRAMES = 500

# Codecs whose every keyframe forgets all that was before it.
CLOSED_GOP_CODECS = ("vp8", "vp9", "av1")
# Codec: (place of the length of a NAL unit's size in the header, type of a unit by its first byte, types that forget).
NAL = {
    "h264": (4, lambda byte: byte & 31, (5,)),
    "hevc": (21, lambda byte: byte >> 1 & 63, (19, 20)),
}


def is_random_access_point(codec: str, header: bytes, packet: memoryview) -> bool:
    """Whether a keyframe and all frames shown after it need nothing from before it.

    Args:
        codec: FFmpeg's name of it.
        header: the codec's header in an MP4 or Matroska file.
        packet: the keyframe's bytes.
    """
    if codec in CLOSED_GOP_CODECS:
        return True
    if codec not in NAL:
        return False
    place, kind_of, forgetting = NAL[codec]
    if len(header) <= place or header[0] != 1:
        return False
    num_bytes, start = (header[place] & 3) + 1, 0
    while start + num_bytes < len(packet):
        if kind_of(packet[start + num_bytes]) in forgetting:
            return True
        start += num_bytes + int.from_bytes(packet[start : start + num_bytes], "big")
    return False


def plan_runs(
    starts: Sequence[int], wanted: Sequence[int], num_frames: int
) -> list[tuple[int, list[int]]]:
    """Runs of decoding, each from a start over the wanted frames before the next; none where reading all is as fast.

    Args:
        starts: numbers of frames at which decoding can begin afresh, increasing.
        wanted: numbers of the wanted frames, increasing.
        num_frames: frames in the video.
    """
    if num_frames < LEAST_FRAMES or not starts or not wanted or wanted[0] < starts[0]:
        return []
    runs: dict[int, list[int]] = {}
    for number in wanted:
        runs.setdefault(starts[bisect_right(starts, number) - 1], []).append(number)
    work = sum(numbers[-1] - start + 1 + SEEK_FRAMES for start, numbers in runs.items())
    return list(runs.items()) if work <= (1 - LEAST_SAVING) * num_frames else []
