"""Of a damaged recording, all frames are read that do not refer to damage, at their times; what is lost is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.data.video.integrity.elements import element_faults
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import probe
from nightcrawler.data.video.salvage import Damage, probe_damaged
from nightcrawler.data.video.stream import Frame, readable_video_frames, video_frames
from nightcrawler.utils.errors import VideoError
from tests.conftest import MakeClip
from tests.paths import shared

pytestmark = pytest.mark.fault

GROUPS = {"g": "12", "bf": "2"}
HEVC = {"x265-params": "log-level=none:keyint=12:pools=1:open-gop=0:hash=1"}
NUM_FRAMES = 72


def readable(path: Path) -> tuple[list[Frame], Damage]:
    damage = Damage()
    info = probe_damaged(str(path), Limits(), damage)
    return list(readable_video_frames(str(path), info, damage)), damage


def check_frames(frames: list[Frame], whole: list[Frame]) -> None:
    """Each frame is the one of its time in the whole recording."""
    number_at = {round(frame.time_sec * 25): number for number, frame in enumerate(whole)}
    for frame in frames:
        expected = whole[number_at[round(frame.time_sec * 25)]]
        np.testing.assert_array_equal(frame.rgb, expected.rgb)


def test_the_case_of_one_bad_frame_in_a_recording() -> None:
    path = shared() / "cases/05-one-bad-frame-loses-a-recording/hit_at_55s.mp4"
    frames, damage = readable(path)
    assert len(frames) == 1421
    assert frames[-1].time_sec == pytest.approx(1439 / 24)
    assert damage.describe() == (
        "0.8 s lost, 19 of 1440 frames (55.2 - 56.0 s): damaged (Invalid data found when "
        "processing input)"
    )


def test_a_sound_recording_has_no_damage(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.mp4", NUM_FRAMES, options=GROUPS)
    frames, damage = readable(path)
    assert not damage
    whole = list(video_frames(str(path), probe(str(path), Limits())))
    assert [frame.time_sec for frame in frames] == [frame.time_sec for frame in whole]
    check_frames(frames, whole)


FAMILIES = {
    "mp4": ("mp4", "libx264", GROUPS),
    "matroska": ("mkv", "libx264", GROUPS),
    "transport stream": ("ts", "libx264", GROUPS),
    "hevc": ("mp4", "libx265", HEVC),
    "flv": ("flv", "libx264", GROUPS),
    "mpeg4": ("mp4", "mpeg4", {"g": "12"}),
}


def zeros(content: bytes, start: int) -> bytes:
    return content[:start] + bytes(400) + content[start + 400 :]


@pytest.mark.parametrize("family", FAMILIES)
def test_zeros_within_a_recording(make_clip: MakeClip, tmp_path: Path, family: str) -> None:
    suffix, codec, options = FAMILIES[family]
    size = (192, 128)
    path = make_clip(tmp_path / f"clip.{suffix}", NUM_FRAMES, size, codec, options=options)
    whole = list(video_frames(str(path), probe(str(path), Limits())))
    content = path.read_bytes()
    num_kept = []
    for share in (0.4, 0.5, 0.6):
        path.write_bytes(zeros(content, int(share * len(content))))
        with pytest.raises(VideoError):
            list(video_frames(str(path), probe(str(path), Limits())))
        frames, damage = readable(path)
        check_frames(frames, whole)
        assert damage.num_frames - damage.num_lost == len(frames)
        assert damage.stretches
        num_kept.append(len(frames))
    # A cluster of Matroska is five seconds: with its checksum, all of it is lost.
    assert max(num_kept) >= (0 if family == "matroska" else 0.6 * NUM_FRAMES)


def test_a_packet_that_a_transport_stream_lost(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.ts", NUM_FRAMES, (96, 64), options=GROUPS)
    whole = list(video_frames(str(path), probe(str(path), Limits())))
    content = path.read_bytes()
    for number in range(10, len(content) // 188 - 10, 7):
        path.write_bytes(content[: 188 * number] + content[188 * (number + 1) :])
        frames, damage = readable(path)
        check_frames(frames, whole)
        assert len(frames) >= NUM_FRAMES - 26
        assert len(frames) == NUM_FRAMES or damage.describe()


def test_times_count_from_the_start_where_the_first_frames_are_lost(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    path = make_clip(tmp_path / "clip.mp4", NUM_FRAMES, (192, 128), options={"g": "12"})
    whole = list(video_frames(str(path), probe(str(path), Limits())))
    content = path.read_bytes()
    path.write_bytes(zeros(content, content.index(b"mdat") + 800))
    frames, damage = readable(path)
    assert frames[0].time_sec == pytest.approx(12 / 25)
    check_frames(frames, whole)
    assert damage.stretches == [(0.0, pytest.approx(12 / 25))]


@pytest.mark.parametrize("suffix", ["mkv", "flv", "avi"])
def test_a_recording_that_is_cut_short(make_clip: MakeClip, tmp_path: Path, suffix: str) -> None:
    codec = "mpeg4" if suffix == "avi" else "libx264"
    path = make_clip(
        tmp_path / f"clip.{suffix}", NUM_FRAMES, (192, 128), codec, options={"g": "12"}
    )
    whole = list(video_frames(str(path), probe(str(path), Limits())))
    content = path.read_bytes()
    path.write_bytes(content[: int(0.75 * len(content))])
    frames, damage = readable(path)
    check_frames(frames, whole)
    assert 20 <= len(frames) <= 60
    assert damage


def test_of_joined_files_those_are_read_that_can_be(make_clip: MakeClip, tmp_path: Path) -> None:
    contents = []
    for seed in range(3):
        clip = make_clip(tmp_path / f"{seed}.mp4", 20, seed=seed)
        contents.append(clip.read_bytes())
    path = tmp_path / "joined.mp4"
    path.write_bytes(contents[0] + contents[1].replace(b"moov", b"mooo") + contents[2])
    frames, damage = readable(path)
    assert len(frames) == 40
    assert damage


@pytest.mark.parametrize(
    "spoil",
    [lambda content: b"", lambda content: b"text", lambda content: content[: len(content) // 2]],
    ids=["empty", "text", "without its tables"],
)
def test_a_file_of_which_nothing_can_be_read(
    make_clip: MakeClip, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    path = make_clip(tmp_path / "clip.mp4", 20)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(VideoError):
        readable(path)


@pytest.mark.parametrize("suffix", ["flv", "avi", "wmv"])
def test_bytes_that_are_lost_between_frames(
    make_clip: MakeClip, tmp_path: Path, suffix: str
) -> None:
    """FFmpeg goes on at the next frame that it finds, as if there had been none between."""
    codec = "mpeg4" if suffix == "avi" else "libx264"
    path = make_clip(
        tmp_path / f"clip.{suffix}", NUM_FRAMES, (192, 128), codec, options={"g": "12"}
    )
    assert list(element_faults(str(path))) == []
    whole = list(video_frames(str(path), probe(str(path), Limits())))
    content = path.read_bytes()
    for share in (0.5, 0.6, 0.7):
        start = int(share * len(content))
        path.write_bytes(content[:start] + content[start + 700 :])
        with pytest.raises(VideoError):
            probe(str(path), Limits())
        frames, damage = readable(path)
        assert damage
        assert len(frames) >= NUM_FRAMES / 3
        # Times of AVI count chunks, and decoders of WMV take any bytes.
        if suffix == "flv":
            check_frames(frames, whole)


def test_an_avi_file_whose_first_keyframe_is_damaged(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.avi", NUM_FRAMES, (192, 128), "mpeg4", options={"g": "12"})
    content = path.read_bytes()
    start = content.index(b"00dc", content.index(b"movi"))
    path.write_bytes(content[:start] + bytes(1000) + content[start + 1000 :])
    with pytest.raises(VideoError, match="damaged"):
        probe(str(path), Limits())
    frames, damage = readable(path)
    assert len(frames) == NUM_FRAMES - 12
    assert damage


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_fragments_behind_damage_are_read(
    make_clip: MakeClip, tmp_path: Path, share: float
) -> None:
    """FFmpeg ends at the first box that does not follow another, as if the file did."""
    container = {"movflags": "frag_keyframe+empty_moov"}
    path = make_clip(
        tmp_path / "clip.mp4", NUM_FRAMES, (192, 128), options=GROUPS, container=container
    )
    whole = list(video_frames(str(path), probe(str(path), Limits())))
    content = path.read_bytes()
    start = int(share * len(content))
    for changed in (content[:start] + content[start + 700 :], content[:start]):
        path.write_bytes(changed)
        with pytest.raises(VideoError):
            list(video_frames(str(path), probe(str(path), Limits())))
        frames, damage = readable(path)
        check_frames(frames, whole)
        assert damage


@pytest.mark.parametrize("num_bytes", [1, 5, 11, 14])
def test_an_flv_file_that_ends_within_the_header_of_a_tag(
    make_clip: MakeClip, tmp_path: Path, num_bytes: int
) -> None:
    path = make_clip(tmp_path / "clip.flv", 20)
    content = path.read_bytes()
    # The last tag ends the stream: its header, five bytes, and its size.
    path.write_bytes(content[: len(content) - 20 + num_bytes])
    with pytest.raises(VideoError, match=r"damaged|cut short"):
        list(video_frames(str(path), probe(str(path), Limits())))
