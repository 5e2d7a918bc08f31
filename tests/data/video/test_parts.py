"""Recordings that begin between two key frames, and recordings joined byte by byte: right frames or none."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from nightcrawler.data.video.integrity.gaps import Gaps
from nightcrawler.data.video.integrity.joined import joined_files
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.integrity.transport_stream import find_gaps
from nightcrawler.data.video.probe import probe
from nightcrawler.data.video.salvage import Damage, probe_damaged
from nightcrawler.data.video.seek import LEAST_FRAMES
from nightcrawler.data.video.stream import Frame, readable_video_frames, video_frames
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
    "mp4": ("mp4", "libx264", GROUPS),
    "mov": ("mov", "mpeg4", {"g": "12"}),
    "flv": ("flv", "libx264", GROUPS),
    "asf": ("wmv", "wmv2", {"g": "12"}),
    "ivf": ("ivf", "libvpx", VP8),
    "h264 ts": ("ts", "libx264", GROUPS),
    "hevc ts": ("ts", "libx265", HEVC),
    "mpeg2 ts": ("ts", "mpeg2video", GROUPS),
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
        for seed in range(3)
    ]
    joined = tmp_path / f"joined.{suffix}"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    expected = np.concatenate([read_file(part, range).frames for part in parts])
    np.testing.assert_array_equal(read_file(joined, range).frames, expected)
    times = [frame.time_sec for frame in video_frames(str(joined), probe(str(joined), Limits()))]
    np.testing.assert_allclose(times, np.arange(87) / 25, atol=2e-3)


def test_joined_fragments_are_read(make_clip: MakeClip, tmp_path: Path) -> None:
    container = {"movflags": "frag_keyframe+empty_moov"}
    parts = [
        make_clip(tmp_path / f"{seed}.mp4", 20, options=GROUPS, seed=seed, container=container)
        for seed in range(2)
    ]
    joined = tmp_path / "joined.mp4"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    expected = np.concatenate([read_file(part, range).frames for part in parts])
    np.testing.assert_array_equal(read_file(joined, range).frames, expected)


def test_joined_files_of_which_one_is_cut_are_refused(make_clip: MakeClip, tmp_path: Path) -> None:
    parts = [make_clip(tmp_path / f"{seed}.mkv", 30, seed=seed).read_bytes() for seed in range(2)]
    joined = tmp_path / "joined.mkv"
    joined.write_bytes(parts[0] + parts[1][:-300])
    with pytest.raises(VideoError, match=r"cut short|damaged"):
        read_file(joined, range)


def test_segments_of_one_recording_are_joined_without_a_pause(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    """Their clock goes on, and each counts its packets from 0."""
    whole = make_clip(tmp_path / "whole.ts", 36, options=GROUPS)
    segments = [
        without_first(whole, tmp_path / f"{number}.ts", 12 * number, most=12) for number in range(3)
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(segment.read_bytes() for segment in segments))
    np.testing.assert_array_equal(read_file(joined, range).frames, read_file(whole, range).frames)


@pytest.mark.parametrize("codec", ["libx264", "libx265", "mpeg2video", "mpeg4"])
@pytest.mark.parametrize("num_lost", [1, 16])
def test_a_lost_packet_of_a_transport_stream_is_noticed(
    make_clip: MakeClip, tmp_path: Path, codec: str, num_lost: int
) -> None:
    """Each in turn. Frames may only be missing at the ends, as of a recording that was cut there."""
    options = HEVC if codec == "libx265" else {"g": "12"}
    path = make_clip(tmp_path / "clip.ts", 30, (96, 64), codec, options=options)
    content = path.read_bytes()
    whole = read_file(path, range).frames
    lost = tmp_path / "lost.ts"
    num_packets = len(content) // 188
    second, last = second_and_last_picture(content)
    for number in range(num_packets - num_lost + 1):
        lost.write_bytes(content[: 188 * number] + content[188 * (number + num_lost) :])
        try:
            frames = read_file(lost, range).frames
        except VideoError:
            continue
        if number < second:
            np.testing.assert_array_equal(frames, whole[-len(frames) :])
        elif number + num_lost <= last:
            np.testing.assert_array_equal(frames, whole)


def second_and_last_picture(content: bytes) -> tuple[int, int]:
    """Numbers of the packets with which the second and the last picture begin."""
    begins = []
    for number in range(len(content) // 188):
        header = content[188 * number : 188 * number + 3]
        if header[1] & 0x40 and (header[1] & 31) * 256 + header[2] == 256:
            begins.append(number)
    return begins[1], begins[-1]


def test_bytes_that_a_transport_stream_lost_are_noticed(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / "clip.ts", 30, (96, 64), options=GROUPS)
    content = path.read_bytes()
    assert find_gaps(str(path), 256) == Gaps()
    for number in range(20, 40):
        path.write_bytes(content[: 188 * number + 50] + content[188 * number + 60 :])
        if (content[188 * number + 1] & 31) * 256 + content[188 * number + 2] == 256:
            with pytest.raises(VideoError, match="damaged"):
                read_file(path, range)


def frames_of(path: Path) -> list[Frame]:
    return list(video_frames(str(path), probe(str(path), Limits())))


@pytest.mark.parametrize("num_bytes", [1, 100, 187])
def test_a_transport_stream_that_ends_within_a_packet(
    make_clip: MakeClip, tmp_path: Path, num_bytes: int
) -> None:
    """Its last picture may be cut, which decoders of HEVC do not notice."""
    clip = make_clip(tmp_path / "clip.ts", 30, (96, 64), "libx265", options=HEVC)
    content = clip.read_bytes()
    whole = {frame.time_sec: frame.rgb for frame in frames_of(clip)}
    path = tmp_path / "cut.ts"
    for number in range(40, 60):
        path.write_bytes(content[: 188 * number + num_bytes])
        assert find_gaps(str(path), 256) == Gaps(is_cut=True)
        with pytest.raises(VideoError, match="cut short: the file ends within a packet"):
            probe(str(path), Limits())
        damage = Damage()
        info = probe_damaged(str(path), Limits(), damage)
        frames = list(readable_video_frames(str(path), info, damage))
        assert damage.describe() == "cut short: the file ends within a packet"
        assert 5 < len(frames) < 30
        for frame in frames:
            np.testing.assert_array_equal(frame.rgb, whole[frame.time_sec])


def test_a_transport_stream_with_zeros_behind_it(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.ts", 30, (96, 64), options=GROUPS)
    content = path.read_bytes()
    for num_bytes in (1, 500, 50_000):
        path.write_bytes(content + bytes(num_bytes))
        assert find_gaps(str(path), 256) == Gaps()
        assert read_file(path, range).num_frames == 30


def test_joined_transport_streams_whose_videos_have_other_numbers(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    """As of two cameras. A broadcast of two programs at one time is not cut."""
    parts = []
    for seed, number in enumerate(("0x100", "0x200", "0x90")):
        container = {"mpegts_start_pid": number}
        path = tmp_path / f"{seed}.ts"
        parts.append(make_clip(path, 20, options=GROUPS, seed=seed, container=container))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    expected = np.concatenate([read_file(part, range).frames for part in parts])
    np.testing.assert_array_equal(read_file(joined, range).frames, expected)
    packets = [
        [content[start : start + 188] for start in range(0, len(content), 188)]
        for content in (part.read_bytes() for part in parts[:2])
    ]
    mixed = [packet for pair in zip(*packets, strict=False) for packet in pair]
    joined.write_bytes(b"".join(mixed))
    assert joined_files(str(joined)) == ()


@pytest.mark.parametrize("size", [192, 204])
def test_gaps_of_transport_streams_with_more_bytes_a_packet(
    make_clip: MakeClip, tmp_path: Path, size: int
) -> None:
    content = make_clip(tmp_path / "clip.ts", 30, (96, 64), options=GROUPS).read_bytes()
    packets = []
    for start in range(0, len(content), 188):
        packet = content[start : start + 188]
        packets.append(bytes(4) + packet if size == 192 else packet + bytes(16))
    path = tmp_path / "clip.m2ts"
    path.write_bytes(b"".join(packets))
    assert read_file(path, range).num_frames == 30
    assert find_gaps(str(path), 256) == Gaps()
    place = 5 if size == 192 else 1
    is_video = [packet[place] & 31 == 1 for packet in packets]
    gone = is_video.index(True, 20)
    behind = is_video.index(True, gone + 1)
    path.write_bytes(b"".join(packets[:gone] + packets[gone + 1 :]))
    assert find_gaps(str(path), 256).stream == (size * (behind - 1),)


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
