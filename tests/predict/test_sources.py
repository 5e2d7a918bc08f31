from pathlib import Path

import pytest

from nightcrawler.predict.sources import find_all_videos, find_videos
from nightcrawler.utils.errors import UserError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("one/a.mp4", "one/b.mp4", "two/a.mp4", "deep/one/a.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.txt").write_text("one/b.mp4\n")
    return tmp_path


def names_of(*sources: Path) -> list[str]:
    return [item.name for item in find_all_videos(sources, 11)]


def test_names_are_as_short_as_they_may_be(tree: Path) -> None:
    assert names_of(tree / "one/a.mp4") == ["a.mp4"]
    assert names_of(tree / "one/b.mp4", tree / "two/a.mp4") == ["b.mp4", "a.mp4"]
    assert names_of(tree / "one/a.mp4", tree / "two/a.mp4") == ["one/a.mp4", "two/a.mp4"]
    assert names_of(tree / "one", tree / "two") == ["one/a.mp4", "one/b.mp4", "two/a.mp4"]
    deep = names_of(tree / "one/a.mp4", tree / "deep/one/a.mp4")
    assert [name.endswith("one/a.mp4") for name in deep] == [True, True]
    assert len(set(deep)) == 2
    assert not any(name.startswith("/") for name in deep)


def test_files_folders_and_lists_mix_in_the_order_given(tree: Path) -> None:
    items = find_all_videos([tree / "list.txt", tree / "two", tree / "deep/one/a.mp4"], 11)
    assert [item.path.relative_to(tree).as_posix() for item in items] == [
        "one/b.mp4",
        "two/a.mp4",
        "deep/one/a.mp4",
    ]
    assert [item.row for item in items] == [1, 2, 3]


@pytest.mark.parametrize(
    ("again", "names"),
    [
        ("one/a.mp4", ["a.mp4"]),
        ("one", ["a.mp4", "b.mp4"]),
        ("./two/../one/a.mp4", ["a.mp4"]),
        ("link.mp4", ["a.mp4"]),
    ],
)
def test_a_video_that_is_given_twice_is_predicted_once(
    tree: Path, again: str, names: list[str]
) -> None:
    (tree / "link.mp4").symlink_to("one/a.mp4")
    items = find_all_videos([tree / "one/a.mp4", tree / again], 11)
    assert [item.name for item in items] == names
    assert [item.row for item in items] == list(range(1, len(names) + 1))


def test_a_video_that_a_list_names_twice_is_an_error(tree: Path) -> None:
    (tree / "twice.txt").write_text("one/a.mp4\none/../one/a.mp4\n")
    with pytest.raises(UserError, match=r"twice\.txt: .*one/a\.mp4.* \(rows 1 and 2\)"):
        find_all_videos([tree / "two/a.mp4", tree / "twice.txt"], 11)


def test_a_name_that_no_file_can_have_goes_with_other_sources(tree: Path) -> None:
    (tree / "odd.txt").write_text("a\0b.mp4\n")
    assert len(find_all_videos([tree / "one", tree / "odd.txt"], 11)) == 3


def test_names_of_a_list_may_hold_other_separators_of_lines(tmp_path: Path) -> None:
    names = ["a\u2028b.mp4", "c\x85d.mp4", "e\x0bf.mp4", "g\x0ch.mp4", "i.mp4"]
    (tmp_path / "l.txt").write_bytes("\r\n".join(names).encode())
    items = find_videos(tmp_path / "l.txt", 3)
    assert [item.name for item in items] == names
    assert [item.row for item in items] == [1, 2, 3, 4, 5]
