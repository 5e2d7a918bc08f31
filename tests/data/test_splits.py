"""Splits: list files and folders of the documented layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from nightcrawler.config.schema.conditions import DARKENED as CONFIG_DARKENED
from nightcrawler.data.splits import DARKENED, SPLITS, get_split
from nightcrawler.utils.errors import UserError


@pytest.mark.parametrize(
    ("name", "list_file", "folders", "dark"),
    [
        ("train", "train_label+val_dry.csv", ["labeled_train/Train", "dry_run/Validation"], False),
        ("val_dry", "val_dry.csv", ["dry_run/Validation"], False),
        ("dark_unlabel", "dark_unlabel.csv", ["dark_train/Train"], True),
        ("arid", "arid.csv", ["dark_train/Train"], True),
        ("total_unlabel", "total_unlabel.csv", ["dark_train/Train"], True),
        ("test", "test.csv", ["Test"], True),
        ("figures", "figures/motions.csv", ["figures"], False),
        ("people", "people/motions.csv", ["people"], False),
    ],
)
def test_named_splits_follow_the_layout(
    name: str, list_file: str, folders: list[str], dark: bool
) -> None:
    split = get_split(name, "/some/data")
    assert split.name == name
    assert split.list_file == Path("/some/data") / list_file
    assert split.folders == tuple(Path("/some/data") / folder for folder in folders)
    assert split.dark is dark


def test_a_darkened_split_is_a_bright_one_that_looks_dark() -> None:
    split, bright = get_split("val_dark", "data"), get_split("val_dry", "data")
    assert (split.name, split.list_file, split.folders) == (
        "val_dark",
        bright.list_file,
        bright.folders,
    )
    assert (split.dark, split.darkened, bright.darkened) == (True, True, False)
    assert set(DARKENED) == set(CONFIG_DARKENED)


@pytest.mark.parametrize("name", [*SPLITS, *DARKENED, "mine"])
def test_labels_of_darkened_clips_are_those_of_bright_ones(name: str) -> None:
    assert get_split(name, "data").has_dark_labels == (name not in ("train", "val_dry", "val_dark"))


def test_any_other_name_is_a_dark_list_of_that_name() -> None:
    split = get_split("mine", Path("data"))
    assert (split.list_file, split.folders, split.dark) == (
        Path("data/mine.csv"),
        (Path("data"),),
        True,
    )


def test_pose_files_are_laid_out_as_their_videos() -> None:
    split = get_split("train", "data", "poses")
    assert split.list_file == get_split("train", "data").list_file
    assert [str(folder) for folder in split.folders] == [
        "data/poses/labeled_train/Train",
        "data/poses/dry_run/Validation",
        "data/labeled_train/Train",
        "data/dry_run/Validation",
    ]
    assert (split.suffix, split.dark) == (".pose.npz", False)
    assert get_split("mine", "data", "/a/poses").folders == (Path("/a/poses"), Path("data"))


@pytest.mark.parametrize(
    "name", ["", "a/b", "../test", "a\\b", ".hidden", "..", "a\0b", "/etc/passwd"]
)
def test_a_name_that_is_a_path_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="expected one of train, val_dry,") as caught:
        get_split(name, "data")
    assert repr(name) in str(caught.value)
    assert all(known in str(caught.value) for known in SPLITS)
