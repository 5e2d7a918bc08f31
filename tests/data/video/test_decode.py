"""Decoding: every frame equals a plain full decode, every unusable file is a `VideoError` that names it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import nightcrawler.data.video.decode as decode_module
from nightcrawler.data.video.convert import PUBLISHED, RgbConverter
from nightcrawler.data.video.decode import Decoded
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.utils.errors import VideoError
from tests.conftest import MakeClip
from tests.paths import shared
from tests.reading import read_file

HANG_SEC = 30


@pytest.fixture(autouse=True)
def no_hang() -> Iterator[None]:
    """Turn a hang into a failure."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"no answer in {HANG_SEC} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(HANG_SEC)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def upright(rgb: np.ndarray, rotation: int) -> np.ndarray:
    """A picture turned counter-clockwise by `rotation` degrees."""
    turned = {
        0: rgb,
        90: rgb.swapaxes(0, 1)[::-1],
        180: rgb[::-1, ::-1],
        270: rgb.swapaxes(0, 1)[:, ::-1],
    }
    return turned[rotation % 360]


def plain_decode(path: Path) -> Iterator[np.ndarray]:
    """Every frame as uint8 `[H, W, 3]`, without any choice or check, colours as published."""
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.best("video")
        aspect = float(stream.sample_aspect_ratio or 1)
        for frame in container.decode(stream):
            # Nearly square pixels are left alone.
            width = round(frame.width * aspect) if abs(aspect - 1) > 0.02 else frame.width
            picture = frame.reformat(width=width, height=frame.height, format="rgb24")
            yield upright(picture.to_ndarray(), frame.rotation)


def every_frame(num_frames: int) -> list[int]:
    return list(range(num_frames))


VARIANTS = {
    "h264": ("mp4", (64, 48), "libx264", {}),
    "h264 with B-frames": ("mp4", (64, 48), "libx264", {"options": {"bf": "3", "g": "6"}}),
    "h264 in matroska": ("mkv", (64, 48), "libx264", {}),
    "h264 odd 4:4:4": ("mp4", (65, 47), "libx264", {"pix_fmt": "yuv444p"}),
    "mpeg4 in avi": ("avi", (64, 48), "mpeg4", {}),
    "mpeg4 with B-frames": ("avi", (64, 48), "mpeg4", {"options": {"bf": "2"}}),
    "mpeg4 odd 4:2:0": ("avi", (65, 47), "mpeg4", {}),
    "one row of blocks": ("mp4", (82, 18), "libx264", {}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_frames_equal_a_plain_decode(make_clip: MakeClip, tmp_path: Path, variant: str) -> None:
    suffix, (width, height), codec, more = VARIANTS[variant]
    path = make_clip(tmp_path / f"clip.{suffix}", 14, (width, height), codec, **more)
    decoded = read_file(path, every_frame, color=PUBLISHED)
    expected = np.stack(list(plain_decode(path)))
    assert decoded.frames.shape == (14, height, width, 3)
    assert decoded.frames.dtype == np.uint8
    np.testing.assert_array_equal(decoded.frames, expected)
    assert (decoded.num_frames, decoded.indices, decoded.fps) == (14, list(range(14)), 25.0)
    assert len(np.unique(expected.reshape(14, -1), axis=0)) == 14


@pytest.fixture(scope="module")
def clip(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames of 64x48 with B-frames."""
    return make_clip(
        tmp_path_factory.mktemp("decode") / "clip.mp4", 30, options={"bf": "2", "g": "10"}
    )


@given(st.sets(st.integers(0, 29), min_size=1))
@settings(deadline=None, max_examples=30)
def test_only_the_asked_frames_come(clip: Path, asked: set[int]) -> None:
    wanted = sorted(asked)
    told: list[int] = []

    def choose(num_frames: int) -> list[int]:
        told.append(num_frames)
        return wanted

    decoded = read_file(clip, choose)
    whole = read_file(clip, every_frame).frames
    assert told == [30]
    assert decoded.indices == wanted
    assert decoded.num_frames == 30
    np.testing.assert_array_equal(decoded.frames, whole[wanted])


def test_only_the_asked_frames_are_converted(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    converted: list[int] = []
    real = RgbConverter.__call__
    monkeypatch.setattr(
        RgbConverter, "__call__", lambda *given: converted.append(1) or real(*given)
    )
    read_file(clip, lambda num_frames: [3, 20])
    assert len(converted) == 2


@pytest.mark.parametrize(
    ("rotation", "direction"), [(90, "cclock"), (270, "clock"), (-90, "clock"), (180, "")]
)
def test_frames_are_turned_upright(
    make_clip: MakeClip, tmp_path: Path, rotation: int, direction: str
) -> None:
    """Against FFmpeg's own filter; the metadata's angle is counter-clockwise."""
    path = make_clip(tmp_path / "turned.mp4", 3, (64, 48), rotation=rotation)
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).reformat(format="rgb24")
    graph = av.filter.Graph()
    source = graph.add_buffer(width=64, height=48, format="rgb24", time_base=picture.time_base)
    steps = (
        [graph.add("transpose", direction)]
        if direction
        else [graph.add("hflip"), graph.add("vflip")]
    )
    graph.link_nodes(source, *steps, graph.add("buffersink")).configure()
    graph.push(picture)
    expected = graph.pull().to_ndarray(format="rgb24")
    decoded = read_file(path, every_frame, color=PUBLISHED)
    np.testing.assert_array_equal(decoded.frames[0], expected)
    assert decoded.frames.shape[1:] == ((48, 64, 3) if rotation == 180 else (64, 48, 3))


@pytest.mark.parametrize(
    ("size", "rotation", "short_side", "shape"),
    [
        ((64, 48), 0, 24, (24, 32)),
        ((64, 48), 90, 24, (32, 24)),
        ((50, 82), 0, 25, (41, 25)),
        ((64, 48), 0, 48, (48, 64)),
        ((64, 48), 0, 100, (48, 64)),
        ((64, 48), 0, 0, (48, 64)),
    ],
)
def test_frames_are_scaled_down_but_not_up(
    make_clip: MakeClip,
    tmp_path: Path,
    size: tuple[int, int],
    rotation: int,
    short_side: int,
    shape: tuple[int, int],
) -> None:
    path = make_clip(tmp_path / "clip.mp4", 2, size, rotation=rotation)
    scaled = read_file(path, every_frame, short_side=short_side).frames
    assert scaled.shape == (2, *shape, 3)
    for got, full in zip(scaled, plain_decode(path), strict=True):
        expected = np.asarray(
            Image.fromarray(full).resize(shape[::-1], Image.Resampling.BILINEAR), float
        )
        assert np.abs(got - expected).mean() < 3.0


def fault(path: Path, **more: object) -> VideoError:
    with pytest.raises(VideoError) as caught:
        read_file(path, every_frame, **more)
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)
    assert "\n" not in str(caught.value)
    return caught.value


def frames_or_fault(path: Path) -> Decoded | None:
    """What decoding gives, `None` where the file is refused; anything but a `VideoError` fails the test."""
    with contextlib.suppress(VideoError):
        return read_file(path, every_frame)
    fault(path)
    return None


def test_a_missing_file(tmp_path: Path) -> None:
    assert fault(tmp_path / "nowhere.mp4").cause == "cannot be opened: No such file or directory"


def test_what_is_not_a_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert fault(tmp_path / "pipe.mp4").cause == "not a regular file"
    assert fault(tmp_path).cause == "is a folder, expected a video file"


def test_a_path_with_nul() -> None:
    with pytest.raises(VideoError, match="NUL"):
        read_file("a\0b.mp4", every_frame)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "the file is empty"),
        (b"This is not a video.\n" * 50, "not a video that can be read"),
        (b"path,label\na.mp4,3\n", "not a video that can be read"),
        (b"#EXTM3U\n#EXTINF:1,\nclip.mp4\n", "not a video that can be read"),
        (b"ffconcat version 1.0\nfile clip.mp4\n", "not a video that can be read"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a video that can be read"),
        (bytes(5000), "not a video that can be read"),
    ],
    ids=["empty", "text", "csv", "m3u8", "concat", "png", "zeros"],
)
def test_what_is_not_a_video(
    make_clip: MakeClip, tmp_path: Path, content: bytes, cause: str
) -> None:
    """A playlist beside a good clip must not lead to it."""
    make_clip(tmp_path / "clip.mp4", 2)
    (tmp_path / "bad.mp4").write_bytes(content)
    assert fault(tmp_path / "bad.mp4").cause.startswith(cause)


def test_sound_alone(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate = 8000
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    assert fault(path).cause == "no video stream in it"


CONTAINERS = {
    "mp4": ("mp4", "libx264", {}),
    "faststart": ("mp4", "libx264", {"container": {"movflags": "+faststart"}}),
    "avi": ("avi", "mpeg4", {}),
    "mkv": ("mkv", "libx264", {}),
}


@pytest.fixture(scope="module")
def contents(make_clip: MakeClip, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Bytes of a clip of 40 frames in each container."""
    folder = tmp_path_factory.mktemp("contents")
    return {
        name: make_clip(
            folder / f"{name}.{suffix}", 40, codec=codec, options={"g": "8"}, **more
        ).read_bytes()
        for name, (suffix, codec, more) in CONTAINERS.items()
    }


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("name", CONTAINERS)
def test_a_file_that_is_cut_short(
    contents: dict[str, bytes], tmp_path: Path, name: str, share: float
) -> None:
    """It is refused unless the cut left all frames (an AVI ends with an index it can do without)."""
    path = tmp_path / "cut.mp4"
    path.write_bytes(contents[name][: int(len(contents[name]) * share)])
    decoded = frames_or_fault(path)
    assert decoded is None or (name == "avi" and decoded.num_frames == 40)


@pytest.mark.parametrize("kept", [5, 20, 36])
def test_an_avi_that_is_cut_between_two_frames(
    contents: dict[str, bytes], tmp_path: Path, kept: int
) -> None:
    """Its header still promises 40 frames."""
    content = contents["avi"]
    end = content.index(b"movi") + 4
    for _ in range(kept):
        assert content[end : end + 4] == b"00dc"
        size = int.from_bytes(content[end + 4 : end + 8], "little")
        end += 8 + size + size % 2
    (tmp_path / "cut.avi").write_bytes(content[:end])
    fault(tmp_path / "cut.avi")


@pytest.mark.parametrize(
    ("name", "codec", "unknown"),
    [
        ("mp4", b"avc1", b"zzzz"),
        ("avi", b"FMP4", b"ZZZZ"),
        ("mkv", b"V_MPEG4/ISO/AVC", b"V_ZZZZZ/ISO/ZZZ"),
    ],
)
def test_an_unknown_codec(
    contents: dict[str, bytes], tmp_path: Path, name: str, codec: bytes, unknown: bytes
) -> None:
    assert codec in contents[name]
    (tmp_path / "unknown.mp4").write_bytes(contents[name].replace(codec, unknown))
    fault(tmp_path / "unknown.mp4")


@given(
    st.sampled_from(sorted(CONTAINERS)),
    st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=12),
)
@settings(deadline=None, max_examples=60)
def test_damaged_bytes_are_a_video_error_or_frames(
    contents: dict[str, bytes],
    tmp_path_factory: pytest.TempPathFactory,
    name: str,
    damage: list[tuple[float, int]],
) -> None:
    content = bytearray(contents[name])
    for place, value in damage:
        content[int(place * (len(content) - 1))] = value
    path = tmp_path_factory.getbasetemp() / "damaged.mp4"
    path.write_bytes(content)
    decoded = frames_or_fault(path)
    if decoded is not None:
        assert decoded.frames.shape[0] == decoded.num_frames == len(decoded.indices)


MAGIC = [
    b"",
    b"RIFF\0\0\0\0AVI LIST",
    b"\0\0\0\x18ftypmp42",
    b"\x1aE\xdf\xa3",
    b"GIF89a",
    b"\0\0\1\xb3",
]


@given(st.sampled_from(MAGIC), st.binary(max_size=400))
@settings(deadline=None, max_examples=60)
def test_any_bytes_are_a_video_error_or_frames(
    tmp_path_factory: pytest.TempPathFactory, magic: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.mp4"
    path.write_bytes(magic + rest)
    decoded = frames_or_fault(path)
    assert decoded is None or decoded.num_frames > 0


@pytest.mark.parametrize(
    ("limits", "cause"),
    [
        (Limits(file_bytes=100), "over the limit of 100"),
        (Limits(side_px=63), "64x48 pixels, over the limit of 63 a side"),
        (Limits(pixels=64 * 48 - 1), ""),
        (Limits(frames=29), "more than 29 frames"),
    ],
)
def test_limits(clip: Path, limits: Limits, cause: str) -> None:
    assert cause in fault(clip, limits=limits).cause


def test_a_video_at_its_limits_is_read(clip: Path) -> None:
    limits = Limits(clip.stat().st_size, side_px=64, pixels=64 * 48, frames=30)
    assert read_file(clip, every_frame, limits=limits).num_frames == 30


@pytest.mark.parametrize("promised", [31, 32])
def test_a_container_that_promises_a_frame_too_many(
    clip: Path, monkeypatch: pytest.MonkeyPatch, promised: int
) -> None:
    """In MPEG-4, which packs frames, the choice is made again for the true number of frames."""
    monkeypatch.setattr(decode_module, "probe", lambda path, limits: StreamInfo(promised, "mpeg4"))
    decoded = read_file(clip, lambda num_frames: [num_frames - 2, num_frames - 1])
    assert (decoded.num_frames, decoded.indices) == (30, [28, 29])


@pytest.mark.parametrize(("promised", "codec"), [(31, "h264"), (40, "h264"), (33, "mpeg4")])
def test_frames_that_are_missing(
    clip: Path, monkeypatch: pytest.MonkeyPatch, promised: int, codec: str
) -> None:
    monkeypatch.setattr(decode_module, "probe", lambda path, limits: StreamInfo(promised, codec))
    assert fault(clip).cause == f"cut short: 30 of {promised} frames can be decoded"


@pytest.mark.parametrize("suffix", ["mkv", "ts"])
def test_a_recording_that_was_cut_out_of_a_longer_one(tmp_path: Path, suffix: str) -> None:
    """From its second key frame on: two frames that are shown before it lack what they were made from."""
    whole, part = tmp_path / f"whole.{suffix}", tmp_path / f"part.{suffix}"
    rng = np.random.default_rng(0)
    with av.open(str(whole), "w") as output:
        stream = output.add_stream("mpeg2video", rate=25, options={"g": "12", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(40):
            picture = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode())
    with av.open(str(whole)) as source, av.open(str(part), "w") as output:
        copied, keys = output.add_stream_from_template(source.streams.video[0]), 0
        for packet in source.demux(video=0):
            keys += packet.is_keyframe and packet.size > 0
            if keys >= 2 and packet.dts is not None:
                packet.stream = copied
                output.mux(packet)
    expected = list(plain_decode(part))
    with av.open(str(part)) as container:
        assert sum(packet.size > 0 for packet in container.demux(video=0)) == len(expected) + 2
    decoded = read_file(
        part, lambda num_frames: [0, num_frames // 2, num_frames - 1], color=PUBLISHED
    )
    assert decoded.num_frames == len(expected)
    for frame, number in zip(decoded.frames, decoded.indices, strict=True):
        assert (frame == expected[number]).all()


# What each shared clip is: a number of frames, or None where it must be refused.
SHARED_CLIPS = {
    "bright/SchoolRulesHowTheyHelpUs_wave_f_nm_np1_ba_med_0.avi": 74,
    "bright/WUzgd7C1pWA.mp4": 327,
    "bright/demo.mp4": 280,
    "bright/hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": 83,
    "bright/v_SoccerJuggling_g23_c01.avi": 240,
    "odd/audio_only.mp4": None,
    "odd/av1_10bit.mkv": 108,
    "odd/av1_video.mkv": 125,
    "odd/bitflips.mp4": None,
    "odd/bt601_limited_range.mp4": 60,
    "odd/corrupted.mp4": None,
    "odd/discard_first_keyframe.mp4": 25,
    "odd/ffv1.mkv": 108,
    "odd/frame_exceeds_screen.gif": 1,
    "odd/fullrange.mp4": 108,
    "odd/h264_10bits.mp4": 30,
    "odd/hevc10.mp4": 108,
    "odd/nasa_13013.mp4": 390,
    "odd/nasa_13013_rotated.mp4": 17,
    "odd/one_frame.mp4": 1,
    "odd/random_bytes.mp4": None,
    "odd/reproduce_seek_bug.wav": None,
    "odd/sar.mp4": 108,
    "odd/test_non_zero_start.mp4": 12,
    "odd/testsrc2_mpeg4.avi": 30,
    "odd/testsrc2_odd_height_and_width_444.mp4": 25,
    "odd/testsrc2_vp8.webm": 30,
    "odd/truncated_faststart.mp4": None,
    "odd/verydark.mp4": 108,
    "odd/vfr.mp4": 108,
    "odd/video_0.mov": 3,
    "odd/video_90.mov": 3,
    "odd/xvid_bframes.avi": 108,
    "odd/zero_bytes.mp4": None,
}


def about_twenty(num_frames: int) -> list[int]:
    """The first, the last and some between."""
    return sorted({*range(0, num_frames, max(num_frames // 20, 1)), num_frames - 1})


@pytest.mark.parametrize("name", SHARED_CLIPS)
def test_shared_clips_equal_a_plain_decode_or_are_refused(name: str) -> None:
    path, num_frames = shared() / "clips" / name, SHARED_CLIPS[name]
    if num_frames is None:
        fault(path)
        return
    decoded = read_file(path, about_twenty, color=PUBLISHED)
    assert decoded.num_frames == num_frames
    assert decoded.indices == about_twenty(num_frames)
    kept = dict(zip(decoded.indices, decoded.frames, strict=True))
    for number, expected in enumerate(plain_decode(path)):
        if number in kept:
            np.testing.assert_array_equal(kept[number], expected)
    assert number == num_frames - 1


def test_no_shared_clip_is_forgotten() -> None:
    clips = shared() / "clips"
    found = {
        f"{folder}/{path.name}"
        for folder in ("bright", "odd")
        for path in (clips / folder).iterdir()
    }
    assert found == set(SHARED_CLIPS)
