"""Events of the command: of files, of a folder that is watched, of a live source; where lines go."""

from __future__ import annotations

import datetime
import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.cli import predict as command_module
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.convert import EXACT
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.predict.model_input import FrameSpan
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.predict.watch_folder import new_videos
from nightcrawler.utils.command_line import run
from tests.conftest import MakeClip
from tests.predict.events.test_webhook import hook

NAMES = ("Stand", "Run")


class Runner:
    """Runs from second 1 on, and for all of a video that is seen as a whole."""

    class_names = NAMES
    model_names = ("m",)
    short_side = 0
    color = EXACT
    limits = Limits()
    predictors: tuple[Any, ...] = ()

    def about(self) -> dict[str, Any]:
        return {"models": [], "class_names": list(NAMES), "labels": "", "mixture": {}}

    def _result(self, item: VideoItem, run: float) -> VideoResult:
        probs = (1 - run, run)
        label = int(run > 0.5)
        return VideoResult(item.name, -1, "sure", NAMES, label, probs, probs, 1, (label,))

    def videos(self, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
        for item in items:
            yield self._result(item, 0.9)

    def frames(self, item: VideoItem, span: FrameSpan) -> VideoResult:
        return self._result(item, 0.9 if span.start_sec >= 1 else 0.2)


@pytest.fixture(autouse=True)
def fake_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_module, "build_models", lambda arguments: (Runner(), "a note"))


def predict(*argv: object) -> int:
    return run(command_module.main, [str(one) for one in argv])


def events_of(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """The lines of standard output, each a JSON object."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_files_and_lines(
    make_clip: MakeClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = make_clip(tmp_path / "a.mp4", 50, (32, 24))
    (tmp_path / "b.mp4").write_bytes(b"no video")
    lines = tmp_path / "o.jsonl"
    assert predict(whole, tmp_path / "b.mp4", "--events", "--jsonl", lines) == 0
    shown = capsys.readouterr()
    [event] = [json.loads(line) for line in shown.out.splitlines() if "a.mp4" in line]
    assert (event["event"], event["source"], event["class"]) == ("ended", "a.mp4", "Run")
    assert (event["start_sec"], event["end_sec"], event["start_time"]) == (0, 2, None)
    assert event["probability"] == pytest.approx(0.9)
    assert "a.mp4  Run 0.900" in shown.err, "the table goes elsewhere"
    assert [json.loads(line)["video"] for line in lines.read_text().splitlines()]


def test_windows_of_a_file(
    make_clip: MakeClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_clip(tmp_path / "a.mp4", 100, (32, 24))
    more = ("--window-sec", 1, "--stride-sec", 1, "--event-class", "Run", "--event-min-sec", 2)
    assert predict(path, "--events", *more) == 0
    [event] = events_of(capsys)
    assert (event["start_sec"], event["end_sec"]) == (1, 4)
    assert predict(path, "--events", *more[:-1], 3.5) == 0
    assert events_of(capsys) == []


def test_a_live_source_has_a_start_an_end_and_a_clock(
    make_clip: MakeClip, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = make_clip(tmp_path / "a.mp4", 75, (32, 24))
    before = datetime.datetime.now(datetime.UTC)
    more = ("--window-sec", 0.5, "--event-class", "Run", "--event-min-sec", 0.5)
    with hook() as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        assert predict(path, "--live", "--events", "--webhook", address, *more) == 0
        started, ended = events_of(capsys)
        assert server.taken == [started, ended]
    after = datetime.datetime.now(datetime.UTC)
    assert (started["event"], ended["event"]) == ("started", "ended")
    assert started["end_sec"] is None
    assert 1 <= started["start_sec"] == ended["start_sec"] <= 2
    assert ended["end_sec"] == pytest.approx(3, abs=0.6)
    begun, over = (
        datetime.datetime.fromisoformat(ended[key]) for key in ("start_time", "end_time")
    )
    assert before <= begun < over <= after + datetime.timedelta(seconds=0.1)
    length = ended["end_sec"] - ended["start_sec"]
    assert (over - begun).total_seconds() == pytest.approx(length, abs=0.01)


def test_a_watched_folder(
    make_clip: MakeClip,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "in"
    make_clip(folder / "a.mp4", 50, (32, 24))

    def until_idle(where: Path, done: dict[str, Any]) -> Iterator[VideoItem | None]:
        idle = 0
        for item in new_videos(where, done, quiet_sec=0, poll_sec=0.001):
            yield item
            idle = 0 if item else idle + 1
            if idle > 3:
                raise KeyboardInterrupt

    monkeypatch.setattr("nightcrawler.predict.command.new_videos", until_idle)
    argv = ("--watch", folder, "--events", "--jsonl", tmp_path / "o.jsonl")
    assert predict(*argv) == 0
    assert [event["source"] for event in events_of(capsys)] == ["a.mp4"]
    assert predict(*argv) == 0
    assert events_of(capsys) == [], "those of a file that is done were told"


def test_a_webhook_that_is_away_costs_no_answer(
    make_clip: MakeClip,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("nightcrawler.predict.events.webhook.Patience.close_sec", 0.2)
    path = make_clip(tmp_path / "a.mp4", 50, (32, 24))
    address = "http://127.0.0.1:1/secret-path"
    assert predict(path, "--webhook", address, "--csv", tmp_path / "o.csv") == 0
    assert "Run" in (tmp_path / "o.csv").read_text()
    assert "webhook http://127.0.0.1:1: events that were not delivered: 1" in caplog.messages
    assert "secret-path" not in caplog.text
    assert not [one for one in threading.enumerate() if not one.daemon and "webhook" in one.name]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("--event-start", "0.5"), "--event-start needs --events, --webhook or --mqtt"),
        (("--event-class", "Run"), "--event-class needs --events, --webhook or --mqtt"),
        (("--events", "--out", "o"), "do not go with --out"),
        (("--events", "--event-end", "0.9"), "expected 0.2 <= end <= start <= 1"),
        (("--events", "--event-min-sec", "nan"), "shortest event of nan s: expected 0 or more"),
        (("--events", "--event-class", "Rum"), "did you mean 'Run'?"),
        (("--webhook", "host/secret"), "--webhook: expected an address such as https://host/path"),
        (("--mqtt", "mqtt://me:secret@host"), "--mqtt: expected mqtt://host:port/topic"),
    ],
)
def test_faults_are_one_line(
    make_clip: MakeClip,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    argv: tuple[str, ...],
    said: str,
) -> None:
    path = make_clip(tmp_path / "a.mp4", 5, (32, 24))
    try:
        code = predict(path, *argv)
    except SystemExit as stop:
        code = int(stop.code or 0)
    shown = capsys.readouterr().err
    assert code == 2
    assert said in shown.splitlines()[-1]
    assert "secret" not in shown
