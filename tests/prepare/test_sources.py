"""Videos of folders and lists are named as the folder names them, once per name."""

from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path

import pytest

from nightcrawler.predict.sources import find_videos
from nightcrawler.predict.watch_folder import new_videos
from nightcrawler.prepare.sources import read_source, read_videos
from nightcrawler.utils.errors import UserError


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A folder of links into a store, two of them to one file."""
    clips = tmp_path / "store/snapshots/abc/clips"
    clips.mkdir(parents=True)
    blobs = tmp_path / "store/blobs"
    blobs.mkdir()
    for name, blob in (("run.mp4", "60303ae2"), ("run_copy.mp4", "60303ae2"), ("b/w.MTS", "9f86")):
        (blobs / blob).write_bytes(b"frames")
        (clips / name).parent.mkdir(exist_ok=True)
        (clips / name).symlink_to(blobs / blob)
    return clips


def test_links_into_a_store_keep_their_names(snapshot: Path) -> None:
    items = read_videos(snapshot, 3)
    assert [item.name for item in items] == ["run.mp4", "run_copy.mp4", "b/w.MTS"]
    assert [item.path for item in items] == [snapshot / item.name for item in items]
    assert [Path(path).name for path in read_source(snapshot).paths] == [
        "run.mp4",
        "run_copy.mp4",
        "w.MTS",
    ]


def test_a_watched_folder_of_links_names_its_files_as_they_are(snapshot: Path) -> None:
    found = itertools.islice(new_videos(snapshot, quiet_sec=0, poll_sec=0.01), 12)
    names = {item.name for item in found if item is not None}
    assert names == {"run.mp4", "run_copy.mp4", "b/w.MTS"}


def test_a_watched_folder_tells_what_is_wrong_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert next(new_videos(tmp_path)) is None, "an empty folder is waited for"
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "\u00fc.mp4")).touch()
    assert next(new_videos(tmp_path)) is None, "the other files are waited for"
    assert "in two Unicode forms" in caplog.text


@pytest.mark.parametrize("name", ["list.csv", "LIST.CSV", "list.txt", "LIST.TXT"])
def test_lists_of_links_are_followed_whatever_the_case_of_their_suffix(
    snapshot: Path, name: str
) -> None:
    row = "run.mp4,1\n" if name.lower().endswith(".csv") else "./run.mp4\n"
    (snapshot / name).write_text(row)
    (item,) = find_videos(snapshot / name, 3)
    assert (item.name, item.path.resolve().name) == ("run.mp4", "60303ae2")


@pytest.mark.parametrize("name", ["l.csv", "l.txt"])
def test_one_clip_spelled_two_ways_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / "0.mp4").touch()
    label = ",-1" if name.endswith(".csv") else ""
    rows = [f"{spelled}{label}\n" for spelled in ("0.mp4", "./0.mp4", ".//0.mp4")]
    (tmp_path / name).write_text("".join(rows))
    with pytest.raises(UserError, match=r"0\.mp4' (is in row 1 already|\(rows 1 and 2\))"):
        find_videos(tmp_path / name, 3)


def test_two_files_of_one_name_in_two_unicode_forms_are_refused_before_the_work(
    tmp_path: Path,
) -> None:
    for form in ("NFC", "NFD"):
        (tmp_path / unicodedata.normalize(form, "\u00fc.mp4")).touch()
    with pytest.raises(UserError, match=r"in two Unicode forms \('u\\u0308\.mp4', '\\xfc\.mp4'\)"):
        read_videos(tmp_path, 3)


def test_links_to_a_folder_are_one_folder_in_an_audit(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk/a.mp4").touch()
    (tmp_path / "one").symlink_to(tmp_path / "disk")
    (tmp_path / "two").symlink_to(tmp_path / "disk")
    assert read_source(tmp_path / "one").paths == read_source(tmp_path / "two").paths
