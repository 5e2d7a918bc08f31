"""Outputs never replace inputs, devices, or the state of a run."""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

import pytest

from nightcrawler.engine.run_lock import run_lock
from nightcrawler.engine.writers.jsonl import TolerantJsonLines
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write
from nightcrawler.utils.locks import take_inheritable_lock
from nightcrawler.utils.logging import JsonLines, setup_logging
from nightcrawler.utils.outputs import check_targets, refuse_foreign_lines, refuse_other_file


def _write(path: Path, text: str = "new") -> None:
    with atomic_write(path, "w") as file:
        file.write(text)


@pytest.mark.parametrize("kind", ["same", "symlink", "hard link", "spelled"])
def test_an_output_that_is_a_source_is_refused(tmp_path: Path, kind: str) -> None:
    video = tmp_path / "night.mp4"
    video.write_bytes(b"video")
    target = tmp_path / "out.csv"
    if kind == "symlink":
        target.symlink_to(video)
    elif kind == "hard link":
        os.link(video, target)
    elif kind == "spelled":
        target = tmp_path / "." / ".." / tmp_path.name / "night.mp4"
    else:
        target = video
    with pytest.raises(UserError, match="is a file to read"):
        check_targets([target], sources=[tmp_path / "other.mp4", video])


@pytest.mark.parametrize("name", ["pipeline.json", "best.pyth", ".lock", "metrics.jsonl"])
def test_the_state_of_a_run_is_no_output(tmp_path: Path, name: str) -> None:
    (tmp_path / "resolved.yaml").write_text("")
    with pytest.raises(UserError, match="file of the run"):
        check_targets([tmp_path / name])
    check_targets([tmp_path / "report.html", tmp_path / "report.json", tmp_path / "found.jsonl"])


def test_two_outputs_of_one_name_and_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="two outputs"):
        check_targets([tmp_path / "a", tmp_path / "." / "a"])
    with pytest.raises(UserError, match="is a folder"):
        check_targets([tmp_path])
    check_targets(["/dev/null", "/dev/null"])


@pytest.mark.parametrize("place", ["s3://user:hush@bucket/x.csv", Path("https://host/x.csv")])
def test_an_address_is_no_output(place: str | Path) -> None:
    for arguments in ([place], []), ([], [place]):
        with pytest.raises(UserError, match="is an address") as error:
            check_targets(*arguments)
        assert "hush" not in str(error.value)


def test_lines_are_appended_to_lines_only(tmp_path: Path) -> None:
    path = tmp_path / "found.jsonl"
    refuse_foreign_lines(path)
    path.write_text("")
    refuse_foreign_lines(path)
    path.write_text('{"video": "a.mp4"}\n{"video": ')
    refuse_foreign_lines(path)
    path.write_text("video,status\na.mp4,sure\n")
    with pytest.raises(UserError, match="holds no JSON lines"):
        refuse_foreign_lines(path)
    assert path.read_text().startswith("video,status")


def test_a_file_of_the_user_is_told_from_those_of_the_program(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    refuse_other_file(path, "video,status", "a vote")
    path.write_text("video,status,class\na.mp4,sure,Run\n")
    refuse_other_file(path, "video,status", "a vote")
    path.write_text("my table\n")
    with pytest.raises(UserError, match=f"{path}: exists and was not written by a vote: move it"):
        refuse_other_file(path, "video,status", "a vote")


def test_a_link_in_a_runs_folder_is_not_written_through(tmp_path: Path) -> None:
    run, precious = tmp_path / "run", tmp_path / "bashrc"
    run.mkdir()
    precious.write_text("alias important=1")
    (run / "resolved.yaml").write_text("")
    for name in ("best.pyth", ".lock", "metrics.jsonl", "stdout.log", "found.csv"):
        (run / name).symlink_to(precious)
    with pytest.raises(UserError, match="link"):
        check_targets([run / "found.csv"])
    with pytest.raises(UserError, match="link"):
        _write(run / "best.pyth")
    with pytest.raises(UserError, match="link"), run_lock(run):
        pass
    with pytest.raises(UserError, match="link"):
        take_inheritable_lock(run / ".lock")
    with pytest.raises(UserError, match="link"):
        TolerantJsonLines(run / "metrics.jsonl").write(kind="train")
    with pytest.raises(UserError, match="link"):
        JsonLines(run / "metrics.jsonl").write(kind="train")
    try:
        with pytest.raises(UserError, match="link"):
            setup_logging(run)
    finally:
        logging.getLogger("nightcrawler").handlers.clear()
    assert precious.read_text() == "alias important=1"


def test_a_link_that_the_user_made_is_written_through(tmp_path: Path) -> None:
    real, link = tmp_path / "disk" / "out.csv", tmp_path / "out.csv"
    link.symlink_to(real)
    _write(link)
    assert link.is_symlink()
    assert real.read_text() == "new"


def test_the_mode_of_a_replaced_file_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "secret.csv"
    target.write_text("old")
    target.chmod(0o600)
    _write(target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_device_is_written_to_and_stays_one(tmp_path: Path) -> None:
    node = tmp_path / "null"
    try:
        os.mknod(node, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        node.open("wb").close()
    except OSError as error:
        pytest.skip(f"device nodes cannot be made here ({error.strerror})")
    _write(node)
    assert stat.S_ISCHR(node.stat().st_mode)


def test_a_pipe_gets_the_output() -> None:
    reader, writer = os.pipe()

    _write(Path(f"/dev/fd/{writer}"))
    os.close(writer)
    assert os.read(reader, 10) == b"new"
    os.close(reader)


@pytest.mark.parametrize("call", ["chmod", "fsync of folders"])
def test_folders_without_sync_or_modes_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    fsync = os.fsync

    def refuse(*_: object) -> None:
        raise OSError(errno.EINVAL, "Invalid argument")

    def fsync_files(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            refuse()
        fsync(descriptor)

    if call == "chmod":
        monkeypatch.setattr(os, "chmod", refuse)
    else:
        monkeypatch.setattr(os, "fsync", fsync_files)
    _write(tmp_path / "found.csv")
    assert (tmp_path / "found.csv").read_text() == "new"


def test_a_name_as_long_as_the_file_system_takes_is_written(tmp_path: Path) -> None:
    _write(tmp_path / ("n" * 250))
    assert (tmp_path / ("n" * 250)).read_text() == "new"
