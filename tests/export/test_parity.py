"""Exported graphs answer as the test does, on videos of several sizes, and `--check` says if not."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from nightcrawler.data.lists import VideoItem
from nightcrawler.export import formats, measure
from nightcrawler.export.measure import PYTORCH, TESTED, UNSCALED, as_exported, compare
from nightcrawler.export.runtimes import open_pt2, run_module
from nightcrawler.export.trained import Trained, build_trained
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.predictor import Predictor, build_predictor
from tests.export.made import FAMILIES, write_checkpoint

# Height and width: lying, upright, square, of the crop's size, smaller than it, odd when scaled.
SIZES = ((96, 128), (128, 96), (80, 80), (32, 32), (24, 40), (90, 158))
SHORT_SIDE = 50


def write_video(path: Path, height: int, width: int) -> None:
    """A dark moving texture, whose levels are few, as at night."""
    rng = np.random.default_rng(height * width)
    texture = rng.integers(0, 12, (height // 4 + 8, width // 4 + 8, 3)).repeat(4, 0).repeat(4, 1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=12)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(12):
            noise = rng.integers(0, 6, (height, width, 3))
            moved = texture[number : number + height, number : number + width] * 2
            frame = av.VideoFrame.from_ndarray((moved + noise).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[VideoItem]:
    folder = tmp_path_factory.mktemp("videos")
    items = []
    for number, (height, width) in enumerate(SIZES, start=1):
        path = folder / f"{height}x{width}.mp4"
        write_video(path, height, width)
        items.append(VideoItem(path.name, -1, path, number))
    return items


def opened(folder: Path, short_side: int, *overrides: str) -> tuple[Trained, Predictor]:
    """A small model as a graph, and as testing runs it."""
    path = write_checkpoint(
        folder, FAMILIES[0], "DATA.DECODE_SHORT_SIDE", str(short_side), *overrides
    )
    options = PredictOptions((1, 1), root=folder, device="cpu")
    return build_trained(path, options), build_predictor(path, "tested", None, options)


@pytest.mark.parametrize("short_side", [0, SHORT_SIDE])
def test_answers_are_those_of_the_test(
    short_side: int, videos: list[VideoItem], tmp_path: Path
) -> None:
    trained, tester = opened(tmp_path, short_side)
    program = formats.trace(trained.graph, trained.frame_shape)
    formats.write_pt2(program, tmp_path / "a.pt2", {})
    runs = {PYTORCH: run_module(trained.graph), "pt2": open_pt2(tmp_path / "a.pt2")}
    rows = {row.name: row for row in compare(trained, runs, tester, videos)}
    expected = {"pt2", TESTED} | ({UNSCALED} if short_side else set())
    assert set(rows) == expected
    for name in ("pt2", TESTED):
        assert rows[name].parity.worst <= 2e-6
        assert rows[name].parity.num_same == len(SIZES)
        assert rows[name].is_within
    if short_side:
        # The same pixels but for rounding: FFmpeg scales before it rounds to levels.
        assert 0 < rows[UNSCALED].parity.worst <= 0.05
        assert rows[UNSCALED].parity.num_same >= len(SIZES) - 1


@pytest.mark.parametrize("resize", ["[40]", "[36, 60]"])
def test_clips_are_resized_as_the_test_resizes_them(
    resize: str, videos: list[VideoItem], tmp_path: Path
) -> None:
    trained, tester = opened(tmp_path, 0, "DATA.TEST_RESIZE", resize)
    (row,) = compare(trained, {PYTORCH: run_module(trained.graph)}, tester, videos)
    assert (row.name, row.parity.num_same) == (TESTED, len(SIZES))
    assert row.parity.worst <= 2e-6


def test_a_fixed_size_is_that_of_the_file_whatever_decoding_scales(
    videos: list[VideoItem], tmp_path: Path
) -> None:
    path = write_checkpoint(tmp_path, FAMILIES[0], "DATA.DECODE_SHORT_SIDE", str(SHORT_SIDE))
    options = PredictOptions((1, 1), root=tmp_path, device="cpu")
    trained = build_trained(path, options, (96, 128))
    runs = {PYTORCH: run_module(trained.graph)}
    tester = build_predictor(path, "tested", None, options)
    (row,) = compare(trained, runs, tester, videos[:1])
    assert (row.name, row.parity.num_same) == (UNSCALED, 1)
    assert row.limit == measure.SCALED_TOLERANCE
    text = "a video of 128x96 pixels; the graph takes 96x128: give --frame-size 128x96"
    with pytest.raises(measure.UserError, match=text):
        compare(trained, runs, tester, videos[1:2])


def test_a_graph_in_another_order_is_not_within(videos: list[VideoItem], tmp_path: Path) -> None:
    """Resized before it is lit, as graphs were: the difference that nobody was told of."""
    trained, tester = opened(tmp_path, 0)

    def resized_before(frames: np.ndarray) -> np.ndarray:
        return run_module(trained.graph)(frames[:, :, ::3, ::3])

    rows = compare(trained, {PYTORCH: resized_before}, tester, videos)
    assert [(row.name, row.is_within) for row in rows] == [(TESTED, False)]


def test_half_precision_does_not_hide_or_make_a_difference(
    videos: list[VideoItem], tmp_path: Path
) -> None:
    trained, tester = opened(tmp_path, 0, "MODEL.PRECISION", "bf16")
    runs = {PYTORCH: run_module(trained.graph)}
    (rounded,) = compare(trained, runs, tester, videos[:2])
    (row,) = compare(trained, runs, as_exported(tester), videos[:2])
    assert row.parity.worst <= 2e-6 < rounded.parity.worst
