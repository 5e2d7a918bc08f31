"""The largest picture is one key: every command that reads videos honours it, or an option of its name."""

from __future__ import annotations

import hashlib
import re
from dataclasses import fields
from pathlib import Path

import pytest

import nightcrawler
from nightcrawler.config.node import get_cfg
from nightcrawler.config.schema import SCHEMA
from nightcrawler.data import build_video
from nightcrawler.data.build_video import build_video_reader, limits_of
from nightcrawler.data.video.decode import read_frames
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.predict.command import Outputs, ResultWriter, predict_set
from nightcrawler.predict.ensemble import Ensemble, plain_recipe
from nightcrawler.predict.items import Windows
from nightcrawler.predict.live_command import predict_live
from nightcrawler.predict.predictor import Predictor
from nightcrawler.predict.sources import find_videos
from nightcrawler.utils import command_line
from nightcrawler.utils.errors import VideoError
from tests import tiny
from tests.conftest import MakeClip
from tests.paths import ROOT
from tests.reading import read_file

# Videos of the data folder have exactly so many.
PIXELS = tiny.WIDTH * tiny.HEIGHT
REFUSED = f"over the limit of {PIXELS - 1} "


@pytest.fixture(scope="session")
def small(models: list[Path]) -> Predictor:
    return nightcrawler.load(models[0], "cpu", max_pixels=PIXELS - 1)


@pytest.fixture(scope="session")
def enough(models: list[Path]) -> Predictor:
    return nightcrawler.load(models[0], "cpu", max_pixels=PIXELS)


def test_the_key_has_the_default_of_the_limits() -> None:
    assert limits_of(get_cfg()) == Limits()
    assert SCHEMA["DATA.MAX_PIXELS"].maximum == Limits().side_px ** 2
    assert Limits().side_px ** 2 == command_line.MAX_PIXELS


@pytest.mark.parametrize(("codec", "form"), [("mpeg4", ""), ("mjpeg", "j")])
def test_a_picture_of_a_large_sensor_is_read_with_the_key(
    make_clip: MakeClip, tmp_path: Path, codec: str, form: str
) -> None:
    """4112x4096 pixels are a little more than the default."""
    path = make_clip(
        tmp_path / "large.mp4", 1, size=(4112, 4096), codec=codec, pix_fmt=f"yuv{form}420p"
    )
    cfg = get_cfg()
    with pytest.raises(
        VideoError, match=r"over the limit of 16777216 .*\(DATA\.MAX_PIXELS, --max-pixels\)"
    ):
        read_frames(build_video_reader(cfg), path, range)
    cfg.DATA.MAX_PIXELS = 4112 * 4096
    cfg.DATA.DECODE_SHORT_SIDE = 64
    assert read_frames(build_video_reader(cfg), path, range).frames.shape == (1, 64, 64, 3)


@pytest.mark.parametrize("decoder", ["pyav", "torchcodec"])
def test_a_reader_of_the_configuration(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoder: str
) -> None:
    video = data / "Test/0.mp4"
    # Refusing needs no decoder, so that torchcodec need not be there.
    monkeypatch.setattr(build_video, "import_decoder", lambda: None)
    cfg = get_cfg()
    cfg.DATA.DECODER = decoder
    cfg.DATA.PATH_PREFIX = str(data)
    # As an absolute path: the data folder is read only.
    sums = tmp_path / "sums.txt"
    sums.write_text(f"{hashlib.sha256(video.read_bytes()).hexdigest()}  Test/0.mp4\n")
    cfg.DATA.CHECKSUMS = str(sums)
    cfg.DATA.MAX_PIXELS = PIXELS - 1
    with pytest.raises(VideoError, match=REFUSED):
        read_frames(build_video_reader(cfg), video, range)
    cfg.DATA.MAX_PIXELS = PIXELS
    cfg.DATA.DECODER = "pyav"
    assert len(read_frames(build_video_reader(cfg), video, range).frames) == tiny.NUM_FRAMES


@pytest.mark.parametrize("window_sec", [None, 0.5])
def test_predictions(
    small: Predictor, enough: Predictor, data: Path, window_sec: float | None
) -> None:
    (row,) = small.predict(data / "Test/0.mp4", window_sec=window_sec)
    assert REFUSED in row.status
    (row,) = enough.predict(data / "Test/0.mp4", window_sec=window_sec)
    assert row.ok


def test_an_ensemble_reads_what_all_its_models_read(small: Predictor, enough: Predictor) -> None:
    assert Ensemble([enough, small], plain_recipe(2)).limits.pixels == PIXELS - 1


def test_a_file_played_as_a_camera(small: Predictor, enough: Predictor, data: Path) -> None:
    for model in (small, enough):
        ensemble = Ensemble([model], plain_recipe(1))
        writer = ResultWriter(ensemble, Outputs(), lambda line: None)
        source = str(data / "Test/0.mp4")
        if model is enough:
            predict_live(ensemble, source, (0.4, 0.2), writer)
        else:
            with pytest.raises(VideoError, match=REFUSED):
                predict_live(ensemble, source, (0.4, 0.2), writer)


def test_annotated_copies(
    enough: Predictor,
    small: Predictor,
    data: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The copy has the limits of the model that it is enhanced for."""
    items = find_videos(data / "Test/0.mp4", 11)
    values = {one.name: getattr(enough, one.name) for one in fields(enough)}
    mixed = type(enough)(**values | {"limits": small.limits})
    ensemble = Ensemble([mixed], plain_recipe(1))
    writer = ResultWriter(ensemble, Outputs(annotate=tmp_path / "shown"), lambda line: None)
    predict_set(ensemble, items, Windows(), writer)
    assert any(REFUSED in line for line in caplog.messages)


def run(tool: str, *argv: object) -> int:
    return command_line.run(tiny.load_tool(tool).main, list(map(str, argv)))


def test_an_audit_looks_again_with_another_limit(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = (data / "Test", "--out", tmp_path / "out", "--jobs", 1, "--max-pixels")
    assert run("check_videos", *argv, PIXELS - 1) == 3
    assert REFUSED in capsys.readouterr().out
    assert run("check_videos", *argv, PIXELS) == 0


def test_a_contact_sheet(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = (data / "Test/0.mp4", "--only", "gamma", "--out", tmp_path / "a.png", "--max-pixels")
    assert run("show_clip", *argv, PIXELS - 1) == 2
    assert REFUSED in capsys.readouterr().err
    assert run("show_clip", *argv, PIXELS) == 0


def test_the_command_line(
    data: Path, models: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = (data / "Test/0.mp4", "--experiment", models[0], "--max-pixels")
    assert run("predict", *argv, PIXELS - 1) == 3
    assert REFUSED in capsys.readouterr().out
    assert run("predict", *argv, PIXELS) == 0
    with pytest.raises(SystemExit):
        run("predict", *argv, 8192 * 8192 + 1)
    assert "expected a whole number from 1 to 67108864" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("a.mp4", "--top", "0"), "--top 0: expected 1 to 1000"),
        (("a.mp4", "--top", "1001"), "--top 1001: expected 1 to 1000"),
        (("merge", "a.csv", "--out", "o", "--top", "1001"), "--top 1001: expected 1 to 1000"),
        (("a.mp4", "--views", "1025", "--crops", "1"), "--views 1025: expected 1 to 1024"),
    ],
)
def test_numbers_that_ask_for_too_much(
    argv: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("predict", *argv)
    assert capsys.readouterr().err.splitlines()[-1].endswith(said)


def test_views_from_python(models: list[Path]) -> None:
    with pytest.raises(ValueError, match="views 1025 and crops 1: expected 1 to 1024"):
        nightcrawler.load(models[0], views=1025, crops=1)


def test_the_limit_is_not_the_size_of_what_is_kept(data: Path) -> None:
    """A short side does not help: a decoder allocates the whole picture."""
    with pytest.raises(VideoError, match=REFUSED):
        read_file(data / "Test/0.mp4", range, short_side=8, limits=Limits(pixels=PIXELS - 1))


def test_no_module_makes_limits_of_its_own() -> None:
    """They come from the configuration or an option; `limits or Limits()` serves callers without any."""
    found = []
    for path in (ROOT / "nightcrawler").rglob("*.py"):
        text = re.sub(r"limits or Limits\(\)", "", path.read_text(encoding="utf-8"))
        for line in text.splitlines():
            if "Limits()" in line and ">>>" not in line:
                found.append((path.name, line.strip()))
    assert sorted(found) == [
        ("limits.py", "return Limits() if max_pixels is None else Limits(pixels=max_pixels)"),
        ("run_folder.py", "found = [Limits().pixels]"),
    ]
