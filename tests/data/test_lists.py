"""Lists: every form that is promised reads, every bad row is named with its number."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nightcrawler.data.lists import MissingVideosError, VideoItem, read_list, read_pseudo
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import plain_name
from tests.paths import shared


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the videos a.mp4, b.mp4 and `Drink/c, d.mp4` (empty files)."""
    videos = tmp_path / "videos"
    (videos / "Drink").mkdir(parents=True)
    for name in ("a.mp4", "b.mp4", "Drink/c, d.mp4"):
        (videos / name).touch()
    return videos


def read(folder: Path, content: str | bytes, num_classes: int = 11) -> list[VideoItem]:
    path = folder.parent / "list.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_list(path, [folder], num_classes)


def read_soft(folder: Path, content: str, num_classes: int = 3) -> list[VideoItem]:
    path = folder.parent / "pseudo.csv"
    path.write_text(content)
    return read_pseudo(path, [folder], num_classes)


def brief(items: list[VideoItem]) -> list[tuple[str, int, int]]:
    return [(item.name, item.label, item.row) for item in items]


PLAIN = [("a.mp4", 3, 1), ("b.mp4", -1, 2)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"a.mp4,3\nb.mp4,-1\n", PLAIN),
        (b"a.mp4,3\nb.mp4,-1", PLAIN),
        (b"a.mp4,3\r\nb.mp4,-1\r\n", PLAIN),
        (b"\xef\xbb\xbfa.mp4,3\nb.mp4,-1\n", PLAIN),
        (b"path,label\na.mp4,3\nb.mp4,-1\n", [("a.mp4", 3, 2), ("b.mp4", -1, 3)]),
        (b"\xef\xbb\xbfpath,label\r\na.mp4,3\r\nb.mp4,-1\r\n", [("a.mp4", 3, 2), ("b.mp4", -1, 3)]),
        (b"\n\na.mp4,3\n\n\nb.mp4,-1\n\n", [("a.mp4", 3, 3), ("b.mp4", -1, 6)]),
        (b' a.mp4 , 3\n"b.mp4","-1"\n', PLAIN),
        (b'a.mp4,3\n"Drink/c, d.mp4",0\n', [("a.mp4", 3, 1), ("Drink/c, d.mp4", 0, 2)]),
        (b'a.mp4,3\n"say ""hi"".mp4",0\n', [("a.mp4", 3, 1), ('say "hi".mp4', 0, 2)]),
    ],
    ids=[
        "lf",
        "no-last-lf",
        "crlf",
        "bom",
        "header",
        "bom-header-crlf",
        "blank",
        "spaces",
        "comma",
        "quotes",
    ],
)
def test_every_promised_form_reads(
    folder: Path, content: bytes, expected: list[tuple[str, int, int]]
) -> None:
    assert brief(read(folder, content)) == expected


def test_items_say_where_the_file_is(folder: Path) -> None:
    items = read(folder, 'a.mp4,1\n"Drink/c, d.mp4",0\nmissing.mp4,2\n')
    assert [item.path for item in items] == [
        folder / "a.mp4",
        folder / "Drink/c, d.mp4",
        folder / "missing.mp4",
    ]
    assert all(item.path.is_absolute() and item.probs is None for item in items)


def test_the_first_folder_that_has_a_name_wins(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for name in ("a.mp4", "z.mp4"):
        (other / name).touch()
    (tmp_path / "list.csv").write_text("a.mp4,0\nz.mp4,1\n")
    items = read_list(tmp_path / "list.csv", [folder, other], 2)
    assert [item.path for item in items] == [folder / "a.mp4", other / "z.mp4"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("b.mp4", "has 1 fields, expected path,label"),
        ("b.mp4,1,2", "has 3 fields"),
        ("b.mp4 1", "has 1 fields"),
        ("b.mp4,", "label '' is not a whole number"),
        ("b.mp4,wave", "label 'wave' is not a whole number"),
        ("b.mp4,1.0", "label '1.0' is not a whole number"),
        ("b.mp4,1_0", "label '1_0' is not a whole number"),
        ("b.mp4,11", r"label 11 is out of range, expected -1 \(unknown\) or 0..10"),
        ("b.mp4,-2", "label -2 is out of range"),
        ("../b.mp4,1", r"'../b.mp4' leaves its folder \('..'\)"),
        ("Drink/../../b.mp4,1", "leaves its folder"),
        ("/etc/passwd,1", "must be relative"),
        ("Drink\\b.mp4,1", "must be relative"),
        ("b\0.mp4,1", "NUL"),
        (",1", "empty path"),
        (",", "empty path"),
        ("a.mp4,1", "'a.mp4' is in row 1 already"),
    ],
)
def test_a_bad_row_is_named(folder: Path, row: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"list\.csv: row 3: .*{said}"):
        read(folder, f"a.mp4,0\nDrink/x.mp4,1\n{row}\n")


def test_unclosed_quotes_are_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"list\.csv: row 2: "):
        read(folder, 'a.mp4,0\n"b.mp4,1\n')


def test_the_first_five_faults_are_named_and_the_rest_counted(folder: Path) -> None:
    rows = "".join(f"{number}.mp4,99\n" for number in range(8))
    with pytest.raises(UserError) as caught:
        read(folder, "a.mp4,0\n" + rows)
    message = str(caught.value)
    assert [f"row {row}:" in message for row in range(2, 10)] == [True] * 5 + [False] * 3
    assert message.endswith("and 3 more")
    assert "\n" not in message


@pytest.mark.parametrize("content", ["", "\n\n", "path,label\n", "\ufeff"])
def test_an_empty_list_is_an_error(folder: Path, content: str) -> None:
    with pytest.raises(UserError, match=r"list\.csv: the list is empty"):
        read(folder, content)


def test_a_missing_list_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.csv: no such list; see DATASET\.md"):
        read_list(tmp_path / "nowhere.csv", [tmp_path], 11)


def test_a_folder_is_not_a_list(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such list"):
        read_list(tmp_path, [tmp_path], 11)


@pytest.mark.parametrize("content", [b"a.mp4,1\n\xff\xfe.mp4,2\n", "a.mp4,1\n".encode("utf-16")])
def test_another_encoding_is_an_error(folder: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"list\.csv: not UTF-8 text"):
        read(folder, content)


def test_a_list_without_any_of_its_videos_names_the_folders(folder: Path) -> None:
    with pytest.raises(MissingVideosError, match=r"none of its 2 videos is in .*videos$"):
        read(folder, "x.mp4,1\ny.mp4,1\n")


@pytest.mark.parametrize("other", ["./a.mp4", ".//a.mp4", "././a.mp4"])
def test_one_file_spelled_two_ways_comes_twice(folder: Path, other: str) -> None:
    assert read(folder, f"{other},1\n")[0].name == "a.mp4"
    with pytest.raises(UserError, match=r"row 2: 'a\.mp4' is in row 1 already"):
        read(folder, f"a.mp4,1\n{other},1\n")


@pytest.mark.parametrize("on_disk", ["NFC", "NFD"])
@pytest.mark.parametrize("in_list", ["NFC", "NFD"])
def test_names_in_either_unicode_form_are_found(folder: Path, on_disk: str, in_list: str) -> None:
    name = "Z\u00fcge/\u00fcben.mp4"
    path = folder / unicodedata.normalize(on_disk, name)
    path.parent.mkdir()
    path.touch()
    item = read(folder, f"{unicodedata.normalize(in_list, name)},1\n")[0]
    assert (item.name, item.path) == (name, path)


def test_of_two_files_in_both_unicode_forms_each_is_its_own(folder: Path) -> None:
    for form in ("NFC", "NFD"):
        (folder / unicodedata.normalize(form, "\u00fc.mp4")).touch()
    for form in ("NFC", "NFD"):
        name = unicodedata.normalize(form, "\u00fc.mp4")
        assert read(folder, f"{name},1\n")[0].path == folder / name


def test_links_out_of_the_folder_are_followed_for_videos_that_are_only_read(
    folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "blob").touch()
    (folder / "run.mp4").symlink_to(tmp_path / "blob")
    (folder / "list.csv").write_text("run.mp4,1\n")
    (item,) = read_list(folder / "list.csv", [folder], 11, follow_links=True)
    assert (item.name, item.path) == ("run.mp4", folder / "run.mp4")


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.mp4").touch()
    (folder / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    (folder / "inside.mp4").symlink_to(folder / "a.mp4")
    assert read(folder, "inside.mp4,1\n")[0].path == folder / "a.mp4"
    with pytest.raises(UserError, match=r"row 2: 'link\.mp4' leads out of"):
        read(folder, "a.mp4,1\nlink.mp4,1\n")


names = (
    st.lists(
        st.text(
            st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\/\ufeff"),
            min_size=1,
            max_size=12,
        ),
        min_size=1,
        max_size=3,
    )
    .filter(lambda parts: ".." not in parts)
    .map("/".join)
    .filter(lambda name: name == name.strip() == plain_name(name) and name != "here.mp4")
)


@given(
    st.lists(st.tuples(names, st.integers(-1, 6)), unique_by=lambda row: row[0], max_size=12),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
@settings(max_examples=60, deadline=None)
def test_written_rows_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, int]],
    line_end: str,
    header: bool,
    bom: bool,
    quoting: int,
) -> None:
    folder = tmp_path_factory.getbasetemp() / "written_rows"
    folder.mkdir(exist_ok=True)
    (folder / "here.mp4").touch()
    rows = [*rows, ("here.mp4", 0)]
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator=line_end, quoting=quoting).writerows(
        [("path", "label")] * header + rows
    )
    (folder / "list.csv").write_bytes(text.getvalue().encode("utf-8-sig" if bom else "utf-8"))
    items = read_list(folder / "list.csv", [folder], 7)
    assert [(item.name, item.label) for item in items] == rows
    assert [item.row for item in items] == list(range(1 + header, 1 + header + len(rows)))
    assert all(item.path.is_relative_to(folder) for item in items)


def test_pseudo_labels_keep_their_probabilities(folder: Path) -> None:
    items = read_soft(folder, "a.mp4,1,0.25,0.5,0.25\nb.mp4,0,1.0,0,0\n")
    assert [item.probs for item in items] == [(0.25, 0.5, 0.25), (1.0, 0.0, 0.0)]
    assert [item.label for item in items] == [1, 0]


def test_pseudo_probabilities_are_normalised(folder: Path) -> None:
    """Published mixing weights sum to 0.95 or 0.3."""
    items = read_soft(folder, "a.mp4,1,0.19,0.57,0.19\nb.mp4,2,0.05,0.1,0.15\n")
    np.testing.assert_allclose(
        [item.probs for item in items], [[0.2, 0.6, 0.2], [1 / 6, 1 / 3, 1 / 2]], rtol=1e-12
    )


def test_hard_pseudo_labels_have_no_probabilities(folder: Path) -> None:
    items = read_soft(folder, "path,label\na.mp4,1\nb.mp4,0\n")
    assert brief(items) == [("a.mp4", 1, 2), ("b.mp4", 0, 3)]
    assert [item.probs for item in items] == [None, None]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("b.mp4,1,0.5,0.5", r"has 2 probabilities, expected 3, one for each class"),
        ("b.mp4,1,0.1,0.6,0.2,0.1", "has 4 probabilities, expected 3"),
        ("b.mp4,-1,0.1,0.6,0.3", "label -1"),
        ("b.mp4,-1", "label -1"),
        ("b.mp4,3,0.1,0.6,0.3", "label 3 is out of range"),
        ("b.mp4,0,0.1,0.6,0.3", "label 0 is not the most probable class 1"),
        ("b.mp4,1,x,0.6,0.3", "a probability is not a number"),
        ("b.mp4,1,nan,0.6,0.3", "expected 0..1, sum 1"),
        ("b.mp4,1,inf,0.6,0.3", "expected 0..1, sum 1"),
        ("b.mp4,1,-0.1,0.8,0.3", "expected 0..1, sum 1"),
        ("b.mp4,1,0,1.2,0", "expected 0..1, sum 1"),
        ("b.mp4,1,0.9,0.95,0.9", "sum to 2.75"),
        ("b.mp4,1,0,0,0", "sum to 0"),
        ("../b.mp4,1,0.1,0.6,0.3", "leaves its folder"),
    ],
)
def test_a_bad_pseudo_row_is_named(folder: Path, row: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"pseudo\.csv: row 2: .*{said}"):
        read_soft(folder, f"a.mp4,1,0.1,0.8,0.1\n{row}\n")


def published(folder: Path, name: str) -> list[VideoItem]:
    """A published list or pseudo-label file; one empty file stands in for the videos."""
    path = shared() / "reference" / name
    with path.open(newline="", encoding="utf-8") as file:
        first = folder / next(csv.reader(file))[0]
    first.parent.mkdir(parents=True, exist_ok=True)
    first.touch()
    return (read_pseudo if "pseudo" in name else read_list)(path, [folder], 11)


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("val_dry", [30] * 11),
        ("train_label+val_dry", [222, 505, 216, 162, 535, 292, 183, 165, 146, 336, 193]),
        ("arid", [485, 555, 323, 552, 629, 626, 456, 459, 740, 718, 664]),
    ],
)
def test_published_labelled_lists(tmp_path: Path, name: str, counts: list[int]) -> None:
    found = Counter(item.label for item in published(tmp_path, f"lists/{name}.csv"))
    assert found == dict(enumerate(counts))


def test_published_unlabelled_lists(tmp_path: Path) -> None:
    lists = {
        name: published(tmp_path, f"lists/{name}.csv")
        for name in ("dark_unlabel", "arid", "total_unlabel", "test")
    }
    assert {name: len(items) for name, items in lists.items()} == {
        "dark_unlabel": 3088,
        "arid": 6207,
        "total_unlabel": 9295,
        "test": 3103,
    }
    together = [item.name for part in ("dark_unlabel", "arid") for item in lists[part]]
    assert [item.name for item in lists["total_unlabel"]] == together
    assert {
        item.label for part in ("dark_unlabel", "total_unlabel", "test") for item in lists[part]
    } == {-1}


@pytest.mark.parametrize(
    ("stage", "counts"),
    [
        (1, [282, 507, 146, 279, 172, 385, 500, 521, 655, 325, 712]),
        (2, [409, 789, 372, 582, 509, 698, 670, 582, 894, 636, 910]),
        (3, [511, 831, 439, 743, 760, 1105, 703, 725, 1046, 685, 1164]),
        (4, [519, 882, 427, 820, 880, 1137, 696, 746, 1123, 879, 1186]),
    ],
)
def test_published_pseudo_labels(tmp_path: Path, stage: int, counts: list[int]) -> None:
    items = published(tmp_path, f"pseudo/stage{stage}.csv")
    probs = np.array([item.probs for item in items])
    assert Counter(item.label for item in items) == dict(enumerate(counts))
    np.testing.assert_allclose(probs.sum(axis=1), 1.0, rtol=1e-12)
    assert (probs.argmax(axis=1) == [item.label for item in items]).all()


def test_the_malformed_official_list_names_its_rows(tmp_path: Path) -> None:
    official = shared() / "reference" / "lists" / "ug2_2022_official" / "ug2_2022_train_labeled.csv"
    with pytest.raises(
        UserError, match=r"ug2_2022_train_labeled\.csv: row 1: has 3 fields, expected path,label"
    ):
        read_list(official, [tmp_path], 11)
    # Without its number column the list has 15 rows with an empty name, the first of them in line 772.
    rows = [line.split(",", 1)[1] for line in official.read_text().splitlines()]
    (tmp_path / "cut.csv").write_text("\n".join(["path,label", *rows[1:]]))
    with pytest.raises(
        UserError, match=r"cut\.csv: row 772: an empty path; row 773: .*; and 10 more"
    ):
        read_list(tmp_path / "cut.csv", [tmp_path], 11)
