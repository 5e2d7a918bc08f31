"""Two jobs in one folder: the second is refused, and a job that was killed holds nothing."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from nightcrawler.engine.run_lock import LOCK, run_lock
from nightcrawler.utils.errors import UserError
from tests import tiny


def hold(folder: Path, held: Any) -> None:
    with run_lock(folder):
        held.set()
        signal.pause()


def test_a_second_job_is_refused_until_the_first_is_gone(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(out, held))
    process.start()
    assert process.pid is not None
    try:
        assert held.wait(30)
        assert tiny.run_net_as_process("train", data, out) == 2
        (line,) = [
            line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")
        ]
        assert f"{out}: another job trains in this folder" in line
        assert f"process {process.pid} on {socket.gethostname()}" in line
        assert {path.name for path in out.iterdir()} == {LOCK, "train.log"}
        with run_lock(out, wanted=False):
            pass
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with run_lock(out):
        assert (out / LOCK).read_text() == f"process {os.getpid()} on {socket.gethostname()}\n"


def test_an_error_frees_the_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="stop"), run_lock(tmp_path):
        raise UserError("stop")
    context = multiprocessing.get_context("fork")
    held = context.Event()
    process = context.Process(target=hold, args=(tmp_path, held))
    process.start()
    assert held.wait(30)
    process.kill()
    process.join()


@pytest.mark.parametrize("name", [LOCK, "metrics.jsonl", "train.log"])
@pytest.mark.parametrize("dangling", [False, True])
def test_a_run_folder_with_links_leads_to_no_file_outside(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, dangling: bool
) -> None:
    """A folder of someone else may hold links in the place of the files that a run appends to."""
    out = tmp_path / "run"
    out.mkdir()
    outside = tmp_path / "bashrc"
    if not dangling:
        outside.write_text("alias important=1\n")
    (out / name).symlink_to(outside)
    assert tiny.run_net_as_process("train", data, out, "SOLVER.MAX_EPOCH", 1) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"error: {out / name}: is a symbolic link" in error
    if dangling:
        assert not outside.exists()
    else:
        assert outside.read_text() == "alias important=1\n"
