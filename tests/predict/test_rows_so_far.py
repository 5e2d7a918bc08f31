"""The file of the answers so far: whatever else is there is neither read, nor changed, nor removed."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from nightcrawler.cli.predict import main
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.video.remote import video_state
from nightcrawler.predict.rows_so_far import RowsSoFar
from nightcrawler.predict.video_result import VideoResult
from nightcrawler.utils.command_line import run
from nightcrawler.utils.errors import UserError

NAMES = ("Run", "Walk")
RESULT = VideoResult("a.mp4", -1, "ok", NAMES, 0, (0.9, 0.1), (1.0, 0.0))
RECORD = {"video": "a.mp4"}
OTHER = '{"video": "b.mp4", "run": "other", "row": {}}\n'


@pytest.mark.parametrize(
    "text",
    [
        "my own precious notes\nline two\n",
        "notes",
        '{\n "video": 1\n}\n',
        '{"video": "a.mp4", "top": []}\n',
        f"{OTHER}[1]\n",
        f"{OTHER}notes without an end",
    ],
)
def test_a_foreign_file_is_refused_and_left(tmp_path: Path, text: str) -> None:
    path = tmp_path / "o.csv.partial.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match=f"{path}: line . is no answer of a prediction"):
        RowsSoFar(path, "r", NAMES)
    assert path.read_text() == text


def test_a_link_and_a_pipe_are_refused(tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text(OTHER)
    os.symlink(victim, tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(UserError, match="is a link or no regular file"):
            RowsSoFar(tmp_path / name, "r", NAMES)
    assert victim.read_text() == OTHER


def test_a_link_that_appears_later_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine\n")
    rows = RowsSoFar(tmp_path / "link", "r", NAMES)
    os.symlink(victim, tmp_path / "link")
    with pytest.raises(UserError, match="symbolic link"):
        rows.add(RESULT, RECORD, None)
    assert victim.read_text() == "mine\n"


def test_only_lines_of_the_run_are_removed(tmp_path: Path) -> None:
    """Blank and incomplete lines go with them; a line that came meanwhile stays, byte for byte."""
    path = tmp_path / "rows.jsonl"
    path.write_text(OTHER + "\n" + '{"video": "c.m')
    rows = RowsSoFar(path, "r", NAMES)
    assert rows.read([]) == {}
    rows.add(RESULT, RECORD, None)
    again = RowsSoFar(path, "r", NAMES)
    with open(path, "ab") as file:
        file.write(b"a note \xff\n")
    again.finish()
    assert path.read_bytes() == OTHER.encode() + b"a note \xff\n"


def test_a_file_of_this_run_alone_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = RowsSoFar(path, "r", NAMES)
    rows.add(RESULT, RECORD, None)
    assert json.loads(path.read_text())["run"] == "r"
    rows.finish()
    assert not path.exists()


def test_answers_of_archives_and_addresses_are_taken_up(tmp_path: Path) -> None:
    archive = tmp_path / "clips.tar"
    archive.write_bytes(b"first")
    path = tmp_path / "rows.jsonl"
    member = VideoItem("a.mp4", -1, Path(f"{archive}::a.mp4"), 1)
    distant = VideoItem("b.mp4", -1, Path("s3:/night/b.mp4"), 2)
    gone = VideoItem("c.mp4", -1, tmp_path / "c.mp4", 3)
    items = [member, distant, gone]
    rows = RowsSoFar(path, "r", NAMES)
    for item in items:
        result = dataclasses.replace(RESULT, name=item.name)
        rows.add(result, {"video": item.name}, video_state(item.path))
    assert list(RowsSoFar(path, "r", NAMES).read(items)) == ["a.mp4", "b.mp4"]
    archive.write_bytes(b"another")
    assert list(RowsSoFar(path, "r", NAMES).read(items)) == ["b.mp4"]


def test_the_command_refuses_it_before_any_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def loaded(_: object) -> None:
        raise AssertionError("models are loaded")

    monkeypatch.setattr("nightcrawler.cli.predict.build_models", loaded)
    video = tmp_path / "n.mp4"
    video.write_bytes(b"video")
    table = tmp_path / "a.csv"
    notes = tmp_path / "a.csv.partial.jsonl"
    assert run(main, [str(video), "--csv", str(table), "--json", str(notes)]) == 2
    assert f"{notes}: is named for two outputs" in capsys.readouterr().err
    notes.write_text("notes\n")
    assert run(main, [str(video), "--csv", str(table)]) == 2
    assert "line 1 is no answer" in capsys.readouterr().err
    assert notes.read_text() == "notes\n"
