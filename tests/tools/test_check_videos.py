"""`tools/check_videos.py` as a user meets it: exit codes, resuming, being killed."""

from __future__ import annotations

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nightcrawler.utils import command_line
from tests import tiny
from tests.conftest import MakeClip
from tests.paths import ROOT
from tests.waiting import wait_until

NUM_LINKS = 200


@pytest.fixture
def data(make_clip: MakeClip, tmp_path: Path) -> Path:
    """Three clips in the layout: two for training, of which the dry run holds a copy, and one of the dry run."""
    for seed, name in enumerate(
        ("labeled_train/Train/a.mp4", "labeled_train/Train/b.mp4", "dry_run/Validation/c.mp4")
    ):
        make_clip(tmp_path / "data" / name, 6, seed=seed)
    shutil.copy(
        tmp_path / "data/labeled_train/Train/a.mp4", tmp_path / "data/dry_run/Validation/copy.mp4"
    )
    (tmp_path / "data/train_label+val_dry.csv").write_text("a.mp4,0\nb.mp4,1\nc.mp4,2\n")
    (tmp_path / "data/val_dry.csv").write_text("c.mp4,2\ncopy.mp4,0\n")
    return tmp_path / "data"


def check(*argv: object) -> int:
    return command_line.run(tiny.load_tool("check_videos").main, list(map(str, argv)))


def table(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "audit.csv", encoding="utf-8", newline="") as file:
        return {Path(row["path"]).name: row for row in csv.DictReader(file)}


def test_an_audit_of_lists_finds_leakage(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lists = (data / "train_label+val_dry.csv", data / "val_dry.csv")
    assert check(*lists, "--out", tmp_path / "out", "--jobs", 2) == 0
    shown = capsys.readouterr().out
    assert "4 files: 4 ok, 0 bad" in shown
    assert f"leakage: {lists[0]} and {lists[1]} share 2 clips (1 the same file, 1 copies)" in shown
    rows = table(tmp_path / "out")
    assert rows["copy.mp4"]["same_as"] == str(data / "labeled_train/Train/a.mp4")
    assert {row["num_frames"] for row in rows.values()} == {"6"}
    assert rows["c.mp4"]["lists"] == f"{lists[0]};{lists[1]}"
    assert "Leakage between sources" in (tmp_path / "out/audit.html").read_text()


@pytest.mark.parametrize("name", ["audit.csv", "audit.html"])
def test_files_of_ones_own_are_not_replaced(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    mine = tmp_path / "out" / name
    mine.parent.mkdir()
    mine.write_text("account,amount\nx,1\n")
    given = (data / "val_dry.csv", "--out", mine.parent, "--jobs", 1)
    assert check(*given) == command_line.EXIT_USER_ERROR
    assert f"{name}: exists and was not written by an audit" in capsys.readouterr().err
    assert mine.read_text() == "account,amount\nx,1\n"
    mine.unlink()
    # Its own are written again.
    assert check(*given) == check(*given) == 0


def test_bad_videos_end_with_3_and_are_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny.damage(data / "labeled_train/Train/b.mp4")
    (data / "dry_run/Validation/c.mp4").unlink()
    assert check(data / "train_label+val_dry.csv", "--out", tmp_path / "out", "--jobs", 1) == 3
    shown = capsys.readouterr().out
    assert "3 files: 1 ok, 2 bad" in shown
    assert "b.mp4: not a video that can be read" in shown
    assert "c.mp4: cannot be read: No such file" in shown
    assert {name: row["status"] for name, row in table(tmp_path / "out").items()} == {
        "a.mp4": "ok",
        "b.mp4": "bad",
        "c.mp4": "bad",
    }


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (("{data}/gone.csv", "--out", "{data}/o"), "gone.csv: no such list"),
        (("{data}/Test", "--out", "{data}/o"), "expected a folder, or a list"),
        (
            ("{data}/labeled_train", "--out", "{data}/o", "--jobs", "0"),
            "--jobs 0: expected at least 1",
        ),
        (
            ("{data}/labeled_train", "--out", "{data}/val_dry.csv"),
            "val_dry.csv: is a file, expected a folder to write into",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(
    data: Path, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], part: str
) -> None:
    assert check(*(text.format(data=data) for text in argv)) == 2
    error = capsys.readouterr().err.splitlines()
    assert len(error) == 1
    assert part in error[0]


def alive(pid: int) -> bool:
    """Whether a process runs (one that has ended and is not yet waited for does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


@pytest.mark.fault
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_stopped_at_any_time_it_leaves_whole_files_and_goes_on(
    data: Path, tmp_path: Path, how: signal.Signals
) -> None:
    if signal.getsignal(how) == signal.SIG_IGN:
        pytest.skip("this process passes on that it ignores the signal")
    for number in range(NUM_LINKS):
        os.link(data / "labeled_train/Train/a.mp4", data / f"labeled_train/Train/x{number}.mp4")
    out = tmp_path / "out"
    command = [
        sys.executable,
        str(ROOT / "tools/check_videos.py"),
        str(data),
        "--out",
        str(out),
        "--jobs",
        "2",
    ]
    process = subprocess.Popen(
        command, env=tiny.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    assert line.startswith("audit 50/"), line
    tasks = Path(f"/proc/{process.pid}/task").glob("*/children")
    children = [int(pid) for path in tasks for pid in path.read_text().split()]
    process.send_signal(how)
    _, error = process.communicate(timeout=30)
    assert process.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    assert "Traceback" not in error
    assert children
    wait_until(lambda: not any(map(alive, children)), timeout=10)
    # A killed audit keeps what it last saved; an interrupted one all that was done.
    done = len(table(out)) if (out / "audit.csv").exists() else 0
    assert (0 if how == signal.SIGKILL else 50) <= done < NUM_LINKS + 4
    assert not (out / "audit.html").exists()
    assert check(data, "--out", out, "--jobs", 2) == 0
    assert len(table(out)) == NUM_LINKS + 4
