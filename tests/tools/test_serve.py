"""`tools/serve.py` as a process: it serves until it is told to stop, and leaves nothing behind."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests import tiny
from tests.export.made import write_checkpoint
from tests.paths import ROOT
from tests.waiting import wait_until


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_it_serves_until_it_is_stopped(tmp_path: Path, how: signal.Signals) -> None:
    for name in ("starlette", "uvicorn"):
        pytest.importorskip(name, reason="needs the extra: pip install 'nightcrawler-video[web]'")
    write_checkpoint(tmp_path / "night")
    tiny.write_video(tmp_path / "a.mp4", label=3, seed=5, dark=True)
    (tmp_path / "tmp").mkdir()
    command = [
        sys.executable,
        str(ROOT / "tools/serve.py"),
        "--experiment",
        str(tmp_path / "night"),
        "--port",
        "0",
    ]
    env = tiny.environment(TMPDIR=str(tmp_path / "tmp"))
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "loading the models\n"
        found = re.search(r"open http://127\.0\.0\.1:(\d+)/", process.stdout.readline())
        assert found is not None
        connection = http.client.HTTPConnection("127.0.0.1", int(found[1]), timeout=60)
        connection.request(
            "POST", "/clips", (tmp_path / "a.mp4").read_bytes(), {"X-File-Name": "a.mp4"}
        )
        assert connection.getresponse().status == 200
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        workers = [int(pid) for pid in children.read_text().split()] if children.exists() else []
        process.send_signal(how)
        out, error = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, error) == (0, "stopped\n", "")
    assert list((tmp_path / "tmp").iterdir()) == []
    wait_until(lambda: all(map(has_ended, workers)), timeout=10)


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_faults_are_one_line(tmp_path: Path) -> None:
    pytest.importorskip(
        "starlette", reason="needs the extra: pip install 'nightcrawler-video[web]'"
    )
    for argv, text in {
        (
            "--experiment",
            str(tmp_path),
            "--port",
            "0",
        ): "no such checkpoint; expected the folder of an experiment",
        ("--experiment", str(tmp_path), "--port", "99999"): "--port 99999: cannot be used",
    }.items():
        process = tiny.run_tool("serve.py", *argv)
        assert process.returncode == 2
        assert text in process.stderr
        assert len(process.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--experiment", "a", "--mode", "1"], "--mode needs --ensemble"),
        (["--experiment", "a", "--prefix", "x"], "--prefix needs --ensemble"),
        (["--prompt", "a {}"], "--prompt needs --labels"),
        (["--labels", "a,b", "--ensemble", "x.yaml"], "--labels does not go with --ensemble"),
        (["--experiment", "a", "--max-mib", "0"], "--max-mib: expected more than 0"),
        (["--max-sec", "inf"], "--max-sec: expected more than 0, and no infinity, got inf"),
        (["--max-sec", "nan"], "--max-sec: expected more than 0, and no infinity, got nan"),
        (["--time-limit-sec", "inf"], "--time-limit-sec: expected more than 0"),
        (["--window-sec", "inf"], "--window-sec: expected more than 0, and no infinity, got inf"),
        (["--window-sec", "0.001"], "--window-sec 0.001: expected 0.1 or more"),
    ],
)
def test_options_that_do_not_go_together(
    argv: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        tiny.load_tool("serve").main(argv)
    assert caught.value.code == 2
    assert text in capsys.readouterr().err
