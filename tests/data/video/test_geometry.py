"""The geometry of pictures: every display matrix, pixels that are not square."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from nightcrawler.data.video.convert import upright
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.data.video.probe import probe
from nightcrawler.data.video.stream import video_frames
from nightcrawler.utils.errors import VideoError
from tests.reading import read_file

SIZE = (64, 48)
ONE = 1 << 16


def encode(
    path: Path,
    planes: list[np.ndarray],
    aspect: tuple[int, int] = (1, 1),
    size: tuple[int, int] = SIZE,
) -> Path:
    """One picture of given YUV 4:2:0 planes as lossless H.264, limited range, BT.601."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=10, options={"crf": "0", "preset": "veryfast"}
        )
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(*aspect)
        stream.codec_context.color_range = 1
        stream.codec_context.colorspace = 5
        for number in range(3):
            frame = av.VideoFrame(*size, "yuv420p")
            for plane, values in zip(frame.planes, planes, strict=True):
                padded = np.zeros((plane.height, plane.line_size), np.uint8)
                padded[:, : plane.width] = values
                plane.update(padded.tobytes())
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def noise_planes(low: int, high: int, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """Random luma between two levels, and random chroma of blocks of 16 x 16 pixels."""
    rng = np.random.default_rng(0)
    width, height = size
    luma = rng.integers(low, high, (height, width))
    chroma = rng.integers(120, 137, (2, height // 16, width // 16))
    chroma = chroma.repeat(8, axis=1).repeat(8, axis=2)
    return [luma.astype(np.uint8), *chroma.astype(np.uint8)]


RIGHT_ANGLES = [
    matrix
    for pair in (((1, 0), (0, 1)), ((0, 1), (1, 0)))
    for matrix in (
        (np.array(pair) * np.array(signs)[:, None]) for signs in itertools.product((1, -1), (1, -1))
    )
]


@pytest.mark.parametrize("matrix", RIGHT_ANGLES, ids=lambda one: "".join(map(str, one.ravel())))
def test_each_display_matrix_moves_each_pixel_as_it_says(matrix: np.ndarray) -> None:
    """Against the definition: (x, y) is shown at (a x + c y, b x + d y), moved into the picture."""
    height, width = 3, 4
    rgb = np.arange(height * width * 3, dtype=np.uint8).reshape(height, width, 3)
    places = {}
    for y, x in itertools.product(range(height), range(width)):
        shown = np.array([x, y]) @ matrix
        places[tuple(shown.tolist())] = rgb[y, x]
    left = min(x for x, _ in places)
    top = min(y for _, y in places)
    got = upright(rgb, matrix * ONE)
    assert got.flags.c_contiguous
    for (x, y), pixel in places.items():
        np.testing.assert_array_equal(got[y - top, x - left], pixel)


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((-1, 0, 0, 1), lambda rgb: rgb[:, ::-1]),
        ((1, 0, 0, -1), lambda rgb: rgb[::-1]),
        ((0, 1, 1, 0), lambda rgb: rgb.swapaxes(0, 1)),
    ],
    ids=["mirrored", "flipped", "mirrored and turned"],
)
def test_mirrored_files_are_shown_as_players_show_them(
    tmp_path: Path, matrix: tuple[int, ...], shown
) -> None:
    plain = encode(tmp_path / "plain.mp4", noise_planes(20, 200))
    data = plain.read_bytes()
    # The matrix of the track header: nine numbers, after the box's name, flags, times and ids.
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (value * ONE for value in matrix)
    numbers = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    assert data[start : start + 4] == np.array([ONE], ">i4").tobytes()
    path = tmp_path / "turned.mp4"
    path.write_bytes(data[:start] + numbers + data[start + 36 :])
    expected = shown(read_file(plain, range).frames[0])
    np.testing.assert_array_equal(read_file(path, range).frames[0], expected)
    streamed = next(iter(video_frames(str(path), probe(str(path), Limits()))))
    np.testing.assert_array_equal(streamed.rgb, expected)


@pytest.mark.parametrize(
    ("aspect", "width"),
    [((1, 2), 32), ((2, 1), 128), ((12, 11), 70), ((101, 100), 64)],
)
def test_pixels_become_square(tmp_path: Path, aspect: tuple[int, int], width: int) -> None:
    path = encode(tmp_path / "clip.mp4", noise_planes(20, 200), aspect)
    assert read_file(path, range).frames.shape == (3, 48, width, 3)
    small = read_file(path, range, short_side=24).frames
    assert min(small.shape[1:3]) == 24
    assert abs(small.shape[2] / small.shape[1] - width / 48) < 0.05


def test_a_square_on_the_screen_is_square(tmp_path: Path) -> None:
    planes = noise_planes(16, 17)
    # Pixels are twice as high as wide: 16 x 8 of them look square.
    planes[0][20:28, 20:36] = 235
    path = encode(tmp_path / "clip.mp4", planes, (1, 2))
    bright = read_file(path, range).frames[0].mean(axis=-1) > 128
    assert abs(int(bright.any(axis=0).sum()) - int(bright.any(axis=1).sum())) <= 1


def test_a_shape_of_pixels_counts_for_the_limits(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", noise_planes(20, 200), (2, 1))
    with pytest.raises(VideoError, match="128x48 pixels, over the limit of 100"):
        read_file(path, range, limits=Limits(side_px=100))


def test_a_thin_picture_is_refused_before_it_is_scaled(tmp_path: Path) -> None:
    """Scaled to a short side of 224 it would be 14,336 pixels long."""
    path = encode(tmp_path / "thin.mp4", noise_planes(20, 200, (1024, 16)), size=(1024, 16))
    with pytest.raises(VideoError, match="1024x16 pixels, a side over 16 times the other"):
        read_file(path, range)
