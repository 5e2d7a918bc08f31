"""A watched folder: pipes for the lines are not read, and files of one name do not end the watch."""

from __future__ import annotations

import itertools
import json
import logging
import os
from pathlib import Path

import pytest

from nightcrawler.predict.watch_folder import new_videos, read_done

COMPOSED, DECOMPOSED = "\xfc.mp4", "u\u0308.mp4"


def test_a_pipe_for_lines_is_not_read(tmp_path: Path) -> None:
    """Reading one waits for a writer, which the watch itself would be."""
    os.mkfifo(tmp_path / "pipe")
    assert read_done(tmp_path / "pipe", "1") == {}


def test_an_open_file_of_the_shell_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "found.jsonl", "w+", encoding="utf-8") as file:
        file.write('{"video": "a.mp4", "status": "ok"}\n')
        file.flush()
        assert read_done(Path(f"/dev/fd/{file.fileno()}"), "1") == {}
    assert read_done(tmp_path / "found.jsonl", "1") == {"a.mp4": None}


def test_answers_of_another_model_are_not_taken_for_done(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    lines = [
        {"video": "theirs.mp4", "status": "ok", "run": "2"},
        {"video": "ours.mp4", "status": "ok", "size": 3, "mtime_ns": 5, "run": "1"},
        # Our answer stays one after another model has answered, too.
        {"video": "ours.mp4", "status": "error: gone", "run": "2"},
        {"video": "of an earlier version.mp4", "status": "ok"},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_done(path, "1") == {"ours.mp4": (3, 5), "of an earlier version.mp4": None}
    assert list(read_done(path, "2")) == ["theirs.mp4", "of an earlier version.mp4"]


def test_two_files_of_one_name_are_left_out_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in (COMPOSED, DECOMPOSED, "a.mp4"):
        (tmp_path / name).write_bytes(b"video")
    if len(os.listdir(tmp_path)) < 3:
        pytest.skip("the file system takes both for one name")
    with caplog.at_level(logging.WARNING):
        seen = list(itertools.islice(new_videos(tmp_path, quiet_sec=0, poll_sec=0.001), 6))
    assert [item.name for item in seen if item is not None] == ["a.mp4"]
    (message,) = caplog.messages
    assert "is the name of two files, in two Unicode forms" in message
    assert message.endswith("both are left out, rename one of them")
