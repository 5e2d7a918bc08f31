"""Annotated copies never replace a source, and never become one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.data.lists import VideoItem
from nightcrawler.predict import command
from nightcrawler.predict.annotate import draw, refuse_copies_among_sources, target_path
from nightcrawler.predict.items import Windows
from nightcrawler.predict.sliding_windows import ScoredSpan
from nightcrawler.predict.sources import find_videos
from nightcrawler.utils.errors import UserError
from tests.predict.test_ensemble import ensemble_of


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    folder = tmp_path / "clips"
    (folder / "b").mkdir(parents=True)
    for name in ("a.mp4", "a.mp4.annotated.mp4", "b/c.mp4"):
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("below", ["", "shown", "b"])
def test_a_folder_inside_the_sources_is_refused(clips: Path, below: str) -> None:
    with pytest.raises(UserError, match="would be taken for videos the next time"):
        refuse_copies_among_sources(clips / below, clips, find_videos(clips, 3))


def test_a_link_to_the_sources_is_refused(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "shown").symlink_to(clips)
    with pytest.raises(UserError, match="would be taken for videos"):
        refuse_copies_among_sources(tmp_path / "shown", clips, find_videos(clips, 3))


def test_a_source_of_a_list_is_not_replaced(clips: Path) -> None:
    (clips / "list.txt").write_text("a.mp4\na.mp4.annotated.mp4\n")
    items = find_videos(clips / "list.txt", 3)
    with pytest.raises(UserError, match=r"copy of 'a\.mp4' would replace the source"):
        refuse_copies_among_sources(clips, clips / "list.txt", items)


def test_other_folders_and_single_files_are_fine(clips: Path, tmp_path: Path) -> None:
    refuse_copies_among_sources(tmp_path / "shown", clips, find_videos(clips, 3))
    refuse_copies_among_sources(clips, clips / "b/c.mp4", find_videos(clips / "b/c.mp4", 3))
    assert target_path(clips, VideoItem("../x", -1, Path(), 1).name).parent == clips


def test_copies_among_the_recordings_are_refused(clips: Path, tmp_path: Path) -> None:
    """`predict night/a.mp4 --annotate night` is refused, and a link to that folder, too."""
    source = clips / "b/c.mp4"
    (tmp_path / "link").symlink_to(clips / "b")
    for folder in (clips / "b", tmp_path / "link"):
        with pytest.raises(UserError, match=r"copy of 'c\.mp4' would lie among the recordings"):
            refuse_copies_among_sources(folder, source, find_videos(source, 3))
    refuse_copies_among_sources(clips / "b/shown", source, find_videos(source, 3))


def test_a_copy_that_cannot_be_written_costs_no_answer(
    data: Path, models: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ensemble = ensemble_of(models[0])
    blocked = tmp_path / "shown"
    blocked.touch()  # a file in the place of the folder, as root may write everywhere
    outputs = command.Outputs(json=tmp_path / "o.json", annotate=blocked)
    writer = command.ResultWriter(ensemble, outputs, lambda _: None)
    command.predict_set(ensemble, find_videos(data / "Test", 3), Windows(), writer)
    found = json.loads((tmp_path / "o.json").read_text())
    assert all(video["top"] and "error" not in video["status"] for video in found["videos"])
    assert writer.num_bad == 3
    lines = [one.getMessage() for one in caplog.records if one.levelname == "WARNING"]
    assert [line.split(":")[0] for line in lines] == ["0.mp4", "1.mp4", "2.mp4"]
    assert all("predicted, but" in line and "is not written" in line for line in lines)


def test_models_have_the_names_of_their_votes(
    data: Path, models: list[Path], tmp_path: Path
) -> None:
    ensemble = ensemble_of(*models)
    writer = command.ResultWriter(ensemble, command.Outputs(json=tmp_path / "o.json"), print)
    command.predict_set(ensemble, find_videos(data / "Test", 3), Windows(), writer)
    found = json.loads((tmp_path / "o.json").read_text())
    names = [model["name"] for model in found["about"]["models"]]
    assert names == found["about"]["mixture"]["models"] == ["seed1", "seed2"]
    assert all(list(video["models"]) == names for video in found["videos"])


@pytest.mark.parametrize("size", [(240, 320), (568, 320), (91, 43), (720, 1281)])
def test_names_and_bars_are_below_the_picture(size: tuple[int, int]) -> None:
    """Nobody's feet are covered, all frames have one size, and long names stay beside their bar."""
    height, width = size
    rgb = np.random.default_rng(0).integers(100, 256, (height, width, 3), np.uint8)
    names = ["Run", "Пробежка по лесу ночью без фонаря", "playing american football in the dark"]
    shown = []
    for top in ((), ((0, 0.9),), ((2, 0.6), (1, 0.3), (0, 0.1), (1, 0.0))):
        shown.append(draw(rgb, ScoredSpan(0.0, 1.0, top), names))
    assert len({picture.shape for picture in shown}) == 1
    assert not any(side % 2 for side in shown[0].shape[:2])
    scale = max(320 // width, 1)
    lower = height * scale // 2 * 2
    for picture in shown:
        np.testing.assert_array_equal(picture[:lower], shown[0][:lower])
        assert picture[:lower].min() >= 60, "the picture itself, whose edges may be resized sharper"
    panel = shown[2][lower:].astype(int)
    middle = panel.shape[1] // 2
    assert panel[:, : middle - 6].max() == 255, "the names"
    assert panel[:, middle - 5 : middle].max() == 16, "and a margin between them and the bars"
    assert 16 < panel.shape[0] < 0.3 * lower


def test_two_copies_of_one_name_are_refused(tmp_path: Path) -> None:
    """Names are paths of a list, whose `..` does not lead out of the folder of copies."""
    (tmp_path / "s").mkdir()
    source = tmp_path / "s/l.txt"
    source.write_text("n.mp4\n../n.mp4\n")
    with pytest.raises(UserError, match=r"'n\.mp4' \(row 1\) and '\.\./n\.mp4' \(row 2\)"):
        refuse_copies_among_sources(tmp_path / "shown", source, find_videos(source, 3))


def test_a_name_that_no_file_can_have_costs_no_other_copy(tmp_path: Path) -> None:
    source = tmp_path / "l.txt"
    source.write_text("a\0b.mp4\nn.mp4\n")
    refuse_copies_among_sources(tmp_path / "shown", source, find_videos(source, 3))
