"""torchcodec as the decoder: the same frames as PyAV's, and a plain error where it cannot be used."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from nightcrawler.config.node import get_cfg
from nightcrawler.data.build_video import build_video_reader
from nightcrawler.data.video.convert import PUBLISHED
from nightcrawler.data.video.decode import read_frames
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.torchcodec import TorchcodecReader, import_decoder
from nightcrawler.utils.errors import ConfigError, UserError, VideoError
from tests.conftest import MakeClip
from tests.paths import shared
from tests.reading import read_file


@pytest.fixture
def torchcodec() -> None:
    """Skip where it cannot be used."""
    try:
        import_decoder()
    except UserError as error:
        pytest.skip(str(error))


CLIPS = {
    "h264": ("mp4", (64, 48), "libx264", {"options": {"bf": "3", "g": "6"}}),
    "h264 in matroska": ("mkv", (64, 48), "libx264", {}),
    "h264 rotated": ("mp4", (64, 48), "libx264", {"rotation": 90}),
    "h264 odd": ("mp4", (65, 47), "libx264", {"pix_fmt": "yuv444p"}),
    "vp9": ("webm", (64, 48), "libvpx-vp9", {"options": {"cpu-used": "8", "deadline": "realtime"}}),
    "av1": ("mkv", (64, 48), "libsvtav1", {"options": {"preset": "12"}}),
    "mpeg4, left to PyAV": ("avi", (64, 48), "mpeg4", {}),
}


@pytest.mark.usefixtures("torchcodec")
@pytest.mark.parametrize("variant", CLIPS)
def test_frames_equal_those_of_pyav(make_clip: MakeClip, tmp_path: Path, variant: str) -> None:
    suffix, size, codec, more = CLIPS[variant]
    path = make_clip(tmp_path / f"clip.{suffix}", 30, size, codec, **more)
    for choose in (range, lambda num_frames: [2, num_frames - 1], lambda num_frames: [7]):
        one = read_file(path, choose, color=PUBLISHED)
        other = read_frames(TorchcodecReader(), path, choose)
        np.testing.assert_array_equal(other.frames, one.frames)
        assert other.frames.flags.c_contiguous
        assert (other.indices, other.num_frames, other.fps) == (
            one.indices,
            one.num_frames,
            one.fps,
        )


@pytest.mark.usefixtures("torchcodec")
def test_shared_clips_equal_those_of_pyav() -> None:
    def few(num_frames: int) -> list[int]:
        return sorted({0, num_frames // 3, num_frames - 1})

    for path in sorted((shared() / "clips").glob("[bo]*/*")):
        try:
            expected = read_file(path, few, color=PUBLISHED)
        except VideoError:
            continue
        np.testing.assert_array_equal(
            read_frames(TorchcodecReader(), path, few).frames, expected.frames, err_msg=path.name
        )


@pytest.mark.usefixtures("torchcodec")
def test_what_pyav_refuses_before_decoding_is_refused(make_clip: MakeClip, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "clip.mp4", 30)
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile clip.mp4\n")
    (tmp_path / "cut.mp4").write_bytes(clip.read_bytes()[:-600])
    for name in ("list.mp4", "cut.mp4", "nowhere.mp4"):
        with pytest.raises(VideoError, match=name):
            read_frames(TorchcodecReader(), tmp_path / name, range)
    for limits in (Limits(side_px=63), Limits(frames=29), Limits(memory_bytes=1000)):
        with pytest.raises(VideoError, match=r"limit|more than"):
            read_frames(TorchcodecReader(limits=limits), clip, range)


def test_where_it_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(
        UserError,
        match=r"torchcodec: it is not installed: python -m pip install .* FFmpeg libraries",
    ):
        import_decoder()
    cfg = get_cfg()
    cfg.DATA.DECODER = "torchcodec"
    with pytest.raises(
        ConfigError, match=r"DATA\.DECODER torchcodec: it is not installed.*set DATA\.DECODER pyav"
    ):
        build_video_reader(cfg)


def test_where_it_finds_no_ffmpeg(monkeypatch: pytest.MonkeyPatch) -> None:
    package, decoders = ModuleType("torchcodec"), ModuleType("torchcodec.decoders")
    package.ffmpeg_major_version, decoders.VideoDecoder = None, object
    monkeypatch.setitem(sys.modules, "torchcodec", package)
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", decoders)
    with pytest.raises(UserError, match="it finds no FFmpeg libraries") as caught:
        import_decoder()
    assert "\n" not in str(caught.value)
