"""tools/real.sh: what it makes once, what it passes on, and how it ends where a step fails."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.paths import ROOT

# Stands for Python: notes its arguments, and makes the files that later steps look for.
PROGRAM = """\
#!/usr/bin/env bash
echo "$*" >>"$CALLS"
case "$*" in
*" synthetic "*)
    mkdir -p "$5/labeled_train/Train" "$5/dry_run/Validation"
    touch "$5/labeled_train/Train/train_drink_000.mp4" "$5/dry_run/Validation/val_run_001.avi" ;;
*" prepare figures "*) mkdir -p "$6" && touch "$6/motions.csv" ;;
*" pose extract "*) exit "$EXTRACTED" ;;
esac
"""


def real(tmp_path: Path, extracted: int = 0, **given: str) -> tuple[int, list[str]]:
    """Run the script with a stand-in for Python, and return its exit code and the calls."""
    program = tmp_path / "python"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    calls = tmp_path / "calls"
    calls.write_text("")
    environment = {
        **os.environ,
        "PYTHON": str(program),
        "CALLS": str(calls),
        "EXTRACTED": str(extracted),
        "WORK": str(tmp_path / "work"),
        "SEED": "2",
        **given,
    }
    command = ["bash", str(ROOT / "tools/real.sh"), "--dry-run"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    return done.returncode, calls.read_text().splitlines()


def test_figures_are_made_once_and_laid_out_by_class(tmp_path: Path) -> None:
    dark = tmp_path / "dark"
    dark.mkdir()
    code, calls = real(tmp_path, DARK=str(dark))
    assert code == 0
    assert [" ".join(call.split()[2:4]) for call in calls[:4]] == [
        "synthetic --out",
        "prepare figures",
        "prepare figures",
        "pose extract",
    ]
    bright = tmp_path / "work/bright"
    names = {str(path.relative_to(bright)) for path in bright.rglob("*.*")}
    assert names == {"Drink/train_drink_000.mp4", "Run/val_run_001.avi"}
    pipeline = calls[4].split()
    assert pipeline[pipeline.index("--dark") + 1] == str(dark)
    assert pipeline[pipeline.index("--bright") + 1] == str(bright)
    assert pipeline[-3:] == ["--dry-run", "RNG_SEED", "6668"]
    assert calls[5].split()[2] == "report"
    assert len(calls) == 6
    again = real(tmp_path, DARK=str(dark))[1]
    assert not [call for call in again if "prepare figures" in call]


def test_clips_without_poses_stop_nothing_but_a_fault_does(tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    assert len(real(tmp_path, extracted=3, DARK=str(tmp_path / "dark"))[1]) == 6
    code, calls = real(tmp_path, extracted=2, DARK=str(tmp_path / "dark"))
    assert code != 0
    assert "pose extract" in calls[-1]


def test_a_list_of_true_classes_only_measures(tmp_path: Path) -> None:
    (tmp_path / "dark").mkdir()
    truth = tmp_path / "truth.csv"
    truth.touch()
    without = real(tmp_path, DARK=str(tmp_path / "dark"))[1]
    calls = real(tmp_path, DARK=str(tmp_path / "dark"), TRUTH=str(truth))[1]
    assert without[-1].endswith("--table")
    assert calls[-2:] == [without[-2], f"{without[-1]} --truth total_unlabel={truth}"]


def test_without_a_folder_nothing_is_made(tmp_path: Path) -> None:
    code, calls = real(tmp_path, DARK="")
    assert code != 0
    assert calls == []
