"""Task states with values of other types: damaged, so that nothing of them is believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.workflow.task_state import DONE, TaskState, read_state, write_state

STATE = TaskState(DONE, "k", {"a": "1"}, {"b": "2"}, ["x"], 1.5, 0, "", True, {"torch": "2"})


def test_whole_states_are_read(tmp_path: Path) -> None:
    write_state(tmp_path / "s.json", STATE)
    assert read_state(tmp_path / "s.json") == STATE


@pytest.mark.parametrize("wrong", [[], {}, 3, None, "text", [[1]], {"a": 1}, True])
def test_wrong_types_are_damage(tmp_path: Path, wrong: Any) -> None:
    path = tmp_path / "s.json"
    write_state(path, STATE)
    whole = json.loads(path.read_text())
    for key, value in whole.items():
        # Empty ones, and values of the same type, are whole.
        if wrong in ([], {}) and type(wrong) is type(value):
            continue
        fits = type(wrong) is type(value) or (key == "seconds" and type(wrong) is int)
        if fits and not isinstance(wrong, list | dict) and key != "status":
            continue
        path.write_text(json.dumps({**whole, key: wrong}))
        assert read_state(path) is None, key


@pytest.mark.parametrize("text", ["", "[]", "3", "null", "[" * 200_000, '{"a":' * 200_000])
def test_other_files_are_damage(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    assert read_state(tmp_path / "s.json") is None


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "1e400", "-1"])
def test_times_that_are_no_time_are_damage(tmp_path: Path, seconds: str) -> None:
    write_state(tmp_path / "s.json", STATE)
    text = (tmp_path / "s.json").read_text().replace("1.5", seconds)
    (tmp_path / "s.json").write_text(text)
    assert read_state(tmp_path / "s.json") is None
