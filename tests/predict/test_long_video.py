"""Videos by windows: one class of the whole, in every output."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.cli import serve
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.convert import EXACT
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.predict.items import LONG_WINDOW
from nightcrawler.predict.long_video import longest_class, predict_long_video
from nightcrawler.predict.model_input import FrameSpan
from nightcrawler.predict.sliding_windows import Segment
from nightcrawler.predict.video_result import VideoResult, csv_rows, table_lines, to_record
from tests.conftest import MakeClip

NAMES = ("Stand", "Run", "Sit")


class ByTime:
    """Stands for four of six seconds with little certainty, then runs for two with much."""

    class_names = NAMES
    short_side = 0
    color = EXACT
    limits = Limits()

    def videos(self, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
        raise NotImplementedError

    def frames(self, item: VideoItem, span: FrameSpan) -> VideoResult:
        probs = (0.4, 0.35, 0.25) if span.start_sec < 4 else (0.02, 0.95, 0.03)
        label = probs.index(max(probs))
        status = "unsure" if span.start_sec < 4 else "sure"
        return VideoResult(item.name, -1, status, NAMES, label, probs, probs, 1, (label,))


def test_the_longest_class_is_first_in_every_output(make_clip: MakeClip, tmp_path: Path) -> None:
    path = make_clip(tmp_path / "long.mp4", 150, (32, 24))
    result, _ = predict_long_video(ByTime(), VideoItem("long.mp4", -1, path, 1), 1.0, 1.0)
    # By hand: (4 * 0.35 + 2 * 0.95) / 6 = 0.55 is the greater mean, 4 of 6 s the longer time.
    assert result.probs == pytest.approx((0.82 / 3, 0.55, 0.53 / 3))
    first = next(table_lines(result, 3))
    assert first == "long.mp4  Stand 67 %, Run 33 % of 0:00:06.0  unsure"
    _, row = csv_rows([result], 3)
    assert row[2::2] == ["Stand", "Run", "Sit"]
    record: dict[str, Any] = to_record(result, 3)
    assert [one["class"] for one in record["top"]] == ["Stand", "Run", "Sit"]
    assert result.classes[0] == "Stand"
    # The status is that of the class.
    assert [entry.status for entry in result.timeline] == ["unsure", "sure"]


def test_of_two_that_last_equally_the_more_probable_is_taken() -> None:
    segments = [Segment(0.0, 0.3, 0, 0.5), Segment(0.3, 0.6, 1, 0.9)]
    assert longest_class(segments, (0.3, 0.6, 0.1)) == 1
    assert longest_class(segments, (0.6, 0.3, 0.1)) == 0


def test_the_page_has_the_windows_of_the_command() -> None:
    assert (serve.parse([]).window_sec, serve.parse([]).window_sec / 2) == LONG_WINDOW
