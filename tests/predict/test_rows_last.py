"""Rows of predictions outlive closed pipes, kills, odd names, and videos that change."""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import nightcrawler
from nightcrawler.cli.predict import main as predict_main
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.integrity.limits import Limits
from nightcrawler.predict import command
from nightcrawler.predict.items import Windows
from nightcrawler.predict.merge import merge
from nightcrawler.predict.rows_so_far import RowsSoFar
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.predict.watch_folder import new_videos, read_done
from nightcrawler.prepare.sources import read_videos
from nightcrawler.pseudo.predictions import read_results
from nightcrawler.utils.command_line import escape_controls, run
from nightcrawler.utils.errors import UserError, VideoError, mask_credentials


class FakeEnsemble:
    """Answers every video by its first class, and raises the error of a name that has one."""

    class_names = ("Run", "Walk")
    model_names = ("m",)
    limits = Limits()
    predictors: tuple[Any, ...] = ()

    def __init__(self, errors: dict[str, BaseException] | None = None) -> None:
        self.errors = errors or {}
        self.asked: list[str] = []

    def about(self) -> dict[str, Any]:
        return {"models": [], "class_names": list(self.class_names), "labels": "", "mixture": {}}

    def videos(self, items: Sequence[VideoItem]) -> Iterator[VideoResult]:
        for item in items:
            self.asked.append(item.name)
            if item.name in self.errors:
                raise self.errors[item.name]
            yield VideoResult(item.name, -1, "ok", self.class_names, 0, (0.9, 0.1), (1.0, 0.0))


def _items(*names: str) -> list[VideoItem]:
    return [VideoItem(name, -1, Path(name), 1) for name in names]


def _predict(
    tmp_path: Path, errors: dict[str, BaseException], echo: command.Echo = print
) -> command.ResultWriter:
    ensemble: Any = FakeEnsemble(errors)
    writer = command.ResultWriter(ensemble, command.Outputs(csv=tmp_path / "o.csv"), echo)
    command.predict_set(ensemble, _items("a.mp4", "b.mp4", "c.mp4"), Windows(), writer)
    return writer


def test_a_closed_pipe_loses_no_row(tmp_path: Path) -> None:
    def closed(_: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        _predict(tmp_path, {}, closed)
    assert len((tmp_path / "o.csv").read_text().splitlines()) == 4
    assert os.listdir(tmp_path) == ["o.csv"]


def test_names_that_are_formulas_are_text_in_tables(tmp_path: Path) -> None:
    """Of whole sets and of shards; JSON has the names themselves."""
    ensemble: Any = FakeEnsemble({"@b.mp4": RuntimeError("=1")})
    items = _items("=a.mp4", "@b.mp4", "c.mp4")
    outputs = command.Outputs(csv=tmp_path / "o.csv", json=tmp_path / "o.json")
    writer = command.ResultWriter(ensemble, outputs, lambda _: None)
    command.predict_set(ensemble, items, Windows(), writer)
    command.predict_shard(ensemble, items, tmp_path / "out", (0, 1), Windows(), lambda _: None)
    files = merge(tmp_path / "out", items, 5).files
    for path in (tmp_path / "o.csv", files[0]):
        names = [line.split(",")[0] for line in path.read_text().splitlines()]
        assert names == ["video", "'=a.mp4", "'@b.mp4", "c.mp4"]
    videos = json.loads((tmp_path / "o.json").read_text())["videos"]
    assert [one["video"] for one in videos] == read_results(files[1]).names
    assert videos[0]["video"] == "=a.mp4"


@pytest.mark.parametrize("error", [RuntimeError("20 GB"), MemoryError(), OSError(28, "full")])
def test_an_error_of_one_video_costs_that_video_only(tmp_path: Path, error: Exception) -> None:
    writer = _predict(tmp_path, {"b.mp4": error})
    rows = (tmp_path / "o.csv").read_text().splitlines()
    assert writer.num_bad == 1
    assert [row.split(",")[1][:5] for row in rows[1:]] == ["ok", "error", "ok"]
    assert type(error).__name__ in rows[2]


def test_a_fault_of_the_models_is_no_fault_of_a_video(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no weights"):
        _predict(tmp_path, {"a.mp4": UserError("no weights")})


def test_a_stopped_run_leaves_the_rows_so_far(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _predict(tmp_path, {"c.mp4": KeyboardInterrupt()})
    lines = (tmp_path / "o.csv.partial.jsonl").read_text().splitlines()
    assert [json.loads(line)["video"] for line in lines] == ["a.mp4", "b.mp4"]


def test_a_stopped_run_is_taken_up_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whole answers are kept; errors, changed videos and half a line are due again."""
    names = ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "e.mp4"]
    items = [VideoItem(name, -1, tmp_path / name, 1) for name in names]
    for item in items:
        item.path.write_bytes(b"video")
    outputs = command.Outputs(csv=tmp_path / "o.csv", jsonl=tmp_path / "o.jsonl")

    def run_on(errors: dict[str, BaseException], windows: Windows) -> tuple[list[str], list[str]]:
        ensemble: Any = FakeEnsemble(errors)
        shown: list[str] = []
        writer = command.ResultWriter(ensemble, outputs, shown.append)
        command.predict_set(ensemble, items, windows, writer)
        return ensemble.asked, [line.split()[0] for line in shown]

    partial = tmp_path / "o.csv.partial.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run_on({"b.mp4": RuntimeError("x"), "e.mp4": KeyboardInterrupt()}, Windows())
    other = '{"video": "a.mp4", "run": "of other models", "row": {}}\n'
    partial.write_text(other + partial.read_text() + '{"video": "e.m')
    (tmp_path / "c.mp4").write_bytes(b"another")
    with pytest.raises(KeyboardInterrupt):
        run_on({"c.mp4": KeyboardInterrupt()}, Windows())
    asked, shown = run_on({}, Windows())
    assert asked == ["c.mp4", "e.mp4"]
    assert shown == names
    assert f"{partial}: 3 of 5 videos were predicted before" in caplog.messages
    rows = (tmp_path / "o.csv").read_text().splitlines()
    assert [row.split(",")[:2] for row in rows[1:]] == [[name, "ok"] for name in names]
    found = [json.loads(line)["video"] for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert found == ["a.mp4", "b.mp4", "c.mp4", "d.mp4", "b.mp4", "c.mp4", "e.mp4"]
    assert partial.read_text() == other, "answers of other models are left"
    assert run_on({}, Windows())[0] == names, "a finished run is not taken up"


def test_passing_failures_and_replaced_videos_are_due_again(tmp_path: Path) -> None:
    video = tmp_path / "1.mp4"
    items = [VideoItem("1.mp4", -1, video, 1)]

    def asked(status: str = "") -> list[str]:
        """Run a shard whose videos get this status, and return the videos that it predicts."""
        ensemble: Any = FakeEnsemble({"1.mp4": VideoError(video, "gone", "open")} if status else {})
        command.predict_shard(ensemble, items, tmp_path / "p", (0, 1), Windows(), print)
        return ensemble.asked

    assert asked("cannot be opened") == ["1.mp4"]
    video.write_bytes(b"one")
    assert asked() == ["1.mp4"]
    assert asked() == []
    video.write_bytes(b"another")
    assert asked() == ["1.mp4"]
    video.unlink()
    assert asked() == [], "an answer outlives its file"


def test_a_watched_file_that_changes_is_taken_again(tmp_path: Path) -> None:
    (tmp_path / "cam.mp4").write_bytes(b"half")
    seen = new_videos(tmp_path, quiet_sec=0, poll_sec=0.001)
    assert any(itertools.islice(seen, 4))
    assert not any(itertools.islice(seen, 4))
    (tmp_path / "cam.mp4").write_bytes(b"the whole of it")
    assert any(itertools.islice(seen, 4))


def test_rows_of_errors_are_not_done(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    rows: list[Any] = [
        {"video": "a", "status": "ok", "size": 3, "mtime_ns": 5},
        {"video": "b", "status": "error: x (decode)"},
        {"video": "c\u2028d", "status": "ok"},
        [1],
    ]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    assert read_done(path, "1") == {"a": (3, 5), "c\u2028d": None}


def test_names_that_are_no_utf8_are_escaped(tmp_path: Path) -> None:
    try:
        (tmp_path / "caf\udce9.mp4").write_bytes(b"x")
    except OSError:
        pytest.skip("the file system takes UTF-8 names only")
    (item,) = read_videos(tmp_path, 0)
    assert item.name == "caf\\xe9.mp4"
    assert item.path.read_bytes() == b"x"


def test_what_a_terminal_cannot_show_is_an_escape(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert run(lambda _: print("Straße \udce9"), []) == 0
    assert raw.getvalue() == b"Stra\\xdfe \\udce9\n"
    monkeypatch.setattr(sys, "stdout", None)
    assert run(lambda _: print("nowhere"), []) == 0
    assert escape_controls("\x1b]0;t\x07\n") == r"\x1b]0;t\x07\n"


@pytest.mark.parametrize(
    "address",
    [
        "rtsp://admin:secret@10.0.0.2:1/stream",
        "rtsp:/admin:secret@10.0.0.2/stream",
        "http://u:se@secret@host/x",
        "rtsp://10.0.0.2/user=a&password=secret&channel=1",
        "rtsp://10.0.0.2/live?pwd=secret",
    ],
)
def test_passwords_of_cameras_are_masked(
    address: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(_: Sequence[str]) -> None:
        raise UserError(f"{address}: lost")

    assert run(fail, []) == 2
    assert "secret" not in capsys.readouterr().err
    assert "secret" not in str(VideoError(address, f"no answer of {address}", "open"))
    assert "10.0.0.2" in mask_credentials(address) or "host" in mask_credentials(address)
    assert mask_credentials("a@b=c.mp4") == "a@b=c.mp4"


def test_files_beside_videos_get_no_rows(tmp_path: Path) -> None:
    for name in ("a.mp4", "notes.pdf", "scan.PDF", "half.mp4.part", "b.unusual"):
        (tmp_path / name).write_bytes(b"x")
    assert [item.name for item in read_videos(tmp_path, 0)] == ["a.mp4", "b.unusual"]


@pytest.mark.parametrize("path", [None, 3, ""])
def test_no_path_is_a_plain_error(path: Any) -> None:
    with pytest.raises(UserError, match="expected the path"):
        nightcrawler.load(path)
    if path != "":
        with pytest.raises(UserError, match="expected the path"):
            nightcrawler.read_results(path)


def test_an_output_that_is_the_video_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = tmp_path / "night.mp4"
    video.write_bytes(b"video")
    for option in ("--csv", "--json", "--jsonl"):
        assert run(predict_main, [str(video), option, str(video)]) == 2
        assert "is a file to read" in capsys.readouterr().err
    assert video.read_bytes() == b"video"


@pytest.mark.parametrize("row", ["abc", 5, [], {"name": ["x"]}, {"name": "x"}])
def test_damaged_rows_are_predicted_again(tmp_path: Path, row: Any) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"run": "r", "row": row}) + "\n")
    assert RowsSoFar(path, "r", ("Run",)).read([]) == {}
