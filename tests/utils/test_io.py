"""Atomic files and safe paths."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrawler.data.lists import read_list
from nightcrawler.prepare.recordings import read_recordings
from nightcrawler.pseudo.labels import read_labels
from nightcrawler.pseudo.submission import read_submission
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import (
    atomic_write,
    plain_cell,
    read_csv_rows,
    safe_join,
    sha256_file,
    spreadsheet_cell,
    write_csv_rows,
    write_spreadsheet_rows,
)
from tests.paths import ROOT


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "file.txt"
    target.write_text("old")

    def interrupted() -> None:
        with atomic_write(target, "w") as file:
            file.write("half")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        interrupted()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file.txt"]


def test_a_finished_write_replaces_the_file_with_usual_permissions(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file.bin"
    with atomic_write(target) as file:
        file.write(b"new")
    plain = tmp_path / "plain"
    plain.touch()
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("name", ["", "  ", "/etc/passwd", "../x", "a/../../x", "a\0b", "a\\b"])
def test_names_that_leave_the_root_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError):
        safe_join(tmp_path, name)


def test_a_link_out_of_the_root_is_refused_and_one_inside_is_followed(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "secret"
    (root / "sub").mkdir(parents=True)
    outside.write_text("x")
    os.symlink(outside, root / "out")
    (root / "sub" / "real").write_text("y")
    os.symlink(root / "sub" / "real", root / "in")
    with pytest.raises(UserError, match="link"):
        safe_join(root, "out")
    assert safe_join(root, "in") == root / "sub" / "real"


@given(st.text(max_size=30))
def test_joined_paths_never_leave_the_root(name: str) -> None:
    root = os.path.realpath(".")
    try:
        joined = safe_join(root, name)
    except UserError:
        return
    assert str(joined) == root or str(joined).startswith(root + os.sep)


def test_csv_rows_and_hash(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    write_csv_rows(path, [("name", "why"), ("a,b.mp4", 3)])
    assert path.read_bytes() == b'name,why\n"a,b.mp4",3\n'
    (tmp_path / "empty").touch()
    assert sha256_file(tmp_path / "empty").startswith(
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b"
    )


def test_csv_rows_are_read_without_header_mark_and_blank_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbfpath,label,more\r\na, 1\r\n\r\n"b\nc",2\r\n')
    assert read_csv_rows(path, ("path", "label")) == [(2, ["a", "1"]), (5, ["b\nc", "2"])]
    assert read_csv_rows(path, ("path", "recording"))[0] == (1, ["path", "label", "more"])


READERS = {
    "labels": read_labels,
    "recordings": read_recordings,
    "rows": lambda path: read_csv_rows(path, ()),
    "list": lambda path: read_list(path, [path.parent], 2),
    "submission": read_submission,
}


@pytest.mark.parametrize("reader", READERS)
def test_a_pipe_in_the_place_of_a_table_is_not_waited_for(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "t.csv"
    os.mkfifo(path)
    with pytest.raises(UserError, match=r"t\.csv: (not a regular file|no such)"):
        READERS[reader](path)


FORMULAS = ["=1+1", "+a", "-a.mp4", "@SUM(A1)", "\tx", "\rx", "'=1", "''@a", "-", "-1-1", "+1e5x"]
PLAIN = ["", "a", "'a", "''", "a=b", " =a", "-1", "+1.5", "-1e-05", "'", "1-1", "-0.25"]


@pytest.mark.parametrize("text", FORMULAS)
def test_a_spreadsheet_takes_no_name_for_a_formula(text: str) -> None:
    assert spreadsheet_cell(text) == "'" + text
    assert plain_cell("'" + text) == text


@pytest.mark.parametrize("text", PLAIN)
def test_other_cells_stay(text: str) -> None:
    assert spreadsheet_cell(text) == plain_cell(text) == text


@given(st.text(alphabet="'=+-@\t\ra1.e", max_size=6))
def test_cells_are_read_back(text: str) -> None:
    assert plain_cell(spreadsheet_cell(text)) == text


def test_tables_that_programs_read_are_these() -> None:
    """Every other table is for people: a new one is written by `write_spreadsheet_rows`, or named here."""
    package = ROOT / "nightcrawler"
    found = set()
    for path in package.rglob("*.py"):
        if re.search(r"\b(write_csv_rows|csv\.writer|to_csv)\(", path.read_text(encoding="utf-8")):
            found.add(str(path.relative_to(package)))
    assert found == {
        "utils/io.py",
        "synthetic/dataset.py",
        "pseudo/submission.py",
        "pseudo/labels.py",
        "prepare/motions.py",
        "prepare/write.py",
        # For people, to be downloaded: each cell passes `spreadsheet_cell`.
        "web/app.py",
    }


def test_rows_for_people(tmp_path: Path) -> None:
    write_spreadsheet_rows(tmp_path / "a.csv", [("video", "p"), ("=1.mp4", -1), ("b", "-0.5")])
    assert (tmp_path / "a.csv").read_text() == "video,p\n'=1.mp4,-1\nb,-0.5\n"
