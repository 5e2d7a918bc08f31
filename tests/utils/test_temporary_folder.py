"""What a program that was killed left is removed by the next one, and nothing else is."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nightcrawler.utils import temporary_folder as module
from nightcrawler.utils.locks import take_inheritable_lock
from nightcrawler.utils.temporary_folder import LOCK_FILE, remove_abandoned, temporary_folder
from tests import tiny

PREFIX = "nightcrawler-page-"

HOLD = """
import sys, time
from pathlib import Path
from nightcrawler.utils.temporary_folder import temporary_folder
with temporary_folder("nightcrawler-page-", Path(sys.argv[1])) as folder:
    (folder / "clip").mkdir()
    (folder / "clip" / "before.mp4").write_bytes(b"private")
    print(folder, flush=True)
    time.sleep(600)
"""


def test_it_is_private_and_gone_after_the_block(tmp_path: Path) -> None:
    with temporary_folder(PREFIX, tmp_path) as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o77 == 0
        (folder / "a.mp4").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_a_killed_programs_files_go_at_the_next_start_a_living_ones_stay(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=tiny.environment())
    try:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        with temporary_folder(PREFIX, tmp_path):
            assert (folder / "clip/before.mp4").is_file()
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    finally:
        process.kill()
        process.communicate()
    assert folder.is_dir()
    with temporary_folder(PREFIX, tmp_path) as other:
        assert list(tmp_path.iterdir()) == [other]


def test_only_folders_of_its_own_name_with_a_free_lock_are_removed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / LOCK_FILE).touch()
    parent = tmp_path / "tmp"
    parent.mkdir()
    for name in (
        "nightcrawler-abcdefgh",
        f"{PREFIX}abcdefgh-mine",
        f"{PREFIX}ABCDEFGH",
        f"x{PREFIX}abcdefgh",
        "nightcrawler-poses-abcdefgh",
    ):
        (parent / name).mkdir()
        (parent / name / LOCK_FILE).touch()
    (parent / f"{PREFIX}link0000").symlink_to(elsewhere)
    (parent / f"{PREFIX}file0000").touch()
    (parent / f"{PREFIX}nolock00").mkdir()
    (parent / f"{PREFIX}linked00").mkdir()
    (parent / f"{PREFIX}linked00" / LOCK_FILE).symlink_to(elsewhere / LOCK_FILE)
    abandoned = parent / f"{PREFIX}abandon_"
    abandoned.mkdir()
    (abandoned / LOCK_FILE).touch()
    (abandoned / "out").symlink_to(elsewhere)
    before = sorted(parent.iterdir())
    assert remove_abandoned(PREFIX, parent) == [abandoned]
    assert sorted(parent.iterdir()) == [path for path in before if path != abandoned]
    assert (elsewhere / LOCK_FILE).is_file()


def test_without_locks_it_works_and_says_what_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: Path) -> int | None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(module, "take_inheritable_lock", refuse)
    with temporary_folder(PREFIX, tmp_path) as folder:
        assert folder.is_dir()
    assert "cannot be locked" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_held_while_the_block_runs(tmp_path: Path) -> None:
    with temporary_folder(PREFIX, tmp_path) as folder:
        assert take_inheritable_lock(folder / LOCK_FILE) is None
