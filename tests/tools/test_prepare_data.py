"""`tools/prepare_data.py` as a user meets it: lists that the data path reads, refusals, what is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from nightcrawler.data.lists import read_list
from nightcrawler.data.splits import get_split
from nightcrawler.prepare import published
from nightcrawler.utils import command_line
from tests import tiny

VAL_NAME = "Film_drink_u_nm_np1_fr_goo_9.avi"
VIDEOS = (
    "labeled_train/Train/a.avi",
    "labeled_train/Train/-18N3.mp4",
    f"dry_run/Validation/{VAL_NAME}",
    "dark_train/Train/0.mp4",
    "dark_train/Train/1.mp4",
    "dark_train/Train/Drink/Drink_16_13.mp4",
    "dark_train/Train/Drink/Drink_10_1.mp4",
    "Test/0.mp4",
)
OFFICIAL = {
    published.LABELLED_LIST: 'VideoID,Video,ClassID\n0,a.avi,1\n1,,"4\t-18N3.mp4"\n',
    published.DRY_RUN_LIST: f"VideoID,Video\n0,{VAL_NAME}\n",
    published.DARK_LIST: "VideoID,Video\n0,0.mp4\n1,1.mp4\n",
    "ARID_split1_train.txt": "0\t0\tDrink/Drink_10_1.avi\n",
}


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    touch(tmp_path / "data", *VIDEOS)
    (tmp_path / "data/lists").mkdir()
    for name, text in OFFICIAL.items():
        (tmp_path / "data/lists" / name).write_text(text)
    return tmp_path / "data"


def prepare(*argv: object) -> int:
    return command_line.run(tiny.load_tool("prepare_data").main, list(map(str, argv)))


def written(root: Path) -> dict[str, str]:
    return {path.name: path.read_bytes().decode() for path in root.glob("*.csv")}


def linked_store(tmp_path: Path) -> Path:
    """A tree whose files are links into a store, as caches of downloads and DVC make it."""
    tree = tmp_path / "snapshot"
    for number, name in enumerate(("Run/a.mp4", "Run/b.mp4", "Walk/a.mp4", "Walk/b.mp4")):
        blob = tmp_path / "blobs" / f"{number:08x}"
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(name.encode())
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(blob)
    return tree


def test_a_tree_of_links_says_so_and_is_copied_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = linked_store(tmp_path)
    assert prepare("tree", tree, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "0 class folders with videos" in error
    assert "left out 4: Run/a.mp4: a link that leads out of the folder" in error
    assert "--copy follows links" in error
    assert prepare("tree", tree, "--out", tmp_path / "out", "--copy", "--val-fraction", "0") == 0
    for name in ("Run/a.mp4", "Walk/b.mp4"):
        copy = tmp_path / "out/labeled_train/Train" / name
        assert not copy.is_symlink()
        assert copy.read_bytes() == name.encode()


def test_suffixes_of_recorders_are_videos_and_others_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suffixes = (".MTS", ".m2ts", ".264", ".h264", ".265", ".h265", ".dav", ".mp4")
    names = [f"{label}/x{suffix}" for label in ("Run", "Walk") for suffix in suffixes]
    tree = touch(tmp_path / "tree", *names, "Run/b.xyz", "Run/c.xyz", "Run/readme")
    assert prepare("tree", tree, "--out", tmp_path / "out", "--val-fraction", "0") == 0
    rows = written(tmp_path / "out")["train_label+val_dry.csv"].split()
    assert {row.rpartition(",")[0] for row in rows} == set(names)
    assert "3 files have no suffix of a video: .xyz (2), none (1)" in capsys.readouterr().out


def test_the_recordings_of_a_table_are_kept_apart(tmp_path: Path) -> None:
    names = [f"{label}/{letter}.mp4" for label in ("Run", "Walk") for letter in "abcdef"]
    tree = touch(tmp_path / "tree", *names)
    rows = [f"{name},{name[0]}{'abcdef'.index(name[-5]) // 2}\n" for name in names]
    (tmp_path / "rec.csv").write_text("".join(rows))
    options = ("--val-fraction", "0.34", "--recordings", tmp_path / "rec.csv")
    assert prepare("tree", tree, "--out", tmp_path / "out", *options) == 0
    val = [row.rpartition(",")[0] for row in written(tmp_path / "out")["val_dry.csv"].split()]
    assert len(val) == 4
    for first, second in (val[:2], val[2:]):
        assert "abcdef".index(first[-5]) // 2 == "abcdef".index(second[-5]) // 2


def test_what_is_written_is_read_by_the_data_path(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare("ug2", "--root", root) == 0
    assert prepare("arid", "--root", root) == 0
    counts = {"train": 3, "val_dry": 1, "dark_unlabel": 2, "arid": 2, "total_unlabel": 4, "test": 1}
    for name, count in {**counts, "arid_split1_train": 1}.items():
        split = get_split(name, root)
        items = read_list(split.list_file, split.folders, 11)
        assert len(items) == count
        assert all(item.path.is_file() for item in items)
    assert written(root)["train_label+val_dry.csv"] == f"a.avi,1\r\n-18N3.mp4,4\r\n{VAL_NAME},0\r\n"
    shown = capsys.readouterr().out
    assert "1 rows repaired (1..1)" in shown
    assert "published: 2955" in shown
    assert "1 / 475 !" in shown
    assert "missing files: 6205" in shown
    assert "total_unlabel.csv: is up to date" in shown


def test_a_dry_run_writes_nothing(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prepare("ug2", "--root", root, "--dry-run") == 0
    shown = capsys.readouterr().out
    assert written(root) == {}
    assert f"{root}/test.csv: to be written" in shown
    assert "nothing was written" in shown


def test_another_list_is_only_replaced_when_asked(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "val_dry.csv").write_text("mine.mp4,3\n")
    assert prepare("ug2", "--root", root) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: existing lists differ: ")
    assert len(error.splitlines()) == 1
    assert "val_dry.csv: 1 of its 1 rows would go, 1 would be added; --force replaces them" in error
    assert written(root) == {"val_dry.csv": "mine.mp4,3\n"}
    assert prepare("ug2", "--root", root, "--dry-run") == 0
    assert prepare("ug2", "--root", root, "--force") == 0
    assert written(root)["val_dry.csv"] == f"{VAL_NAME},0\r\n"


def test_official_lists_may_lie_elsewhere(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (root / "lists").rename(tmp_path / "official")
    assert prepare("ug2", "--root", root, "--dry-run") == 0
    assert "give --official-lists DIR" in capsys.readouterr().out
    assert prepare("ug2", "--root", root, "--official-lists", tmp_path / "official") == 0
    assert "train_label+val_dry.csv" in written(root)
    assert prepare("arid", "--root", root, "--official-lists", root / "Test") == 2
    assert "none of ARID_split1_train.txt" in capsys.readouterr().err


@pytest.mark.parametrize("copy", [False, True])
def test_a_tree_becomes_data_that_an_experiment_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], copy: bool
) -> None:
    source = touch(
        tmp_path / "src",
        *(f"{name}/{number}.mp4" for name in ("Run: fast", "sit") for number in range(4)),
    )
    dark = touch(tmp_path / "night", "1.mp4", "deep/2.mp4")
    out = tmp_path / "data"
    argv = (
        "tree",
        source,
        "--dark",
        dark,
        "--out",
        out,
        "--val-fraction",
        0.25,
        *(["--copy"] if copy else []),
    )
    assert prepare(*argv, "--dry-run") == 0
    assert not out.exists()
    for _ in range(2):
        assert prepare(*argv) == 0
    for name, count in {"train": 8, "val_dry": 2, "dark_unlabel": 2, "total_unlabel": 2}.items():
        split = get_split(name, out)
        items = read_list(split.list_file, split.folders, 2)
        assert len(items) == count
        assert all(item.path.is_file() and item.path.is_relative_to(out) == copy for item in items)
    shown = capsys.readouterr().out
    config = yaml.safe_load(shown.split("config.yaml:\n")[-1])
    assert config == {"MODEL": {"NUM_CLASSES": 2, "CLASS_NAMES": ["Run: fast", "sit"]}}
    assert "0 lists written" in shown


def test_a_validation_list_never_keeps_old_class_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list that is not written again is refused once a class shifts the numbers; --force, too."""
    names = [f"{name}/{number}.mp4" for name in ("run", "sit") for number in range(4)]
    source = touch(tmp_path / "src", *names)
    argv = ("tree", source, "--out", tmp_path / "data", "--val-fraction")
    assert prepare(*argv, 0.25) == 0
    path = tmp_path / "data/val_dry.csv"
    before = path.read_text()
    assert prepare(*argv, 0, "--force") == 0, "all of its rows are those of the training list"
    touch(tmp_path / "src", *(f"crawl/{number}.mp4" for number in range(4)))
    for more in ((), ("--force",), ("--dry-run",)):
        assert prepare(*argv, 0, *more) == 2
        assert f"{path}: 2 of its 2 rows have other clips or class" in capsys.readouterr().err
    assert prepare(*argv, 0.25, "--force") == 0
    labels = {line.rsplit(",", 1)[0]: line.rsplit(",", 1)[1] for line in path.open()}
    assert {name.split("/")[0]: int(label) for name, label in labels.items()} == {
        "crawl": 0,
        "run": 1,
        "sit": 2,
    }
    assert path.read_text() != before


def test_a_refused_tree_leaves_no_folder(tmp_path: Path) -> None:
    source = touch(tmp_path / "src", "a/1.mp4", "b/1.mp4")
    (touch(tmp_path / "data") / "data").mkdir(parents=True, exist_ok=True)
    (tmp_path / "data/train_label+val_dry.csv").write_text("mine.mp4,0\n")
    assert prepare("tree", source, "--out", tmp_path / "data") == 2
    assert not (tmp_path / "data/labeled_train").exists()


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (("ug2", "--root", "{tmp}/gone"), "gone: no such folder"),
        (("arid", "--root", "{tmp}"), "no video in a class folder"),
        (("tree", "{tmp}/gone", "--out", "{tmp}/o"), "gone: no such folder"),
        (
            ("tree", "{tmp}/src", "--out", "{tmp}/o", "--val-fraction", "1"),
            "--val-fraction 1.0: expected",
        ),
        (
            ("tree", "{tmp}/src", "--out", "{tmp}/o", "--val-fraction", "nan"),
            "--val-fraction nan: expected",
        ),
        (("tree", "{tmp}/src", "--out", "{tmp}/o", "--seed", "-1"), "--seed -1: expected"),
        (("tree", "{tmp}/src", "--out", "{tmp}/src/a"), "--out"),
        (("tree", "{tmp}/src", "--out", "{tmp}/o", "--dark", "{tmp}/src/a"), "is inside"),
        (
            ("tree", "{tmp}/src", "--out", "{tmp}/o", "--dark", "{tmp}"),
            "SRC {tmp}/src: is inside {tmp}, where all videos are unlabelled",
        ),
        (
            ("tree", "{tmp}/src", "--out", "{tmp}/night/o", "--dark", "{tmp}/night"),
            "--out {tmp}/night/o: is inside",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], part: str
) -> None:
    touch(tmp_path / "src", "a/1.mp4", "b/1.mp4")
    touch(tmp_path / "night", "1.mp4")
    assert prepare(*(text.format(tmp=tmp_path) for text in argv)) == 2
    error = capsys.readouterr().err
    assert part.format(tmp=tmp_path) in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "o").exists()


def test_a_command_line_without_a_task_shows_its_use() -> None:
    process = tiny.run_tool("prepare_data.py")
    assert process.returncode == 2
    assert process.stderr.startswith("usage: tools/prepare_data.py")
