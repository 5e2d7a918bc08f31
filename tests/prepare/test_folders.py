"""Folders of videos: which names a list can hold, in which order, and what is refused by name."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrawler.data.lists import read_list
from nightcrawler.prepare.folders import natural_key, printable, scan_folder
from nightcrawler.prepare.sources import read_source
from nightcrawler.utils.errors import UserError

NAMES = st.text(
    st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=12
)


def touch(folder: Path, *names: str | bytes) -> None:
    for name in names:
        path = os.path.join(os.fsencode(folder), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass


def test_numbers_sort_as_numbers_and_hidden_files_are_passed_over(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "10.mp4",
        "2.mp4",
        "Run/Run_1_10.MP4",
        "Run/Run_1_9.avi",
        "notes.txt",
        ".part.mp4",
        ".git/x.mp4",
    )
    found = scan_folder(tmp_path)
    assert found.videos == ("2.mp4", "10.mp4", "Run/Run_1_9.avi", "Run/Run_1_10.MP4")
    assert (found.refused, found.others, found.empty) == ((), {".txt": 1}, ())


def test_folders_without_a_video_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "Run/1.mp4", "Jump/1.wav", "Walk/more/notes.txt", ".git/config")
    found = scan_folder(tmp_path)
    assert (found.videos, found.empty) == (("Run/1.mp4",), ("Jump", "Walk"))
    assert found.others == {".txt": 1, ".wav": 1}


def test_a_folder_that_cannot_be_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any user may be root, who reads everything: the system's answer is made up."""
    touch(tmp_path, "Run/1.mp4", "Jump/1.mp4")
    scan = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("Jump"):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    for read in (scan_folder, read_source):
        with pytest.raises(UserError, match=r"Jump: cannot be read \(Permission denied\)"):
            read(tmp_path)


def test_what_a_list_cannot_hold_is_named_with_its_reason(tmp_path: Path) -> None:
    folder, outside = tmp_path / "videos", tmp_path / "outside"
    touch(outside, "x.mp4", "more/y.mp4")
    touch(folder, "fine, too.mp4", b"\xff.mp4", "two\nlines.mp4", " blank.mp4", "back\\slash.mp4")
    (folder / "inside.mp4").symlink_to(folder / "fine, too.mp4")
    (folder / "out.mp4").symlink_to(outside / "x.mp4")
    (folder / "gone.mp4").symlink_to(folder / "nothing.mp4")
    (folder / "linked").symlink_to(outside / "more")
    (folder / "folder.mp4").mkdir()
    found = scan_folder(folder)
    assert found.videos == ("fine, too.mp4", "inside.mp4")
    reasons = dict(line.split(": ", 1) for line in found.refused)
    assert reasons["\\xff.mp4"] == "the name is not UTF-8"
    assert "control characters" in reasons["two\\nlines.mp4"]
    assert "blank" in reasons[" blank.mp4"]
    assert "forward slashes" in reasons["back\\\\slash.mp4"]
    assert "leads out" in reasons["out.mp4"]
    assert reasons["gone.mp4"] == "not a file"
    assert "link to a folder" in reasons["linked"]
    assert len(reasons) == 7


def test_what_is_not_refused_can_be_read_from_a_list(tmp_path: Path) -> None:
    """Names that `scan_folder` lets through survive writing and `read_list`."""
    touch(
        tmp_path / "v",
        'quo"te.mp4',
        "comma, name.mp4",
        "ümläut.mp4",
        "-dash.mp4",
        "#1.mp4",
        "=1+1.mp4",
    )
    videos = scan_folder(tmp_path / "v").videos
    assert len(videos) == 6
    rows = ['"' + name.replace('"', '""') + '",0\n' for name in videos]
    (tmp_path / "list.csv").write_text("".join(rows))
    assert [item.name for item in read_list(tmp_path / "list.csv", [tmp_path / "v"], 1)] == list(
        videos
    )


def test_a_linked_folder_is_scanned_and_a_missing_one_is_empty(tmp_path: Path) -> None:
    touch(tmp_path / "disk", "a.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert scan_folder(tmp_path / "link").videos == ("a.mp4",)
    assert scan_folder(tmp_path / "nowhere").videos == ()


@given(st.lists(NAMES, unique=True, max_size=8), st.randoms(use_true_random=False))
def test_any_names_have_one_order_and_their_own_text(names: list[str], rng: random.Random) -> None:
    shuffled = rng.sample(names, len(names))
    assert sorted(shuffled, key=natural_key) == sorted(names, key=natural_key)
    assert len({printable(name) for name in names}) == len(names)
    assert all("\n" not in printable(name) and "\x1b" not in printable(name) for name in names)


def test_bytes_that_are_no_text_print_unlike_their_escape() -> None:
    assert printable(os.fsdecode(b"\xff")) != printable("\\xff")
