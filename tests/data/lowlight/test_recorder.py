"""Recordings of bright videos: whole videos are darkened and compressed, by their names alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nightcrawler.data.cache import CachedReader, RamCache
from nightcrawler.data.dataset import sample_rng
from nightcrawler.data.lowlight.camera import (
    PART_FRAMES,
    PRESETS,
    darken,
    darken_video,
    sample_camera,
)
from nightcrawler.data.lowlight.compression import Compression, compress
from nightcrawler.data.lowlight.recorder import SEED, RecordedReader
from nightcrawler.data.video.decode import FileReader, VideoReader, read_frames
from tests.data.lowlight.test_camera import street
from tests.reading import read_file
from tests.tiny import write_video

COMPRESSION = Compression(crf=24.0)
CAMERAS = PRESETS["darker"]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright video of 12 frames, 40x48."""
    path = tmp_path_factory.mktemp("bright") / "clip.mp4"
    write_video(path, label=1, seed=0, dark=False)
    return path


def reader_of(path: Path, name: str, short_side: int = 0) -> RecordedReader:
    return RecordedReader(FileReader(), CAMERAS, COMPRESSION, {str(path): name}, short_side)


def taken(reader: VideoReader, path: Path, indices: list[int]) -> np.ndarray:
    return read_frames(reader, path, lambda num_frames: indices).frames


@pytest.mark.parametrize("short_side", [0, 20])
def test_the_whole_video_is_recorded(path: Path, short_side: int) -> None:
    """Written out by hand, and frames are those of the recording, whichever are asked for."""
    bright = read_file(path, lambda num_frames: list(range(num_frames))).frames
    rng = sample_rng(SEED, 0, "a/clip.mp4")
    dark = darken(bright, sample_camera(rng, CAMERAS), rng)
    wanted, _ = compress(dark, COMPRESSION, short_side)
    reader = reader_of(path, "a/clip.mp4", short_side)
    for indices in ([3], [0, 5, 11], list(range(12))):
        np.testing.assert_array_equal(taken(reader, path, indices), wanted[indices])


def test_names_tell_videos_apart_in_a_cache(path: Path) -> None:
    """One content under two names is recorded by two cameras, cached or not."""
    cache = RamCache(1 << 24)
    found = []
    for name in ("a.mp4", "b.mp4"):
        plain = reader_of(path, name)
        cached = CachedReader(plain, cache, {}, plain.names)
        for _ in range(2):
            np.testing.assert_array_equal(taken(cached, path, [2, 7]), taken(plain, path, [2, 7]))
        found.append(taken(plain, path, [2, 7]))
    assert (found[0] != found[1]).any()


def test_a_video_is_darkened_in_parts_as_in_one() -> None:
    camera = sample_camera(np.random.default_rng(1), CAMERAS)
    short = street(0, PART_FRAMES)
    whole = darken(short, camera, np.random.default_rng(2))
    np.testing.assert_array_equal(darken_video(short, camera, np.random.default_rng(2)), whole)
    # A scene that stays as it is has the brightness of any of its frames.
    still = np.repeat(street(0, 1), 2 * PART_FRAMES + 5, axis=0)
    whole = darken(still, camera, np.random.default_rng(3)).astype(int)
    parts = darken_video(still, camera, np.random.default_rng(3)).astype(int)
    # But for the rounding of a sum of float32.
    assert abs(parts - whole).max() <= 1
    assert (parts != whole).mean() < 1e-3
