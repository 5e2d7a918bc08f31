"""Colours against the standards' own formulas, in floating point, and every reader like the others."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from nightcrawler.config.check import check
from nightcrawler.config.node import config_hash, get_cfg
from nightcrawler.data.build_video import build_video_reader
from nightcrawler.data.video.convert import EXACT, PUBLISHED, RgbConverter
from nightcrawler.data.video.decode import read_frames
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import probe
from nightcrawler.data.video.stream import video_frames
from nightcrawler.utils.errors import ConfigError
from tests.conftest import MakeClip
from tests.paths import shared
from tests.reading import read_file

WIDTH, HEIGHT = 64, 32
# Weights of red and blue in luma: ITU-R BT.601 and BT.709.
WEIGHTS = {Colorspace.ITU601: (0.299, 0.114), Colorspace.ITU709: (0.2126, 0.0722)}
RANGES = (ColorRange.MPEG, ColorRange.JPEG)
# A dark clip's luma, and chroma close to grey.
COLOURS = [(16, 128, 128), (20, 128, 128), (27, 125, 131), (64, 120, 140), (128, 90, 180)]


def by_the_standard(
    yuv: tuple[int, int, int], color_range: ColorRange, space: Colorspace
) -> np.ndarray:
    """RGB, float `[3]`, of 8-bit Y'CbCr."""
    red, blue = WEIGHTS[space]
    y, u, v = yuv
    luma, blue_difference, red_difference = y / 255, (u - 128) / 255, (v - 128) / 255
    if color_range == ColorRange.MPEG:
        luma, blue_difference, red_difference = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    r = luma + 2 * (1 - red) * red_difference
    b = luma + 2 * (1 - blue) * blue_difference
    g = (luma - red * r - blue * b) / (1 - red - blue)
    return np.clip(255 * np.array([r, g, b]), 0, 255)


def plain_frame(
    yuv: tuple[int, int, int], color_range: ColorRange, space: Colorspace
) -> av.VideoFrame:
    """A picture of one colour."""
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
    for plane, level in zip(frame.planes, yuv, strict=True):
        plane.update(bytes([level]) * plane.buffer_size)
    frame.color_range, frame.colorspace = color_range, space
    return frame


def write_colours(path: Path, color_range: ColorRange, space: Colorspace) -> Path:
    """A lossless clip, one frame for each of `COLOURS`."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=10, options={"crf": "0", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.color_range = color_range
        stream.codec_context.colorspace = space
        for number, yuv in enumerate(COLOURS):
            frame = plain_frame(yuv, color_range, space)
            frame.pts, frame.time_base = number, Fraction(1, 10)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


@pytest.mark.parametrize("space", WEIGHTS)
@pytest.mark.parametrize("color_range", RANGES)
def test_colours_are_those_of_the_standard(
    tmp_path: Path, color_range: ColorRange, space: Colorspace
) -> None:
    path = write_colours(tmp_path / "colours.mp4", color_range, space)
    expected = np.stack([by_the_standard(yuv, color_range, space) for yuv in COLOURS])
    frames = read_file(path, range).frames
    # One level is half a level of rounding here, and the tables of FFmpeg.
    assert np.abs(frames - expected[:, None, None]).max() <= 0.51
    streamed = list(video_frames(str(path), probe(str(path), Limits())))
    np.testing.assert_array_equal(np.stack([frame.rgb for frame in streamed]), frames)


def test_the_published_conversion_is_darker() -> None:
    """The fault that the exact one mends: a mean of 0.8 levels over real clips."""
    errors: dict[str, list[float]] = {EXACT: [], PUBLISHED: []}
    for luma in range(17, 100):
        yuv = (luma, 124, 131)
        frame = plain_frame(yuv, ColorRange.MPEG, Colorspace.ITU601)
        expected = by_the_standard(yuv, ColorRange.MPEG, Colorspace.ITU601)
        for color, found in errors.items():
            found.append(float((RgbConverter(color=color)(frame)[8, 32] - expected).mean()))
    assert abs(np.mean(errors[EXACT])) < 0.05
    assert np.mean(errors[PUBLISHED]) < -0.7


def test_chroma_has_its_full_width() -> None:
    """Each pixel has a chroma of its own in 4:4:4, whichever conversion; none is averaged away."""
    frame = av.VideoFrame(WIDTH, HEIGHT, "yuv444p")
    frame.planes[0].update(bytes([100]) * frame.planes[0].buffer_size)
    stripes = np.tile(np.array([110, 150], np.uint8), frame.planes[1].buffer_size // 2)
    frame.planes[1].update(stripes.tobytes())
    frame.planes[2].update(bytes([128]) * frame.planes[2].buffer_size)
    rgb = RgbConverter()(frame)
    blue = [
        by_the_standard((100, u, 128), ColorRange.MPEG, Colorspace.ITU601)[2] for u in (110, 150)
    ]
    assert np.abs(rgb[:, 0::2, 2] - blue[0]).max() <= 0.51
    assert np.abs(rgb[:, 1::2, 2] - blue[1]).max() <= 0.51


def test_real_clips_keep_their_light() -> None:
    """Against a conversion in floating point of the decoded luma and chroma."""
    for path in sorted((shared() / "clips/arid").glob("*/*.mp4"))[:3]:
        with av.open(str(path)) as container:
            frame = next(container.decode(video=0))
        planes = []
        for plane in frame.planes:
            level = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
            planes.append(level[:, : plane.width].astype(float))
        luma, u, v = planes[0], planes[1] - 128, planes[2] - 128
        u, v = (np.kron(one, np.ones((2, 2)))[: luma.shape[0], : luma.shape[1]] for one in (u, v))
        luma = (luma - 16) / 219
        rgb = np.stack(
            [
                luma + 1.402 * v / 224,
                luma - (0.114 * 1.772 * u + 0.299 * 1.402 * v) / 0.587 / 224,
                luma + 1.772 * u / 224,
            ]
        )
        expected = np.clip(255 * rgb, 0, 255).mean()
        assert abs(read_file(path, lambda _: [0]).frames.mean() - expected) < 0.15
        published = read_file(path, lambda _: [0], color=PUBLISHED).frames.mean()
        assert published < expected - 0.4


@pytest.mark.parametrize("color", [EXACT, PUBLISHED])
def test_the_key_reaches_the_reader_and_the_cache(
    make_clip: MakeClip, tmp_path: Path, color: str
) -> None:
    """Frames of one conversion are never taken from a cache for the other."""
    path = make_clip(tmp_path / "clip.mp4", 4)
    cfg = get_cfg()
    cfg.DATA.CACHE, cfg.DATA.CACHE_DIR = "disk", str(tmp_path / "cache")
    other = PUBLISHED if color == EXACT else EXACT
    for name in (other, color, color):
        cfg.DATA.COLOR = name
        got = read_frames(build_video_reader(cfg), path, range).frames
        np.testing.assert_array_equal(got, read_file(path, range, color=name).frames)


def test_torchcodec_has_the_published_colours_only() -> None:
    cfg = get_cfg()
    cfg.DATA.DECODER = "torchcodec"
    with pytest.raises(ConfigError, match=r"set DATA\.COLOR published"):
        check(cfg, {})
    cfg.DATA.COLOR = PUBLISHED
    check(cfg, {})


def test_a_run_of_the_other_conversion_is_another_run() -> None:
    cfg = get_cfg()
    exact = config_hash(cfg)
    cfg.DATA.COLOR = PUBLISHED
    assert config_hash(cfg) != exact


def test_an_unknown_conversion_is_named() -> None:
    with pytest.raises(ValueError, match="'warm' is not one of exact, published"):
        RgbConverter(color="warm")
