"""Memory while an hour of video is looked at."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.ensemble import build_ensemble
from nightcrawler.predict.long_video import predict_long_video
from nightcrawler.predict.sliding_windows import Window
from nightcrawler.synthetic.video import write_video

FPS, HOUR_SEC, WINDOW_SEC, STRIDE_SEC = 4, 3600, 20, 10
HEIGHT, WIDTH = 64, 96
STATM = Path("/proc/self/statm")


def resident_mib() -> float:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def hour(path: Path) -> Path:
    """An hour in which the light goes up and down; its frames would take 253 MiB."""
    frame = np.random.default_rng(0).integers(0, 20, (HEIGHT, WIDTH, 3), np.uint8)
    write_video(
        path, (frame + np.uint8(number % 16) for number in range(FPS * HOUR_SEC)), Fraction(FPS)
    )
    return path


@pytest.mark.skipif(not STATM.exists(), reason="needs Linux: reads /proc")
def test_an_hour_takes_no_more_memory_than_minutes(models: list[Path], tmp_path: Path) -> None:
    ensemble = build_ensemble([models[0]], None, Path(), PredictOptions())
    item = VideoItem("hour", -1, hour(tmp_path / "h.mp4"), 1)
    taken = []

    def show(windows: Iterable[Window], total: int) -> Iterator[Window]:
        assert total == HOUR_SEC / STRIDE_SEC - 1
        for window in windows:
            taken.append(resident_mib())
            yield window

    result, _ = predict_long_video(ensemble, item, WINDOW_SEC, STRIDE_SEC, show)
    assert result.segments[-1].end_sec == HOUR_SEC
    first = max(taken[: len(taken) // 12])  # five minutes
    assert max(taken) < 1.05 * first
