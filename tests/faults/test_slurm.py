"""The Slurm examples on a real Slurm: a job that was stopped is queued again and continues."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import slurm
from tests.paths import ROOT
from tests.waiting import wait_until

SCRIPTS = ("one_node.sh", "several_nodes.sh")
# In the place of a training: it notes its start, and on SIGUSR1 it saves and ends with 75.
LAUNCH = """\
import os, pathlib, signal, sys, time
number = os.environ.get("SLURM_NODEID")
notes = pathlib.Path("notes") / f"{os.environ.get('SLURM_RESTART_COUNT', '0')}-{number}"
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75))
words = [os.environ.get(name, "") for name in ("NNODES", "NODE_RANK", "RDZV")]
notes.write_text(" ".join([*words, *sys.argv[1:]]))
if sys.argv[-1] != "fail":
    time.sleep(0 if os.environ.get("SLURM_RESTART_COUNT") else 60)
sys.exit(2 if sys.argv[-1] == "fail" else 0)
"""


def submit(folder: Path, script: str, *words: str) -> str:
    """Submit an example as it stands, from a project folder whose launcher is the one above."""
    (folder / "tools").mkdir()
    (folder / "notes").mkdir()
    (folder / "launch.py").write_text(LAUNCH)
    (folder / "tools/launch.sh").write_text('exec python3 launch.py "$@"\n')
    options = ["--parsable", f"--chdir={folder}", f"--output={folder}/log"]
    path = str(ROOT / "tools/slurm" / script)
    return slurm.ask("sbatch", *options, path, "exp_x/model", *words)


def notes(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "notes").iterdir()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("script", SCRIPTS)
def test_a_job_that_was_stopped_is_queued_again(
    real_slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.chdir(tmp_path)
    number = submit(tmp_path, script, "RNG_SEED", "1")
    nodes = 2 if script == "several_nodes.sh" else 1
    wait_until(lambda: len(notes(tmp_path)) == nodes, 60, "all nodes have started")
    # As `#SBATCH --signal` asks for it: to the steps, not to the script.
    slurm.ask("scancel", "--signal=USR1", number)
    wait_until(lambda: len(notes(tmp_path)) == 2 * nodes, 120, "all nodes have started again")
    wait_until(lambda: not slurm.jobs(), 60, "the job has ended", period=0.2)
    facts = slurm.ask("scontrol", "show", "job", "-o", number)
    assert " JobState=COMPLETED " in facts
    assert " Restarts=1 " in facts
    launched = "train exp_x/model RNG_SEED 1"
    for start in ("0", "1"):
        if nodes == 1:
            assert notes(tmp_path)[f"{start}-0"] == f"   {launched}"
            continue
        meeting = f"n1:{20000 + int(number) % 20000}"
        for node in ("0", "1"):
            assert notes(tmp_path)[f"{start}-{node}"] == f"2 {node} {meeting} {launched}"


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_job_that_failed_is_not(
    real_slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    monkeypatch.chdir(tmp_path)
    number = submit(tmp_path, script, "fail")
    wait_until(lambda: not slurm.jobs(), 60, "the job has ended", period=0.2)
    facts = slurm.ask("scontrol", "show", "job", "-o", number)
    assert " JobState=FAILED " in facts
    assert " Restarts=0 " in facts


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_signal_is_asked_for_in_time_to_save(script: str) -> None:
    text = (ROOT / "tools/slurm" / script).read_text()
    (signal,) = re.findall(r"^#SBATCH --signal=(\S+)$", text, re.MULTILINE)
    assert signal == "USR1@300", "to the steps, which is where the launcher is, not to the script"
    assert re.search(r"^#SBATCH --requeue$", text, re.MULTILINE)
