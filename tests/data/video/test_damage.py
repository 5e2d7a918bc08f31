"""Damaged bytes: what is refused, what is noticed by nobody but a checksum, and that nothing else happens."""

from __future__ import annotations

import hashlib
import struct
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

import nightcrawler.data.video.integrity.matroska as matroska
from benchmarks.damage import (
    COUNTS,
    EQUAL,
    REFUSED,
    WRONG,
    checked_reader,
    damaged,
    outcome,
    outcomes,
    study,
)
from nightcrawler.config.node import get_cfg
from nightcrawler.data.build_items import build_items
from nightcrawler.data.build_video import build_video_reader
from nightcrawler.data.video.decode import Decoded, FileReader, read_frames
from nightcrawler.data.video.integrity.asf import asf_faults
from nightcrawler.data.video.integrity.checksums import ChecksumReader, read_checksums
from nightcrawler.data.video.integrity.matroska import matroska_faults
from nightcrawler.utils.errors import UserError, VideoError
from tests.conftest import MakeClip
from tests.paths import shared
from tests.reading import read_file

pytestmark = pytest.mark.fault

HEVC = {"x265-params": "log-level=none:pools=1:hash=1"}
# Most of 8 x 3 damaged files (1, 20, 200 bytes) whose wrong frames nobody notices. H.264 and MPEG-4 lose their way and
# say so; Matroska of FFmpeg has checksums, HEVC may have them; VP8 and VP9 decode whatever comes.
FAMILIES = {
    "h264": ("mp4", "libx264", {"bf": "2"}, 4),
    "h264 in matroska": ("mkv", "libx264", {"bf": "2"}, 0),
    "mpeg4": ("avi", "mpeg4", {}, 4),
    "hevc with checksums": ("mp4", "libx265", HEVC, 0),
    "vp9": ("webm", "libvpx-vp9", {"cpu-used": "8", "deadline": "realtime"}, 24),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_damaged_bytes_are_noticed_as_well_as_the_format_allows(
    make_clip: MakeClip, tmp_path: Path, family: str
) -> None:
    suffix, codec, options, most_wrong = FAMILIES[family]
    path = make_clip(tmp_path / f"clip.{suffix}", 30, (96, 64), codec, options=options)
    found = outcomes(path, tmp_path / f"damaged.{suffix}", COUNTS, range(8))
    assert sum(found[count, WRONG] for count in COUNTS) <= most_wrong
    assert sum(found.values()) == 24
    if family != "vp9":
        assert found[200, REFUSED] == 8
        assert found[20, WRONG] == 0


def test_real_clips_with_damage(tmp_path: Path) -> None:
    """ARID's H.264: 20 bytes are always noticed, single ones mostly."""
    clips = sorted((shared() / "clips/arid").rglob("*.mp4"))[::15]
    found = Counter[tuple[int, str]]()
    for path in clips:
        found += outcomes(path, tmp_path / path.name, COUNTS, range(2))
    assert found[20, REFUSED] == found[200, REFUSED] == 2 * len(clips)
    assert found[1, WRONG] <= 0.2 * 2 * len(clips)


def test_the_study_counts_each_video_once_and_checksums_notice_all(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    paths = [make_clip(tmp_path / f"{number}.webm", 6, (32, 24), "libvpx") for number in range(2)]
    paths.append(make_clip(tmp_path / "a.mkv", 6, (32, 24)))
    (tmp_path / "text.mp4").write_text("not a video")
    first, *lines = study([paths[0], tmp_path / "text.mp4", *paths[1:]])
    assert first.startswith(f"left out: {tmp_path / 'text.mp4'}: not a video")
    assert [line for line in lines if not line.startswith(" ")] == [
        "h264 in mkv: 1 videos",
        "vp8 in webm: 2 videos",
        "with checksums: 3 videos",
    ]
    assert lines[-3:] == [
        f"  {count:3d} damaged bytes: 3 refused, 0 equal, 0 wrong" for count in COUNTS
    ]
    copy = tmp_path / "copy.mkv"
    assert outcomes(paths[2], copy, [0], [0], checked_reader(copy, paths[2])) == {(0, EQUAL): 1}


def test_clean_real_clips_are_read() -> None:
    """All of them; `test_decode` has the odd ones."""
    clips = sorted((shared() / "clips/arid").rglob("*.mp4"))
    assert len(clips) == 150
    for path in clips:
        assert read_file(path, lambda num_frames: []).num_frames > 0


def checked_by(sums: Path) -> Callable[[str], Decoded]:
    reader = ChecksumReader(FileReader(), read_checksums(sums, sums.parent))
    return lambda path: read_frames(reader, path, range)


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_checksums_notice_all_damage(make_clip: MakeClip, tmp_path: Path, codec: str) -> None:
    path = make_clip(
        tmp_path / "a/clip.webm",
        12,
        (96, 64),
        codec,
        options={"cpu-used": "8", "deadline": "realtime"},
    )
    content = path.read_bytes()
    (tmp_path / "sums").write_text(f"{hashlib.sha256(content).hexdigest()}  ./a/clip.webm\n")
    checked, clean = checked_by(tmp_path / "sums"), read_file(path, range)
    assert outcome(path, clean, checked) == EQUAL
    unnoticed = 0
    for seed in range(12):
        path.write_bytes(damaged(content, 1, seed))
        assert outcome(path, clean, checked) == REFUSED
        unnoticed += outcome(path, clean) == WRONG
    assert unnoticed > 0


def test_a_file_without_a_checksum(make_clip: MakeClip, tmp_path: Path) -> None:
    (tmp_path / "sums").write_text("")
    with pytest.raises(
        VideoError, match=r"clip.mp4: the list of checksums has no line for it \(while checksum\)"
    ):
        checked_by(tmp_path / "sums")(str(make_clip(tmp_path / "clip.mp4", 2)))


def test_the_lists_of_the_configuration_are_checked_where_the_data_is_a_link(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists follow links of folders, and `data` is relative; `sha256sum` knows of neither."""
    disk = tmp_path / "disk"
    good, spoilt = (
        make_clip(disk / "Train" / name, 3, seed=seed)
        for seed, name in enumerate(("a.mp4", "b.mp4"))
    )
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./dark_train/Train/{path.name}"
        for path in (good, spoilt)
    ]
    (tmp_path / "data/dark_train").mkdir(parents=True)
    (tmp_path / "data/dark_train/Train").symlink_to(disk / "Train")
    (tmp_path / "data/arid.csv").write_text("path,label\na.mp4,0\nb.mp4,1\n")
    (tmp_path / "data/SHA256SUMS").write_text("\n".join(sums) + "\n")
    spoilt.write_bytes(spoilt.read_bytes() + b"\0")
    monkeypatch.chdir(tmp_path)
    cfg = get_cfg()
    cfg.DATA.PATH_PREFIX, cfg.DATA.CHECKSUMS = "data", "SHA256SUMS"
    reader, (first, second) = build_video_reader(cfg), build_items(cfg, "arid")
    assert read_frames(reader, first.path, range).num_frames == 3
    with pytest.raises(
        VideoError, match=r"b\.mp4: damaged: its bytes are not those of the list of checksums"
    ):
        read_frames(reader, second.path, range)


@pytest.mark.parametrize("line", ["abc  a.mp4", "0" * 64 + "a.mp4", "0" * 63 + "g  a.mp4", ""])
def test_a_list_of_checksums_of_another_form(tmp_path: Path, line: str) -> None:
    (tmp_path / "sums").write_text(f"{'0' * 64} *b.mp4\n{line}\n")
    with pytest.raises(UserError, match="sums, line 2: expected the form of sha256sum"):
        read_checksums(tmp_path / "sums", tmp_path)


def test_names_with_other_separators_of_lines_have_checksums(tmp_path: Path) -> None:
    (tmp_path / "sums").write_text(f"{'0' * 64}  a\u2028b.mp4\n{'1' * 64}  c.mp4\n")
    sums = read_checksums(tmp_path / "sums", tmp_path)
    assert [Path(path).name for path in sums] == ["a\u2028b.mp4", "c.mp4"]


def test_a_list_of_checksums_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sums: the list of checksums cannot be read"):
        read_checksums(tmp_path / "sums", tmp_path)


def causes(path: Path) -> list[str]:
    return [fault.cause for fault in matroska_faults(str(path))]


def test_a_block_that_ends_behind_the_file(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "clip.webm", 12, codec="libvpx", options={"cpu-used": "8"})
    assert causes(path) == []
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert causes(path)[0].startswith("cut short: the file ends within its element at byte")
    path.write_bytes(content + b"\x42")
    assert causes(path)[0].startswith(("damaged", "cut short"))


@pytest.mark.parametrize("rest", [b"", b"\x9f", b"\x00" * 8, b"\x01\xff"])
def test_an_element_without_a_length(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "cut.mkv"
    path.write_bytes(b"\x1a\x45\xdf\xa3" + rest)
    assert causes(path)[0].startswith(("damaged", "cut short"))


def test_a_checksum_of_a_long_element(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read by pieces; every byte of a cluster counts."""
    monkeypatch.setattr(matroska, "CHUNK_BYTES", 7)
    path = make_clip(tmp_path / "clip.mkv", 12)
    assert causes(path) == []
    content = bytearray(path.read_bytes())
    start = content.index(b"\x1fC\xb6u")
    for place in (start + 14, start + 200, start + 400):
        changed = content.copy()
        changed[place] ^= 1
        path.write_bytes(changed)
        assert causes(path)


def test_a_live_recording_of_matroska(tmp_path: Path) -> None:
    """Its clusters do not say how long they are."""
    path = tmp_path / "live.mkv"
    with av.open(str(path), "w", format="matroska", container_options={"live": "1"}) as output:
        stream = output.add_stream("libx264", rate=25, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shade in range(8):
            picture = np.full((48, 64, 3), 20 * shade, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())
    assert read_file(path, range).num_frames == 8


def with_edit(content: bytes, share: float, first: int = 0) -> bytes:
    """An MP4 file that shows a share of its duration, from `first` ticks later on than before."""
    changed = bytearray(content)
    place = changed.index(b"elst") + 12
    duration, start = struct.unpack_from(">Ii", changed, place)
    struct.pack_into(">Ii", changed, place, int(duration * share), start + first)
    return bytes(changed)


@pytest.mark.parametrize(
    ("share", "least", "most"), [(0.6, 17, 20), (0.55, 15, 18), (0.999, 30, 30)]
)
def test_a_file_that_shows_a_part_of_its_frames(
    make_clip: MakeClip, tmp_path: Path, share: float, least: int, most: int
) -> None:
    path = make_clip(tmp_path / "clip.mp4", 30, options={"bf": "2"})
    path.write_bytes(with_edit(path.read_bytes(), share))
    assert least <= read_file(path, range).num_frames <= most


def spoilt(content: bytes, table: bytes, place: int, value: int) -> bytes:
    changed = bytearray(content)
    changed[changed.index(table) + place] = value
    return bytes(changed)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: with_edit(content, 1.0, 5 * 512),
        lambda content: spoilt(content, b"ctts", 24, 100),
        lambda content: spoilt(content, b"ctts", 23, 200),
        lambda content: spoilt(content, b"stts", 16, 154),
    ],
    ids=["starts later", "a frame shown late", "many frames shown late", "long frames"],
)
def test_times_that_leave_frames_out_are_damage(
    make_clip: MakeClip, tmp_path: Path, spoil: Callable[[bytes], bytes]
) -> None:
    """FFmpeg leaves out what lies behind the end that the file tells."""
    path = make_clip(tmp_path / "clip.mp4", 30, options={"bf": "2"})
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(VideoError, match="the times of frames do not add up to the duration"):
        read_file(path, range)


def test_zeros_behind_the_end_of_a_matroska_file_are_padding(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    """Zeros in the place of the last block are lost frames still."""
    clip = make_clip(tmp_path / "clip.mkv", 12)
    data = clip.read_bytes()
    padded = tmp_path / "padded.mkv"
    padded.write_bytes(data + bytes(5000))
    np.testing.assert_array_equal(read_file(padded, range).frames, read_file(clip, range).frames)
    for tail in (bytes(5000) + b"x", b"\1" + bytes(50)):
        padded.write_bytes(data + tail)
        with pytest.raises(VideoError, match="unknown element"):
            read_file(padded, range)
    padded.write_bytes(data[:-400] + bytes(400))
    with pytest.raises(VideoError, match="damaged"):
        read_file(padded, range)


ZEROS_FAMILIES = {
    "h264": ("mp4", "libx264", {"bf": "2"}),
    "hevc": ("mp4", "libx265", {"x265-params": "log-level=none:pools=1"}),
    "mpeg4": ("avi", "mpeg4", {}),
    "wmv2": ("wmv", "wmv2", {}),
    "flv": ("flv", "flv", {}),
    "mpeg2": ("mpg", "mpeg2video", {}),
}


@pytest.mark.parametrize("family", ZEROS_FAMILIES)
def test_zeros_in_place_of_lost_bytes_are_noticed(
    make_clip: MakeClip, tmp_path: Path, family: str
) -> None:
    """A block that was never written: WMV2 and FLV decode zeros as a picture that stands still."""
    suffix, codec, options = ZEROS_FAMILIES[family]
    path = make_clip(tmp_path / f"clip.{suffix}", 30, (96, 64), codec, options=options)
    clean = read_file(path, range)
    content = path.read_bytes()
    size = min(2048, len(content) // 4)
    copy = tmp_path / f"zeros.{suffix}"
    for seed in range(12):
        start = int(np.random.default_rng(seed).integers(0, len(content) - size))
        copy.write_bytes(content[:start] + bytes(size) + content[start + size :])
        assert outcome(copy, clean) != WRONG


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "wmv2", "flv", "mpeg2video"])
def test_black_pictures_are_no_damage(make_clip: MakeClip, tmp_path: Path, codec: str) -> None:
    suffix = {"wmv2": "wmv", "flv": "flv"}.get(codec, "avi")
    path = tmp_path / f"black.{suffix}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for _ in range(8):
            frame = av.VideoFrame.from_ndarray(np.zeros((240, 320, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert read_file(path, range).num_frames == 8


@pytest.mark.parametrize("size", [(64, 48), (640, 480)])
def test_wmv_files_with_sound_are_sound(tmp_path: Path, size: tuple[int, int]) -> None:
    """Frames larger than a packet, and packets that hold pieces of many frames and of the sound."""
    path = tmp_path / "clip.wmv"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("wmv2", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        sound = container.add_stream("wmav2", rate=16000)
        sound.bit_rate, sound.layout = 32000, "mono"
        for number in range(300 if size[0] == 64 else 20):
            noise = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(noise, format="rgb24")
            container.mux(stream.encode(frame))
            samples = rng.normal(0, 0.1, (1, 640)).astype(np.float32)
            heard = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            heard.sample_rate, heard.pts = 16000, 640 * number
            container.mux(sound.encode(heard))
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))
    assert list(asf_faults(str(path))) == []
    content = path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(600) + content[middle + 600 :])
    with pytest.raises(VideoError):
        read_file(path, range)
