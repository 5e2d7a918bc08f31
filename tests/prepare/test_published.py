"""What was published: counts as in DATASET.md, ARID's order, the makers' lists with their faults."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import pytest

from nightcrawler.config.schema.model import CLASS_NAMES
from nightcrawler.prepare import published
from nightcrawler.prepare.published import (
    arid_order,
    find_lists,
    label_of_hmdb_name,
    read_arid_list,
    read_ug2_list,
)
from nightcrawler.utils.errors import UserError
from tests.paths import ROOT, shared

SPOILT = 'VideoID,Video,ClassID\n0,a.avi,1\n770,,"4\t-18N3.mp4"\n771,b.mp4,10\n'


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def test_counts_are_those_of_dataset_md() -> None:
    text = (ROOT / "DATASET.md").read_text()
    rows = re.findall(r"^\| ([A-Z][a-z]+) \| (\d+) \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert [row[0] for row in rows] == list(published.CLASSES) == CLASS_NAMES
    for name, *counts in rows:
        found = (published.ARID_V15[name], published.TRAIN[name], published.DRY_RUN[name])
        assert found == tuple(map(int, counts))
    for count in (published.NUM_DARK, published.NUM_TEST, 6207, 2955):
        assert f" {count:,} " in text
    assert sum(published.TRAIN.values()) + sum(published.DRY_RUN.values()) == 2955


def test_arid_names_agree_with_the_counts() -> None:
    names = arid_order()
    assert len(set(names)) == len(names) == 6207
    assert Counter(name.split("/")[0] for name in names) == published.ARID_V15
    assert all(re.fullmatch(r"([A-Z][a-z]+)/\1_\d+_\d+\.mp4", name) for name in names)


def test_arid_order_is_that_of_the_published_list() -> None:
    with open(shared() / "reference/lists/arid.csv", encoding="utf-8") as file:
        assert [name for name, _ in csv.reader(file)] == list(arid_order())


def test_spoilt_rows_are_repaired_and_reported(tmp_path: Path) -> None:
    found = read_ug2_list(write(tmp_path / "list.csv", SPOILT))
    assert found.rows == (("a.avi", 1), ("-18N3.mp4", 4), ("b.mp4", 10))
    assert found.repaired == (770,)


def test_the_challenges_lists_give_the_published_rows() -> None:
    folder = shared() / "reference/lists"
    official = {path.name: path for path in (folder / "ug2_2022_official").iterdir()}
    labelled = read_ug2_list(official[published.LABELLED_LIST])
    assert labelled.repaired == tuple(range(770, 785))
    with open(folder / "train_label+val_dry.csv", encoding="utf-8", newline="") as file:
        expected = [(name, int(label)) for name, label in csv.reader(file)]
    assert list(labelled.rows) == expected[:2625]
    dry_run = read_ug2_list(official[published.DRY_RUN_LIST])
    assert [(name, label_of_hmdb_name(name)) for name, _ in dry_run.rows] == expected[2625:]
    assert [
        name for name, _ in read_ug2_list(official[published.DARK_LIST]).rows
    ] == published.dark_clip_names(3088)


@pytest.mark.parametrize("split", [1, 2, 3])
def test_arid_splits_cover_version_1_0(split: int) -> None:
    folder = shared() / "reference/lists/arid_v1_official"
    parts = [
        read_arid_list(folder / f"ARID_split{split}_{part}.txt").rows
        for part in ("train", "test", "other")
    ]
    names = [name for rows in parts for name, _ in rows]
    assert len(set(names)) == len(names) == sum(published.ARID_V10.values()) == 3784
    assert Counter(name.split("/")[0] for name in names) == published.ARID_V10
    assert {name.replace(".avi", ".mp4") for name in names} <= set(arid_order())


UG2_FAULTS = {
    "": "begins with '', expected VideoID,Video",
    "path,label\na.mp4,0\n": "expected VideoID,Video",
    "VideoID,Video\n": "the list is empty",
    "VideoID,Video\n0\n": "line 2: '0', expected VideoID,Video",
    "VideoID,Video\nzero,a.mp4\n": "line 2: 'zero,a.mp4'",
    "VideoID,Video,ClassID\n0,a.mp4,11\n": "line 2: class '11', expected 0..10",
    "VideoID,Video,ClassID\n0,a.mp4,x\n": "line 2: class 'x'",
    'VideoID,Video,ClassID\n0,,"4 name.mp4"\n': "line 2: an empty path",
    'VideoID,Video,ClassID\n0,,"99\tname.mp4"\n': "line 2: class '99'",
    'VideoID,Video,ClassID\n0,,"4\t../../name.mp4"\n': "leaves its folder",
    "VideoID,Video\n0,/etc/passwd\n": "must be relative",
    "VideoID,Video\n0,a.mp4\n1,a.mp4\n": "line 3: 'a.mp4' is in line 2 already",
    'VideoID,Video\n0,"a.mp4\n': "not a list of the challenge",
    "VideoID,Video\n" + "x,y\n" * 7: "and 2 more",
}


@pytest.mark.parametrize(("text", "part"), UG2_FAULTS.items())
def test_what_cannot_be_repaired_is_named(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(UserError, match=re.escape(part)) as error:
        read_ug2_list(write(tmp_path / "list.csv", text))
    assert str(tmp_path / "list.csv") in str(error.value)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("0\t0\n", "expected id, class and name"),
        ("0\t1\tDrink/Drink_1_1.avi\n", "has class 1, which is Jump"),
        ("0\t0\t../Drink_1_1.avi\n", "leaves its folder"),
        ("0\t-2\tDrink/Drink_1_1.avi\n", "class '-2'"),
        ("", "expected id, class and name"),
    ],
)
def test_arid_rows_at_fault_are_named(tmp_path: Path, text: str, part: str) -> None:
    with pytest.raises(UserError, match=re.escape(part)):
        read_arid_list(write(tmp_path / "list.txt", text))


def test_line_ends_and_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    text = "\ufeff" + SPOILT.replace("\n", "\r\n")
    assert read_ug2_list(write(tmp_path / "list.csv", text)).rows[1] == ("-18N3.mp4", 4)
    arid = read_arid_list(
        write(tmp_path / "list.txt", "0\t0\tDrink/Drink_1_1.avi\r\n1\t5\tRun/Run_1_1.avi\r\n")
    )
    assert arid.rows == (("Drink/Drink_1_1.avi", 0), ("Run/Run_1_1.avi", 5))


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"VideoID,Video\n0,\xff.mp4\n")
    with pytest.raises(UserError, match="not UTF-8 text"):
        read_ug2_list(tmp_path / "list.csv")


@pytest.mark.parametrize(
    "name", ["a.mp4", "x_climb_u_nm_np1_fr_goo_9.avi", "drink.avi", "drink_u_nm_np1_fr_goo_9.avi"]
)
def test_a_name_that_tells_no_class_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="has no class in its name"):
        label_of_hmdb_name(name)


def test_only_the_class_field_of_a_name_counts() -> None:
    assert label_of_hmdb_name(
        "Run_and_drink_wave_f_cm_np2_ri_bad_0.avi"
    ) == published.CLASSES.index("Wave")


def test_lists_are_found_at_the_top_or_a_little_deeper(tmp_path: Path) -> None:
    for place in ("a.csv", "lists/a.csv", "x/y/b.csv", "x/y/z/c.csv"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    found = find_lists(("a.csv", "b.csv", "c.csv"), tmp_path)
    assert found == {"a.csv": tmp_path / "a.csv", "b.csv": tmp_path / "x/y/b.csv"}
