"""The Slurm examples: a signal before the time limit, and a job that was stopped is queued again."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.paths import ROOT

SCRIPTS = ("one_node.sh", "several_nodes.sh")
# In place of Slurm: `srun` notes what it starts and ends with the wanted code, `scontrol` notes what it is asked.
FAKES = {
    "srun": 'echo "srun $*" >> "$NOTES"; echo "NNODES=${NNODES:-} RDZV=${RDZV:-}" >> "$NOTES"; exit "$CODE"',
    "scontrol": 'echo "scontrol $*" >> "$NOTES"; [ "$1" != show ] || printf "first\\nsecond\\n"',
}


def submitted(folder: Path, script: str, code: int) -> tuple[int, list[str]]:
    """Exit code of a job whose steps end with `code`, and what was asked of Slurm."""
    programs = folder / "bin"
    programs.mkdir()
    for name, text in FAKES.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    job = {
        "SLURM_SUBMIT_DIR": str(ROOT),
        "SLURM_JOB_ID": "41",
        "SLURM_NNODES": "2",
        "SLURM_JOB_NODELIST": "n[1-2]",
    }
    env = {**os.environ, **job, "NOTES": str(folder / "notes"), "CODE": str(code)}
    env["PATH"] = f"{programs}:{os.environ['PATH']}"
    command = ["bash", str(ROOT / "tools/slurm" / script), "exp_x/model", "RNG_SEED", "1"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""
    return done.returncode, (folder / "notes").read_text().splitlines()


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("code", [0, 2, 75])
def test_only_a_job_that_was_stopped_is_queued_again(
    tmp_path: Path, script: str, code: int
) -> None:
    found, notes = submitted(tmp_path, script, code)
    assert found == code
    assert ("scontrol requeue 41" in notes) == (code == 75)
    (step,) = [note for note in notes if note.startswith("srun ")]
    assert "tools/launch.sh train" in step
    assert step.endswith("exp_x/model RNG_SEED 1")
    several = script == "several_nodes.sh"
    assert f"NNODES={2 if several else ''} RDZV={'first:20041' if several else ''}" in notes


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_signal_is_asked_for_in_time_to_save(script: str) -> None:
    text = (ROOT / "tools/slurm" / script).read_text()
    (signal,) = re.findall(r"^#SBATCH --signal=(\S+)$", text, re.MULTILINE)
    assert signal == "USR1@300", "to the steps, which is where the launcher is, not to the script"
    assert re.search(r"^#SBATCH --requeue$", text, re.MULTILINE)
