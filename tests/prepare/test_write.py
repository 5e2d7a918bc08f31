"""Writing: no list is replaced unasked, links and copies lead where lists look, nothing is half there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nightcrawler.prepare.lists import ListPlan
from nightcrawler.prepare.write import (
    check_places,
    compare_lists,
    link_or_copy,
    refuse_to_replace,
    write_lists,
)
from nightcrawler.utils.errors import UserError

ROWS = [("a, b.mp4", 0), ("c.mp4", 1)]


def plan(name: str = "val_dry.csv", rows: list[tuple[str, int]] = ROWS) -> ListPlan:
    return ListPlan(lists={name: rows})


@pytest.mark.parametrize(("name", "end"), [("val_dry.csv", b"\r\n"), ("arid.csv", b"\n")])
def test_line_ends_are_the_published_ones(tmp_path: Path, name: str, end: bytes) -> None:
    changes = compare_lists(tmp_path, plan(name))
    assert [change.kind for change in changes] == ["new"]
    assert write_lists(changes) == 1
    assert (tmp_path / name).read_bytes() == b'"a, b.mp4",0' + end + b"c.mp4,1" + end


@pytest.mark.parametrize(
    "text", ['"a, b.mp4",0\nc.mp4,1\n', '\ufeffpath,label\r\n"a, b.mp4",0\r\n\r\nc.mp4,1\r\n']
)
def test_a_list_of_the_same_rows_stays_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "val_dry.csv"
    path.write_bytes(text.encode())
    changes = compare_lists(tmp_path, plan())
    refuse_to_replace(changes)
    assert ([change.kind for change in changes], write_lists(changes)) == (["same"], 0)
    assert path.read_bytes() == text.encode()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"c.mp4,1\n", "0 of its 1 rows would go, 1 would be added"),
        (b'"a, b.mp4",3\nc.mp4,1\n', "1 of its 2 rows would go, 1 would be added"),
        (b'c.mp4,1\n"a, b.mp4",0\n', "another order"),
        (b"", "0 of its 0 rows would go, 2 would be added"),
        (b"\xff\xfe", "the file is no list"),
        (b'"a', "the file is no list"),
    ],
)
def test_another_list_is_refused_with_how_it_differs(
    tmp_path: Path, text: bytes, what: str
) -> None:
    path = tmp_path / "val_dry.csv"
    path.write_bytes(text)
    changes = compare_lists(tmp_path, plan())
    with pytest.raises(UserError, match=f"val_dry.csv: .*{what}.*--force"):
        refuse_to_replace(changes)
    assert path.read_bytes() == text
    assert write_lists(changes) == 1
    assert [change.kind for change in compare_lists(tmp_path, plan())] == ["same"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "src/a").mkdir(parents=True)
    (tmp_path / "src/a/1.mp4").write_bytes(b"video")
    return tmp_path / "src"


def test_copies_are_made_once_and_again_where_they_are_missing(
    source: Path, tmp_path: Path
) -> None:
    pair = (source / "a/1.mp4", tmp_path / "out/a/1.mp4")
    for _ in range(2):
        check_places([pair], copy=True)
        assert list(link_or_copy([pair], copy=True)) == [pair[1]]
        assert pair[1].read_bytes() == b"video"
    assert os.listdir(tmp_path / "out/a") == ["1.mp4"]
    pair[1].write_bytes(b"other")
    with pytest.raises(UserError, match="exists with another content"):
        check_places([pair], copy=True)


def test_links_are_made_once_and_other_things_are_not_replaced(
    source: Path, tmp_path: Path
) -> None:
    pair = (source, tmp_path / "out/Train")
    for _ in range(2):
        check_places([pair], copy=False)
        list(link_or_copy([pair], copy=False))
        assert (pair[1] / "a/1.mp4").read_bytes() == b"video"
    with pytest.raises(UserError, match="exists with another content"):
        check_places([(tmp_path, pair[1])], copy=False)
    with pytest.raises(UserError, match=r"out/Train: links to the videos already"):
        check_places([(source / "a/1.mp4", pair[1] / "a/1.mp4")], copy=True)


@pytest.mark.fault
def test_a_copy_that_fails_leaves_nothing(source: Path, tmp_path: Path) -> None:
    (source / "a/2.mp4").mkdir()
    pairs = [(source / "a" / name, tmp_path / "out" / name) for name in ("1.mp4", "2.mp4")]
    with pytest.raises(OSError, match="directory"):
        list(link_or_copy(pairs, copy=True))
    assert os.listdir(tmp_path / "out") == ["1.mp4"]
