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


def test_only_damaged_videos_with_sound_frames_have_a_readable_part(
    make_clip: MakeClip, tmp_path: Path
) -> None:
    whole = make_clip(tmp_path / "whole.mp4", 50, (32, 24), container={"movflags": "faststart"})
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[:-200])
    (tmp_path / "text.mp4").write_text("no video")
    found = {}
    for name in ("whole.mp4", "cut.mp4", "text.mp4", "gone.mp4"):
        item = VideoItem(name, -1, tmp_path / name, 1)
        found[name] = items.has_readable_part(item, Limits())
    assert found == {"whole.mp4": False, "cut.mp4": True, "text.mp4": False, "gone.mp4": False}


def test_the_table_says_how_to_get_an_answer_of_a_damaged_video(
    make_clip: MakeClip, models: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = make_clip(tmp_path / "whole.mp4", 50, (64, 48), container={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:-200])
    argv = ["--experiment", str(models[0])]
    assert run(main, [str(cut), str(whole), *argv]) == 3
    shown = capsys.readouterr().out
    assert "cut short: the file ends within its element" in shown
    assert shown.splitlines()[-1].endswith("--window-sec S answers by what can be read")
    assert run(main, [str(cut), *argv, "--window-sec", "1"]) == 3
    shown = capsys.readouterr().out
    assert "damaged: " in shown
    assert "answers by what can be read" not in shown
    assert run(main, [str(whole), *argv]) == 0
    assert "answers by what can be read" not in capsys.readouterr().out


@pytest.mark.parametrize("stride", ["0", "-1", "9"])
def test_a_stride_that_does_not_fit_long_videos_is_refused(
    stride: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.mp4").touch()
    assert run(main, [str(tmp_path / "a.mp4"), "--stride-sec", stride]) == 2
    assert f"--window-sec 4 and --stride-sec {stride}: expected" in capsys.readouterr().err
