"""Prediction by workers of a real Ray, one of which is killed: the bytes of one process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nightcrawler.cli.predict_ray import worker_commands
from tests import tiny
from tests.export.made import write_checkpoint
from tests.paths import ROOT
from tests.waiting import wait_until

NUM_CLIPS = 12


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A list of clips."""
    folder = tmp_path / "clips"
    tiny.write_video(folder / "0.mp4", 1, 1, dark=True)
    for number in range(1, NUM_CLIPS):
        shutil.copy(folder / "0.mp4", folder / f"{number}.mp4")
    tiny.write_rows(folder / "list.csv", [(f"{number}.mp4", -1) for number in range(NUM_CLIPS)])
    return folder / "list.csv"


def predict(*words: object) -> subprocess.Popen[str]:
    env = tiny.environment(PYTHONPATH=str(ROOT), RAY_USAGE_STATS_ENABLED="0")
    command = [sys.executable, "-m", "nightcrawler", "predict", *map(str, words)]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True)


def workers(out: Path) -> list[int]:
    """Processes of the first worker, which Ray has started."""
    pattern = f"nightcrawler predict --shard 0/2 .*--out {out}"
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=False)
    return [int(word) for word in found.stdout.split()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_changes_no_byte(clips: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra cluster")
    model = write_checkpoint(tmp_path / "model")
    out = tmp_path / "two"
    words = [clips, "--experiment", model, "--out"]
    with predict(*words, out, "--ray", 2) as process:
        wait_until(lambda: workers(out), 300, "the first worker runs", period=0.05)
        first = workers(out)[0]
        stat = Path(f"/proc/{first}/stat").read_text()
        os.kill(int(stat.rsplit(")", 1)[1].split()[1]), signal.SIGKILL)
        wait_until(
            lambda: set(workers(out)) - {first}, 300, "Ray has started it again", period=0.05
        )
        shown, _ = process.communicate(timeout=600)
    assert process.returncode == 0
    assert f"next: nightcrawler predict merge --out {out} {clips}" in shown
    assert {path.name for path in (out / "logs").iterdir()} == {"worker0.log", "worker1.log"}
    with predict(*words, tmp_path / "one") as process:
        assert process.wait(600) == 0
    merged = []
    for folder in (out, tmp_path / "one"):
        with predict("merge", "--out", folder, clips) as process:
            assert process.wait(300) == 0
        merged.append({path.name: path.read_bytes() for path in folder.glob("predictions.*")})
    assert merged[0] == merged[1]
    assert set(merged[0]) == {"predictions.csv", "predictions.npz"}


def test_workers_have_the_options_of_the_command() -> None:
    words = ["a.csv", "--ray=2", "--reject", "--out", "o", "--experiment", "m"]
    commands = worker_commands(words, 2)
    rest = ["a.csv", "--reject", "--out", "o", "--experiment", "m"]
    assert [command[3:] for command in commands] == [
        ["predict", "--shard", "0/2", *rest],
        ["predict", "--shard", "1/2", *rest],
    ]


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--ray", "2"], "--ray needs --out"),
        (["--ray", "2", "--out", "o", "--shard", "0/2"], "it does not go with --shard"),
        (["--ray", "0", "--out", "o"], "expected a whole number of at least 1"),
    ],
)
def test_faults(capsys: pytest.CaptureFixture[str], words: list[str], fault: str) -> None:
    with pytest.raises(SystemExit):
        tiny.load_tool("predict").parse(["a.mp4", *words])
    assert fault in capsys.readouterr().err
