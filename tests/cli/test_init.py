"""`nightcrawler init`: a project in a folder, and nothing of the user's replaced."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nightcrawler.cli import main as program
from nightcrawler.cli.layout import project_files
from nightcrawler.utils.project import find_project, packaged_root


def test_files_and_their_modes_are_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new/project"
    assert program.main(["init", str(folder)]) == 0
    files = list(project_files(packaged_root()))
    for needed in ("configs/base.yaml", "tools/_start.py", "test_ensemble_vote.py"):
        assert Path(needed) in files
    for path in files:
        source = packaged_root() / path
        assert (folder / path).read_bytes() == source.read_bytes()
        assert os.access(folder / path, os.X_OK) is os.access(source, os.X_OK)
    assert sum(path.is_file() for path in folder.rglob("*")) == len(files)
    assert find_project(folder) == folder
    shown = capsys.readouterr().out
    assert f"{folder}: {len(files)} files" in shown
    assert f"cd {folder}" in shown


def test_a_second_time_changes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["init", str(tmp_path)]) == 0
    own = tmp_path / "exp_adapt_bn/notes.txt"
    own.write_text("mine")
    capsys.readouterr()
    assert program.main(["init", str(tmp_path)]) == 0
    assert own.read_text() == "mine"
    num_files = len(list(project_files(packaged_root())))
    shown = capsys.readouterr().out
    assert f"{num_files} files, 0 written, {num_files} were there already" in shown


@pytest.mark.parametrize("name", ["a.txt", "a.txt/below"])
def test_a_file_in_the_way_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text("mine")
    assert program.main(["init", str(tmp_path / name)]) == 2
    error = capsys.readouterr().err
    assert error == f"error: {tmp_path / 'a.txt'}: a file, expected a folder or a new name\n"


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_file_that_differs_is_a_conflict_and_nothing_is_written(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "configs/demo.yaml"
    target.parent.mkdir()
    if kind == "file":
        target.write_text("mine")
    elif kind == "folder":
        target.mkdir()
    else:
        target.symlink_to(tmp_path / "nowhere")
    assert program.main(["init", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"error: {target}: exists and differs; nothing was written. Choose another FOLDER\n"
    )
    assert [path.name for path in tmp_path.rglob("*")] == ["configs", "demo.yaml"]
