"""Planned lists: the published rows from the published names, and a note for every difference."""

from __future__ import annotations

import csv
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrawler.prepare import published
from nightcrawler.prepare.folders import VideoFolder, natural_key
from nightcrawler.prepare.lists import (
    BRIGHT_FOLDER,
    DARK_FOLDER,
    DRY_FOLDER,
    TEST_FOLDER,
    ListPlan,
    keep_present,
    plan_tree,
)
from nightcrawler.prepare.published import OfficialList, read_arid_list, read_ug2_list
from nightcrawler.prepare.published_lists import plan_arid, plan_ug2
from nightcrawler.prepare.write import compare_lists, write_lists
from nightcrawler.utils.errors import UserError
from tests.paths import shared

LISTS = (
    "train_label+val_dry.csv",
    "val_dry.csv",
    "dark_unlabel.csv",
    "total_unlabel.csv",
    "test.csv",
)
VAL_NAME = "Film_drink_u_nm_np1_fr_goo_9.avi"


def folder(place: str, names: list[str]) -> VideoFolder:
    return VideoFolder(Path("data", place), tuple(sorted(names, key=natural_key)))


def official(
    name: str, *rows: tuple[str, int], repaired: tuple[int, ...] = ()
) -> dict[str, OfficialList]:
    return {name: OfficialList(Path(name), rows, repaired)}


def small(**changes: list[str]) -> ListPlan:
    """A plan of a few clips; `changes` replaces what a folder holds: bright, dry, dark or test."""
    held = {
        "bright": ["a.avi", "b.mp4"],
        "dry": [VAL_NAME],
        "dark": ["0.mp4", "Run/Run_1_1.mp4"],
        "test": ["0.mp4"],
    }
    held |= changes
    places = (BRIGHT_FOLDER, DRY_FOLDER, DARK_FOLDER, TEST_FOLDER)
    folders = {
        place: folder(place, names) for place, names in zip(places, held.values(), strict=True)
    }
    return plan_ug2(
        folders,
        official(published.LABELLED_LIST, ("a.avi", 1), ("b.mp4", 4), repaired=(1,))
        | official(published.DRY_RUN_LIST, (VAL_NAME, -1)),
    )


def noted(plan: ListPlan, *parts: str) -> bool:
    return any(all(part in note for part in parts) for note in plan.notes)


@pytest.fixture(scope="module")
def reference() -> Path:
    return shared() / "reference/lists"


def published_folders(reference: Path) -> dict[str, VideoFolder]:
    """Folders that hold exactly the published names."""

    def names(list_name: str) -> list[str]:
        with open(reference / list_name, encoding="utf-8", newline="") as file:
            return [row[0] for row in csv.reader(file)]

    held = {
        BRIGHT_FOLDER: names("train_label+val_dry.csv")[:2625],
        DRY_FOLDER: names("val_dry.csv"),
        DARK_FOLDER: names("total_unlabel.csv"),
        TEST_FOLDER: names("test.csv"),
    }
    return {place: folder(place, found) for place, found in held.items()}


def test_published_names_give_the_published_files_byte_for_byte(
    reference: Path, tmp_path: Path
) -> None:
    lists = {path.name: read_ug2_list(path) for path in (reference / "ug2_2022_official").iterdir()}
    plan = plan_ug2(published_folders(reference), lists)
    assert set(plan.lists) == set(LISTS)
    write_lists(compare_lists(tmp_path, plan))
    for name in LISTS:
        assert (tmp_path / name).read_bytes() == (reference / name).read_bytes(), name
    assert all(
        expected == found for table in plan.tables.values() for expected, found in table.values()
    )
    assert len(plan.notes) == 2
    assert noted(plan, "15 rows repaired (770..784)")
    assert noted(plan, "val_dry.csv", "read from the names")


def test_arid_gives_its_published_file_and_its_splits(reference: Path, tmp_path: Path) -> None:
    lists = {
        path.name: read_arid_list(path) for path in (reference / "arid_v1_official").glob("*split*")
    }
    plan = plan_arid(published_folders(reference)[DARK_FOLDER], lists)
    write_lists(compare_lists(tmp_path, plan))
    for name in ("arid.csv", "total_unlabel.csv"):
        assert (tmp_path / name).read_bytes() == (reference / name).read_bytes(), name
    assert plan.tables["ARID"]["Turn"] == (740, 740)
    assert len(plan.lists) == 11
    assert plan.lists["arid_split1_train.csv"][0] == ("dark_train/Train/Drink/Drink_11_1.mp4", 0)
    assert len(plan.lists["arid_split3_test.csv"]) == plan.counts["arid_split3_test.csv"] == 852
    assert len(plan.notes) == 9
    assert noted(
        plan, "arid_split1_train.csv: 2288 files have another suffix", "Drink_11_1.avi is Drink"
    )


def test_version_1_0_of_arid_is_recognised(reference: Path) -> None:
    parts = [
        read_arid_list(reference / f"arid_v1_official/ARID_split1_{part}.txt")
        for part in ("train", "test", "other")
    ]
    plan = plan_arid(folder(DARK_FOLDER, [name for part in parts for name, _ in part.rows]), {})
    assert noted(plan, "3784 clips of ARID v1.0", "v1.5 has 6207")
    assert not noted(plan, "missing")
    assert plan.tables["ARID"]["Drink"] == (485, 338)
    # Clips named .avi are found, in the published order of their .mp4 names.
    ranks = [
        published.arid_order().index(name.replace(".avi", ".mp4"))
        for name, _ in plan.lists["arid.csv"]
    ]
    assert ranks == sorted(ranks)


def test_arid_clips_are_ordered_as_published_and_strangers_come_last() -> None:
    names = [
        "Run/Run_1_1.mp4",
        "Drink/Drink_10_1.mp4",
        "Drink/Drink_16_13.mp4",
        "Wave/new.mp4",
        "Dance/x.mp4",
        "7.mp4",
    ]
    names.append("Wave/new.avi")  # the same clip in another container
    plan = plan_arid(folder(DARK_FOLDER, names), {})
    rows = plan.lists["arid.csv"]
    assert rows[0] == ("Drink/Drink_16_13.mp4", 0)
    assert rows[-1] == ("Wave/new.mp4", 10)
    assert {name for name, _ in rows} == set(names[:4])
    assert plan.lists["total_unlabel.csv"] == [("7.mp4", -1), *((name, -1) for name, _ in rows)]
    assert noted(plan, "1 clips that ARID v1.5 does not have", "Wave/new.mp4")
    assert noted(plan, "no class: Dance")
    assert noted(plan, "also in another container: 1: Wave/new.avi")
    assert noted(plan, "missing files: 6204", "Drink/Drink_16_19.mp4")


def test_without_arid_there_is_an_error_that_names_the_folder() -> None:
    with pytest.raises(
        UserError, match=r"data/dark_train/Train: no video in a class folder .*Drink, .*DATASET.md"
    ):
        plan_arid(folder(DARK_FOLDER, ["0.mp4", "Dance/x.mp4"]), {})


def test_the_training_list_ends_with_the_dry_run() -> None:
    plan = small()
    assert plan.lists["train_label+val_dry.csv"] == [("a.avi", 1), ("b.mp4", 4), (VAL_NAME, 0)]
    assert plan.lists["val_dry.csv"] == [(VAL_NAME, 0)]
    assert plan.lists["total_unlabel.csv"] == [("0.mp4", -1), ("Run/Run_1_1.mp4", -1)]
    assert plan.tables["bright training"]["Push"] == (505, 1)
    assert noted(plan, "total_unlabel.csv: ARID's part has 1 of the published 6207 clips")
    assert noted(plan, "1 rows repaired (1..1)")


def test_missing_renamed_and_unlisted_files_are_named() -> None:
    plan = small(bright=["b.avi", "more.mp4"], test=["1.mp4", "5000.mp4"])
    assert plan.lists["train_label+val_dry.csv"][0] == ("b.avi", 4)
    assert noted(plan, "train_label+val_dry.csv: missing files: 1: a.avi")
    assert noted(plan, "1 files have another suffix", "b.mp4 is b.avi")
    assert noted(plan, "labeled_train/Train: 1 videos are in no list: more.mp4")
    assert noted(
        plan, "test.csv: missing files: 3102: 0.mp4, 2.mp4, 3.mp4, 4.mp4, 5.mp4 and 3097 more"
    )
    assert noted(plan, "Test: 1 videos are in no list: 5000.mp4")


def test_what_is_not_there_has_no_list() -> None:
    plan = small(test=[], dark=["0.mp4"])
    assert "test.csv" not in plan.lists
    assert noted(plan, "test.csv: not written")
    assert noted(plan, "total_unlabel.csv: without ARID's clips")
    assert not noted(plan, "test.csv", "missing")
    with pytest.raises(UserError, match=r"no video of UG2\+ below data/labeled_train/Train"):
        small(bright=[], dry=[], dark=[], test=[])


def test_without_the_challenges_lists_only_the_numbered_clips_are_listed() -> None:
    folders = {
        place: folder(place, ["0.mp4"])
        for place in (BRIGHT_FOLDER, DRY_FOLDER, DARK_FOLDER, TEST_FOLDER)
    }
    plan = plan_ug2(folders, official(published.DRY_RUN_LIST, (VAL_NAME, -1)))
    assert set(plan.lists) == {"dark_unlabel.csv", "total_unlabel.csv", "test.csv"}
    assert noted(plan, "not built without ug2_2022_train_labeled.csv:", "--official-lists")


def test_a_name_in_both_bright_folders_is_an_error() -> None:
    lists = official(published.LABELLED_LIST, (VAL_NAME, 0)) | official(
        published.DRY_RUN_LIST, (VAL_NAME, -1)
    )
    folders = {
        place: folder(place, [VAL_NAME])
        for place in (BRIGHT_FOLDER, DRY_FOLDER, DARK_FOLDER, TEST_FOLDER)
    }
    with pytest.raises(UserError, match="in labeled_train/Train and in dry_run/Validation"):
        plan_ug2(folders, lists)


NAMES = st.lists(st.from_regex(r"\A[ab]{1,2}\.(mp4|avi|mkv)\Z"), unique=True, max_size=10)


@given(NAMES, NAMES)
def test_no_video_stands_for_two_rows(listed: list[str], there: list[str]) -> None:
    rows = keep_present(ListPlan(), "x.csv", [(name, at) for at, name in enumerate(listed)], there)
    assert len({name for name, _ in rows}) == len(rows)
    assert {name for name, _ in rows} <= set(there)
    assert all(name in {found for found, _ in rows} for name in listed if name in there)
    assert all(name.split(".")[0] == listed[label].split(".")[0] for name, label in rows)


@pytest.mark.parametrize("listed", ["NFC", "NFD"])
@pytest.mark.parametrize("there", ["NFC", "NFD"])
def test_published_names_are_found_in_either_unicode_form(listed: str, there: str) -> None:
    name = "\u00fcben.mp4"
    video = unicodedata.normalize(there, name)
    plan = ListPlan()
    rows = keep_present(plan, "x.csv", [(unicodedata.normalize(listed, name), 1)], [video])
    assert rows == [(video, 1)]
    assert plan.notes == []


def tree(count: int, fraction: float = 0.25, seed: int = 0) -> Counter[tuple[str, bool]]:
    names = [f"{name}/{number}.mp4" for name in ("walk", "Run") for number in range(count)]
    found = plan_tree(folder("src", names), None, fraction, seed)
    assert found.classes == ["Run", "walk"]
    rows = found.plan.lists["train_label+val_dry.csv"]
    assert sorted(name for name, _ in rows) == sorted(names)
    assert all(found.classes[label] == name.split("/")[0] for name, label in rows)
    val = found.plan.lists.get("val_dry.csv", [])
    assert rows[len(rows) - len(val) :] == val
    assert [name for name, _ in val] == found.val
    return Counter((name.split("/")[0], name in found.val) for name, _ in rows)


@pytest.mark.parametrize(
    ("count", "fraction", "num_val"),
    [(8, 0.25, 2), (1, 0.5, 0), (2, 0.01, 1), (2, 0.99, 1), (9, 0, 0)],
)
def test_each_class_gives_its_share_for_validation(
    count: int, fraction: float, num_val: int
) -> None:
    counts = tree(count, fraction)
    assert all(
        counts[name, True] == num_val and counts[name, False] == count - num_val
        for name in ("Run", "walk")
    )


def test_the_choice_follows_the_seed() -> None:
    source = folder("src", [f"{name}/{number}.mp4" for name in "ab" for number in range(40)])
    choices = [plan_tree(source, None, 0.5, seed).val for seed in (0, 0, 1)]
    assert choices[0] == choices[1] != choices[2]
    numbers = [{name[2:] for name in choices[0] if name[0] == letter} for letter in "ab"]
    assert numbers[0] != numbers[1]


def test_a_tree_has_dark_lists_and_notes() -> None:
    source = VideoFolder(Path("src"), ("a/1.mp4", "b/1.mp4", "loose.mp4"), ("bad: why",))
    found = plan_tree(source, folder("dark", ["n/2.mp4", "1.mp4"]), 0, 0)
    assert found.plan.lists["dark_unlabel.csv"] == found.plan.lists["total_unlabel.csv"]
    assert found.plan.lists["dark_unlabel.csv"] == [("1.mp4", -1), ("n/2.mp4", -1)]
    assert noted(found.plan, "left out 1: bad: why")
    assert noted(found.plan, "1 videos are in no list: loose.mp4")


def test_trees_without_classes_or_dark_clips_are_errors() -> None:
    with pytest.raises(UserError, match="src: 1 class folders with videos, expected at least two"):
        plan_tree(folder("src", ["a/1.mp4", "2.mp4"]), None, 0.1, 0)
    with pytest.raises(UserError, match="dark: no video in it"):
        plan_tree(folder("src", ["a/1.mp4", "b/1.mp4"]), folder("dark", []), 0.1, 0)
