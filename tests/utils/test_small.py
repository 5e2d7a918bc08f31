"""Registry, command lines, progress, logging."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.utils import command_line
from nightcrawler.utils.env import derived_seed
from nightcrawler.utils.errors import UserError, VideoError
from nightcrawler.utils.lazy_registry import Registry
from nightcrawler.utils.logging import JsonLines
from nightcrawler.utils.progress import progress, progress_line


def test_registry_names_what_it_knows_and_the_closest() -> None:
    registry = Registry("model")
    registry.register("uniformer")(dict)
    assert registry.get("uniformer") is dict
    with pytest.raises(
        UserError,
        match=r"unknown model 'unifromer'; did you mean 'uniformer'\? \(known: uniformer\)",
    ):
        registry.get("unifromer")
    with pytest.raises(ValueError, match="twice"):
        registry.register("uniformer")(list)


@pytest.mark.parametrize(
    "error", [UserError("no such key"), FileNotFoundError(2, "No such file", "x.csv")]
)
def test_user_errors_are_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def main(argv: object) -> int:
        raise error

    assert command_line.run(main, []) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert shown.count("\n") == 1
    command_line.run(main, ["--debug"])
    assert "Traceback" in capsys.readouterr().err


def test_our_own_faults_keep_their_traceback() -> None:
    def main(argv: object) -> int:
        raise AssertionError("invariant")

    with pytest.raises(AssertionError):
        command_line.run(main, [])


def test_video_errors_cross_processes() -> None:
    error = pickle.loads(pickle.dumps(VideoError("a.mp4", "truncated", "decode")))  # our own bytes
    assert (error.path, error.cause, error.where) == ("a.mp4", "truncated", "decode")


def test_progress_off_a_terminal_prints_a_line_every_n(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(progress(range(7), desc="render", every=3)) == list(range(7))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == ["3/7", "6/7", "7/7"]
    assert progress_line("x", 5, 20, 10.0) == "x 5/20 (0.5/s, 0:00:30 left)"


def test_json_lines_hold_arrays_and_say_nan_as_text(tmp_path: Path) -> None:
    log = JsonLines(tmp_path / "m.jsonl")
    log.write(a=np.float32(0.5), b=np.array([1, 2]), c=math.nan)
    log.write(a=1)
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert rows == [{"a": 0.5, "b": [1, 2], "c": "nan"}, {"a": 1}]


def test_derived_seeds_are_pure_and_differ_by_place() -> None:
    seeds = {
        derived_seed(6666, epoch, step, k)
        for epoch in range(5)
        for step in range(20)
        for k in range(4)
    }
    assert len(seeds) == 400
    assert derived_seed(6666, 1, 2, 3) == derived_seed(6666, 1, 2, 3)
    assert all(0 <= seed < 2**63 for seed in seeds)
