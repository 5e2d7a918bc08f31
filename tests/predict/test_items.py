"""Videos one after the other: whatever is wrong with one costs that one only."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.cli.predict import main
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.predict import items
from nightcrawler.utils.command_line import run
from tests.conftest import MakeClip


def test_a_video_whose_length_raises_any_error_has_none(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for outside of what survives errors, so that one would end all."""
    item = VideoItem("a.mp4", -1, make_clip(tmp_path / "a.mp4", 50, (32, 24)), 1)
    assert items.length_of(item, Limits()) == pytest.approx(2.0)

    def broken(*_: object) -> None:
        raise ValueError("exceeds the limit for integer string conversion")

    monkeypatch.setattr(items, "probe_damaged", broken)
    assert items.length_of(item, Limits()) is None


@pytest.mark.parametrize("stride", ["0", "-1", "9"])
def test_a_stride_that_does_not_fit_long_videos_is_refused(
    stride: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").touch()
    assert run(main, [str(tmp_path / "a.mp4"), "--stride-sec", stride]) == 2
    assert f"window_sec 4 and stride_sec {stride}: expected" in capsys.readouterr().err
