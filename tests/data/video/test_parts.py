"""Recordings that begin between two key frames, and recordings joined byte by byte: right frames or none."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import probe
from nightcrawler.data.video.seek import LEAST_FRAMES
from nightcrawler.utils.errors import VideoError
from tests.conftest import MakeClip
from tests.paths import shared
from tests.reading import read_file

pytestmark = pytest.mark.fault

GROUPS = {"g": "12", "bf": "2"}
HEVC = {"x265-params": "log-level=none:keyint=12:pools=1:open-gop=0"}
VP8 = {"g": "12", "cpu-used": "16", "deadline": "realtime"}
FAMILIES = {
    "h264 ts": ("ts", "libx264", GROUPS),
    "h264 mkv": ("mkv", "libx264", GROUPS),
    "h264 mp4": ("mp4", "libx264", GROUPS),
    "h264 flv": ("flv", "libx264", GROUPS),
    "hevc ts": ("ts", "libx265", HEVC),
    "hevc mkv": ("mkv", "libx265", HEVC),
    "mpeg2 mpg": ("mpg", "mpeg2video", GROUPS),
    "mpeg4 ts": ("ts", "mpeg4", {"g": "12"}),
    "mpeg4 mkv": ("mkv", "mpeg4", {"g": "12"}),
    "mpeg4 mp4": ("mp4", "mpeg4", {"g": "12"}),
    "wmv": ("wmv", "wmv2", {"g": "12"}),
    "vp8": ("webm", "libvpx", VP8),
    "vp9": ("webm", "libvpx-vp9", {**VP8, "cpu-used": "8"}),
    "ffv1": ("mkv", "ffv1", {"g": "12"}),
}


def without_first(
    whole: Path, part: Path, num_packets: int, most: int = 1000, shift: int = 0
) -> Path:
    """Copy the packets of a file behind the first ones, as a recorder does that was started late.

    `shift` is added to their times, in ticks.
    """
    with av.open(str(whole)) as source, av.open(str(part), "w") as output:
        copied = output.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        for packet in packets[num_packets : num_packets + most]:
            packet.pts += shift
            if packet.dts is not None:
                packet.dts += shift
            packet.stream = copied
            output.mux(packet)
    return part


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_before_the_first_keyframe_are_left_out(
    make_clip: MakeClip, tmp_path: Path, family: str
) -> None:
    """The frames that remain are the last ones of the whole recording, bit for bit."""
    suffix, codec, options = FAMILIES[family]
    whole = make_clip(tmp_path / f"whole.{suffix}", 40, codec=codec, options=options)
    part = without_first(whole, tmp_path / f"part.{suffix}", 5)
    frames = read_file(part, range).frames
    # The second key frame is frame 12, and B-frames move a packet by two places at most.
    assert 27 <= len(frames) <= 30
    np.testing.assert_array_equal(frames, read_file(whole, range).frames[-len(frames) :])


def test_the_case_that_begins_between_keyframes() -> None:
    path = shared() / "cases/04-begins-between-keyframes/begins_mid_gop.mkv"
    decoded = read_file(path, range)
    assert decoded.num_frames == len(decoded.frames) == 72
    assert probe(str(path), Limits()).num_left_out == 17


@pytest.mark.parametrize(("suffix", "codec"), [("mkv", "libx264"), ("mp4", "mpeg4")])
def test_a_recording_without_a_keyframe_is_refused(
    make_clip: MakeClip, tmp_path: Path, suffix: str, codec: str
) -> None:
    whole = make_clip(tmp_path / f"whole.{suffix}", 40, codec=codec, options={"g": "12"})
    part = without_first(whole, tmp_path / f"part.{suffix}", 2, most=8)
    with pytest.raises(VideoError, match=r"begins between key frames and holds none|0 of 8 frames"):
        read_file(part, range)


JOINED = {
    "matroska": ("mkv", "libx264", GROUPS),
    "matroska of open groups": ("mkv", "libx264", {**GROUPS, "x264-params": "open-gop=1"}),
    "webm": ("webm", "libvpx", VP8),
    "program stream": ("mpg", "mpeg2video", GROUPS),
    "raw": ("h264", "libx264", GROUPS),
    "avi": ("avi", "mpeg4", {"g": "12"}),
}


@pytest.mark.parametrize("family", JOINED)
def test_joined_recordings_are_read_one_after_the_other(
    make_clip: MakeClip, tmp_path: Path, family: str
) -> None:
    suffix, codec, options = JOINED[family]
    parts = [
        make_clip(tmp_path / f"{seed}.{suffix}", 30 - seed, codec=codec, options=options, seed=seed)
        for seed in range(2)
    ]
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    expected = np.concatenate([read_file(part, range).frames for part in parts])
    np.testing.assert_array_equal(read_file(joined, range).frames, expected)


@pytest.mark.parametrize("first", [12, 5], ids=["at an open group", "within a group"])
def test_frames_of_one_recording_are_not_made_from_those_of_another(
    make_clip: MakeClip, tmp_path: Path, first: int
) -> None:
    options = {**GROUPS, "x264-params": "open-gop=1"}
    whole = make_clip(tmp_path / "whole.mkv", 40, options=options, seed=1)
    parts = [make_clip(tmp_path / "0.mkv", 30, options=options)]
    parts.append(without_first(whole, tmp_path / "1.mkv", first))
    joined = tmp_path / "joined.mkv"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    expected = np.concatenate([read_file(part, range).frames for part in parts])
    np.testing.assert_array_equal(read_file(joined, range).frames, expected)


def test_no_frame_is_sought_by_times_that_begin_anew(make_clip: MakeClip, tmp_path: Path) -> None:
    """Times of the second file lie between those of the first, so they look like one recording."""
    whole = make_clip(tmp_path / "a.mkv", LEAST_FRAMES, (32, 24), options={"g": "50"})
    other = make_clip(tmp_path / "b.mkv", LEAST_FRAMES + 2, (32, 24), options={"g": "50"}, seed=1)
    without_first(other, tmp_path / "late.mkv", 0, shift=20)
    joined = tmp_path / "joined.mkv"
    joined.write_bytes(whole.read_bytes() + (tmp_path / "late.mkv").read_bytes())
    wanted = [60, 61, LEAST_FRAMES + 60]
    expected = [read_file(whole, range).frames[60:62], read_file(other, range).frames[60:61]]
    decoded = read_file(joined, lambda num_frames: wanted)
    assert decoded.num_frames == 2 * LEAST_FRAMES + 2
    np.testing.assert_array_equal(decoded.frames, np.concatenate(expected))
