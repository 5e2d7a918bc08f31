"""Variables of launchers that are incomplete or of another form: one line that names the variable."""

from __future__ import annotations

import subprocess
import sys

import pytest

from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError
from tests import tiny
from tests.paths import ROOT

COMPLETE = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"WORLD_SIZE": "two"}, "WORLD_SIZE is 'two'"),
        ({"WORLD_SIZE": "0"}, "WORLD_SIZE is '0'"),
        ({"WORLD_SIZE": "²"}, "WORLD_SIZE is '²'"),
        ({"RANK": "abc"}, "RANK is 'abc'"),
        ({"RANK": "-1"}, "RANK is '-1'"),
        ({"RANK": "2"}, "RANK is 2, but WORLD_SIZE is 2"),
        ({"RANK": ""}, "RANK is ''"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK is 'x'"),
        ({"RANK": None}, "WORLD_SIZE is 2, but RANK is not set"),
        ({"MASTER_ADDR": None}, "WORLD_SIZE is 2, but MASTER_ADDR is not set"),
        ({"MASTER_PORT": None}, "WORLD_SIZE is 2, but MASTER_PORT is not set"),
        ({"MASTER_PORT": "http"}, "MASTER_PORT is 'http'"),
    ],
)
def test_bad_variables_are_named(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, str | None], named: str
) -> None:
    for name, value in {**COMPLETE, **changes}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=named) as error:
        distributed.check_launcher_variables()
    assert "tools/launch.sh" in str(error.value)


def test_one_process_needs_no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*COMPLETE, "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    distributed.check_launcher_variables()


def test_a_process_whose_launcher_is_dead_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = subprocess.Popen([sys.executable, "-S", "-c", ""])
    ended.wait()
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.setenv(distributed.LAUNCHER_PID, str(ended.pid))
    with pytest.raises(UserError, match="launcher of this process has ended"):
        distributed.end_with_launcher()


def test_a_wrapper_between_launcher_and_process_is_no_reason_to_end() -> None:
    """Start as `--no-python wrapper.sh` does: the parent is the wrapper, the launcher lives."""
    program = (
        "import os; from nightcrawler.utils import distributed\n"
        "distributed.end_with_launcher(); print('goes on')"
    )
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as other:
        env = tiny.environment(LOCAL_RANK="0", PYTHONPATH=str(ROOT))
        env[distributed.LAUNCHER_PID] = str(other.pid)
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        assert done.stdout == "goes on\n"
        other.communicate(b"\n")


@pytest.mark.parametrize("variables", [{"WORLD_SIZE": "2", "RANK": "0"}, {"RANK": "abc"}])
def test_the_command_says_it_in_one_line(variables: dict[str, str]) -> None:
    config = str(ROOT / tiny.EXPERIMENT / "config.yaml")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools/run_net.py"), "train", "--cfg", config],
        env=tiny.environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
