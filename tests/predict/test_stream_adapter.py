"""`predict --adapt online`: statistics that follow the windows of each video."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

import nightcrawler
from nightcrawler.cli import main as program
from nightcrawler.data.lists import VideoItem
from nightcrawler.predict.checkpoints import PredictOptions
from nightcrawler.predict.ensemble import build_ensemble
from nightcrawler.predict.model_input import FrameSpan
from nightcrawler.predict.stream_adapter import StreamAdapter
from nightcrawler.synthetic.video import write_video

WINDOW = ("--window-sec", "0.5", "--stride-sec", "0.25")


def write_stream(path: Path, seed: int) -> None:
    """Six seconds of a moving square; after three of them a lamp is switched on."""
    rng = np.random.default_rng(seed)

    def frames() -> Iterator[np.ndarray]:
        wall = rng.integers(20, 60, (40, 48, 3))
        for number in range(72):
            frame = wall // (5 if number < 36 else 1)
            frame[10:20, number % 38 : number % 38 + 10] += 30
            yield frame.astype(np.uint8)

    write_video(path, frames(), 12)


@pytest.fixture
def streams(tmp_path: Path) -> Path:
    folder = tmp_path / "streams"
    folder.mkdir()
    for seed in range(3):
        write_stream(folder / f"{seed}.mp4", seed)
    return folder


def run(*argv: Any) -> int:
    return program.main(["predict", *map(str, argv)])


def test_the_answers_follow_the_stream(
    models: list[Path], streams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {}
    for adapter in ("none", "online"):
        out = tmp_path / f"{adapter}.json"
        assert run(streams, "--model", models[0], *WINDOW, "--adapt", adapter, "--json", out) == 0
        found[adapter] = json.loads(out.read_text())
        assert ("half-life 120 s" in capsys.readouterr().err) == (adapter == "online")
    [model] = found["online"]["about"]["models"]
    assert model["adapter"] == "online"
    assert model["half_life_sec"] == 120.0
    assert "adapter" not in found["none"]["about"]["models"][0]
    assert found["online"]["videos"] != found["none"]["videos"]


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    models: list[Path], streams: Path, tmp_path: Path
) -> None:
    argv = (streams, "--model", models[0], *WINDOW, "--adapt", "online")
    whole, part = tmp_path / "whole.csv", tmp_path / "part.csv"
    assert run(*argv, "--csv", whole) == 0
    # The second of three videos cannot be read, so that its answer is still due.
    shutil.copy(streams / "1.mp4", tmp_path / "kept.mp4")
    (streams / "1.mp4").unlink()
    (streams / "1.mp4").write_bytes(b"no video\n" * 50)
    partial = tmp_path / "part.csv.partial.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        assert run(*argv, "--csv", part) == 3
    assert partial.is_file()
    part.unlink()
    shutil.copy(tmp_path / "kept.mp4", streams / "1.mp4")
    assert run(*argv, "--csv", part) == 0
    assert part.read_bytes() == whole.read_bytes()
    assert not partial.exists()


def test_the_python_api_begins_anew_with_each_video(models: list[Path], streams: Path) -> None:
    predictor = nightcrawler.load(models[0], device="cpu", adapt="online")
    together = predictor.predict(streams, window_sec=0.5)
    alone = [predictor.predict(path, window_sec=0.5)[0] for path in sorted(streams.iterdir())]
    again = predictor.predict(sorted(streams.iterdir())[-1], window_sec=0.5)
    assert [one.probs for one in together] == [one.probs for one in alone]
    assert again[0].probs == alone[-1].probs
    plain = nightcrawler.load(models[0], device="cpu")
    assert plain.predict(streams, window_sec=0.5)[0].probs != together[0].probs
    # Whole videos have the statistics of the checkpoint, after streams as before.
    assert plain.predict(streams)[0].probs == predictor.predict(streams)[0].probs
    with pytest.raises(ValueError, match="adapt 'tent': expected one of none, online"):
        nightcrawler.load(models[0], adapt="tent")


def test_a_lamp_begins_anew_and_lost_frames_count_less(models: list[Path], streams: Path) -> None:
    [predictor] = build_ensemble(
        models[:1], None, Path(), PredictOptions((1, 1), adapter="online")
    ).predictors
    adapter = predictor.stream
    assert isinstance(adapter, StreamAdapter)
    with av.open(str(streams / "0.mp4")) as container:
        frames = [one.to_ndarray(format="rgb24") for one in container.decode(video=0)]
    item = VideoItem("camera", -1, Path("camera"), 1)
    seconds = []
    for start in range(0, 72, 6):
        span = FrameSpan(frames[start : start + 6], 1.2, None, start / 1.2, start / 1.2 + 5.0)
        predictor.frame_predictions(item, span)
        seconds.append(adapter.statistics.seconds)
    assert adapter.num_changes == 1
    assert seconds[1] == pytest.approx(5.0 * 0.5 ** (5 / 120) + 5.0)
    # The first lit window is waited for, the second begins anew.
    assert seconds[6] == seconds[5]
    assert seconds[7] == 5.0
    later = FrameSpan(frames[-6:], 1.2, None, 90.0, 95.0)
    predictor.frame_predictions(item, later)
    fading = 0.5 ** (35 / 120)
    assert adapter.statistics.seconds == pytest.approx(seconds[-1] * fading + 5.0)


def test_models_that_cannot_follow_say_so(
    streams: Path, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    found = []
    for adapter in ("none", "online"):
        out = tmp_path / f"{adapter}.csv"
        argv = ("--model", "demo/mvit_b32_k600", "--window-sec", "2", "--adapt", adapter)
        assert run(streams / "0.mp4", *argv, "--csv", out) == 0
        found.append(out.read_text())
        said = "mvit_b32_k600: online: MViT has no BatchNorm layer" in caplog.text
        assert said == (adapter == "online")
    assert found[0] == found[1]


def test_whole_videos_are_refused(
    models: list[Path], streams: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for more in (("--whole",), ("--out", tmp_path / "o")):
        with pytest.raises(SystemExit):
            run(streams, "--model", models[0], "--adapt", "online", *more)
        assert "--adapt online follows windows" in capsys.readouterr().err
    out = tmp_path / "o"
    assert run(streams, "--model", models[0], *WINDOW, "--adapt", "online", "--out", out) == 0


def test_short_videos_are_said_to_stay_as_they_are(
    models: list[Path], streams: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(streams / "0.mp4", "--model", models[0], "--adapt", "online") == 0
    assert "videos of up to 12 s are predicted whole" in capsys.readouterr().err
