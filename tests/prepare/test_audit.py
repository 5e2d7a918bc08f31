"""Audits: every file once, resumable after any end, crashes contained; duplicates and leakage by content."""

from __future__ import annotations

import csv
import os
import signal
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from nightcrawler.prepare import audit as module
from nightcrawler.prepare.audit import KILLED, audit, read_rows
from nightcrawler.prepare.duplicates import find_leakage, group_duplicates
from nightcrawler.prepare.measure import Measurement
from nightcrawler.prepare.sources import AuditSource, read_source
from nightcrawler.utils.errors import UserError
from tests.paths import shared


def note_and_measure(path: str) -> Measurement:
    """A stand-in that notes its call beside the file; what is named `crash` ends its process."""
    with open(f"{path}.calls", "a", encoding="utf-8") as file:
        file.write("x")
    if "crash" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    status = os.stat(path)
    text = Path(path).read_text()
    return Measurement(
        path,
        "ok",
        "",
        status.st_size,
        status.st_mtime_ns,
        f"sha of {text}" if text else "",
        fps=12.5,
    )


def note_and_lack_memory(path: str) -> Measurement:
    row = note_and_measure(path)
    return (
        replace(row, status="bad", cause="unexpected MemoryError: ")
        if Path(path).stem == "b"
        else row
    )


def source(folder: Path, name: str = "all") -> AuditSource:
    return AuditSource(name, tuple(sorted(str(path) for path in folder.glob("*.mp4"))))


def calls(folder: Path) -> Counter[str]:
    return Counter(
        {
            path.name.removesuffix(".mp4.calls"): len(path.read_text())
            for path in folder.glob("*.calls")
        }
    )


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for name in "abcd":
        (folder / f"{name}.mp4").write_text(name)
    return folder


def run(videos: Path, jobs: int = 2) -> list[Measurement]:
    return audit([source(videos)], videos.parent / "out", jobs, function=note_and_measure)


def test_rows_come_in_the_order_of_the_source_and_are_written(videos: Path, tmp_path: Path) -> None:
    rows = run(videos)
    assert [Path(row.path).name for row in rows] == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert list(read_rows(tmp_path / "out/audit.csv").values()) == rows
    with open(tmp_path / "out/audit.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["lists"] for row in table] == ["all"] * 4
    assert [row["fps"] for row in table] == ["12.5"] * 4


def test_names_that_are_formulas_are_text_and_known_again(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(videos)
    for name in ("=1.mp4", "'=2.mp4", "-3.mp4"):
        (videos / name).write_text(name)
    given = AuditSource("@lists", ("=1.mp4", "'=2.mp4", "-3.mp4", "a.mp4"))
    first = audit([given], tmp_path / "out", 1, function=note_and_measure)
    with open(tmp_path / "out/audit.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert [row["path"] for row in table] == ["'=1.mp4", "''=2.mp4", "'-3.mp4", "a.mp4"]
    assert {row["lists"] for row in table} == {"'@lists"}
    assert list(read_rows(tmp_path / "out/audit.csv").values()) == first
    assert audit([given], tmp_path / "out", 1, function=note_and_measure) == first
    assert set(calls(videos).values()) == {1}


def test_only_changed_and_new_files_are_measured_again(videos: Path) -> None:
    first = run(videos)
    (videos / "b.mp4").write_text("B2")
    os.utime(videos / "c.mp4", ns=(1, 1))
    (videos / "e.mp4").write_text("e")
    (videos / "d.mp4").unlink()
    second = {Path(row.path).stem: row for row in run(videos)}
    assert calls(videos) == {"a": 1, "b": 2, "c": 2, "d": 1, "e": 1}
    assert second["a"] == first[0]
    assert (second["b"].sha256, second["c"].mtime_ns) == ("sha of B2", 1)
    assert "d" not in second


def test_what_went_wrong_unexpectedly_is_tried_again(videos: Path, tmp_path: Path) -> None:
    audit([source(videos)], tmp_path / "out", 1, function=note_and_lack_memory)
    assert {row.status for row in run(videos)} == {"ok"}
    assert calls(videos) == {"a": 1, "b": 2, "c": 1, "d": 1}


@pytest.mark.parametrize("spoil", ["cut", "other columns", "no numbers", "no text"])
def test_a_csv_that_is_not_ours_is_not_believed(videos: Path, tmp_path: Path, spoil: str) -> None:
    run(videos)
    path = tmp_path / "out/audit.csv"
    text = path.read_text()
    contents = {
        "cut": text[: len(text) // 2].encode(),
        "other columns": text.replace("gamma", "delta").encode(),
        "no numbers": text.replace("12.5", "fast").encode(),
        "no text": b"\xff\xfe",
    }
    path.write_bytes(contents[spoil])
    assert len(run(videos)) == 4
    assert calls(videos) == dict.fromkeys("abcd", 2)


@pytest.mark.fault
def test_an_audit_that_is_stopped_goes_on(videos: Path, tmp_path: Path) -> None:
    def stop_after_two(rows: Iterable[Measurement], total: int) -> Iterator[Measurement]:
        for number, row in enumerate(rows):
            if number == 2:
                raise KeyboardInterrupt
            yield row

    with pytest.raises(KeyboardInterrupt):
        audit([source(videos)], tmp_path / "out", 1, stop_after_two, note_and_measure)
    done = {Path(path).stem for path in read_rows(tmp_path / "out/audit.csv")}
    assert len(done) == 2
    before = calls(videos)
    assert len(run(videos)) == 4
    assert {name: calls(videos)[name] for name in done} == {name: before[name] for name in done}


@pytest.mark.fault
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_file_that_ends_its_process_is_one_bad_row(videos: Path, jobs: int) -> None:
    (videos / "bcrash.mp4").write_text("x")
    rows = {Path(row.path).stem: row for row in run(videos, jobs)}
    assert {name: row.status for name, row in rows.items()} == dict.fromkeys("abcd", "ok") | {
        "bcrash": "bad"
    }
    assert rows["bcrash"].cause == KILLED
    before = calls(videos)
    run(videos, jobs)
    assert calls(videos)["bcrash"] > before["bcrash"], "it may have been memory: tried again"
    assert calls(videos)["a"] == before["a"]


def test_rows_are_saved_while_it_goes_on(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAVE_SEC", 0.0)
    seen = []

    def watch(rows: Iterable[Measurement], total: int) -> Iterator[Measurement]:
        for row in rows:
            seen.append(len(read_rows(tmp_path / "out/audit.csv")))
            yield row
        assert total == 4

    audit([source(videos)], tmp_path / "out", 1, watch, note_and_measure)
    assert seen == [0, 1, 2, 3]


def row(path: str, content: str = "", size: int = 1) -> Measurement:
    return Measurement(path, size_bytes=size, sha256=content)


def test_equal_content_is_grouped_but_empty_files_are_not() -> None:
    rows = [
        row("a", "1"),
        row("b", "2"),
        row("c", "1"),
        row("d", "0", 0),
        row("e", "0", 0),
        row("f"),
        row("g"),
    ]
    assert [[one.path for one in group] for group in group_duplicates(rows)] == [["a", "c"]]


def test_leakage_tells_the_same_file_from_copies() -> None:
    rows = [
        row("a", "1"),
        row("b", "2"),
        row("copy of a", "1"),
        row("c", "3"),
        row("d", "0", 0),
        row("e", "0", 0),
    ]
    sources = [
        AuditSource("train", ("a", "b", "d")),
        AuditSource("val", ("b", "copy of a", "c", "e")),
        AuditSource("test", ("c", "c")),
    ]
    found = find_leakage(sources, rows)
    assert [(one.first, one.second, one.same_file, one.copies) for one in found] == [
        ("train", "val", 1, 1),
        ("val", "test", 1, 0),
    ]
    assert found[0].examples == (("a", "copy of a"), ("b", "b"))


def test_the_csv_names_all_sources_of_a_file_and_the_first_of_its_copies(
    videos: Path, tmp_path: Path
) -> None:
    (videos / "d.mp4").write_text("a")
    sources = [
        source(videos, "one"),
        replace(source(videos, "two"), paths=source(videos).paths[-1:] * 2),
    ]
    audit(sources, tmp_path / "out", 1, function=note_and_measure)
    with open(tmp_path / "out/audit.csv", newline="") as file:
        table = {Path(line["path"]).stem: line for line in csv.DictReader(file)}
    assert [line["lists"] for line in table.values()] == ["one", "one", "one", "one;two"]
    assert table["d"]["same_as"] == str(videos / "a.mp4")
    assert [table[name]["same_as"] for name in "abc"] == [""] * 3


def test_a_folder_gives_all_that_could_be_a_video(tmp_path: Path) -> None:
    for name in (
        "b.mp4",
        "a/x.wav",
        "a/strange",
        "list.csv",
        "notes.TXT",
        ".hidden.mp4",
        ".git/y.mp4",
    ):
        (tmp_path / "v" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / name).touch()
    (tmp_path / "v/loop").symlink_to(tmp_path / "v")
    (tmp_path / "v/link.mp4").symlink_to(tmp_path / "v/b.mp4")
    found = read_source(tmp_path / "v")
    assert {os.path.relpath(path, tmp_path / "v") for path in found.paths} == {
        "b.mp4",
        "a/x.wav",
        "a/strange",
        "link.mp4",
    }
    assert found.name == str(tmp_path / "v")


def test_lists_are_looked_up_where_the_layout_has_them(tmp_path: Path) -> None:
    for name in ("labeled_train/Train/a.mp4", "dry_run/Validation/b.mp4", "Test/0.mp4", "own.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "train_label+val_dry.csv").write_text("a.mp4,0\nb.mp4,3\ngone.mp4,1\n")
    (tmp_path / "own.csv").write_text("own.mp4,70\nTest/0.mp4,-1\n")
    train = read_source(tmp_path / "train_label+val_dry.csv")
    expected = (
        "labeled_train/Train/a.mp4",
        "dry_run/Validation/b.mp4",
        "labeled_train/Train/gone.mp4",
    )
    assert train.paths == tuple(str(tmp_path / name) for name in expected)
    assert read_source(tmp_path / "own.csv").paths == (
        str(tmp_path / "own.mp4"),
        str(tmp_path / "Test/0.mp4"),
    )


def test_what_is_neither_folder_nor_list_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    faults = {
        "empty": "no file in it",
        "gone.csv": "no such list",
        "video.mp4": "expected a folder, or a list",
    }
    for name, part in faults.items():
        with pytest.raises(UserError, match=f"{name}.*{part}"):
            read_source(tmp_path / name)


def test_every_odd_clip_has_a_row(tmp_path: Path) -> None:
    found = read_source(shared() / "clips/odd")
    rows = {Path(row.path).name: row for row in audit([found], tmp_path, 2)}
    assert set(rows) == set(os.listdir(shared() / "clips/odd"))
    bad = {name for name, row in rows.items() if row.status == "bad"}
    assert {
        "audio_only.mp4",
        "zero_bytes.mp4",
        "random_bytes.mp4",
    } <= bad
    assert rows["truncated_faststart.mp4"].status == "damaged"
    assert rows["truncated_faststart.mp4"].num_frames > 0
    assert not {"verydark.mp4", "one_frame.mp4", "xvid_bframes.avi", "vfr.mp4", "hevc10.mp4"} & bad
    assert all(row.cause for name, row in rows.items() if name in bad)
    assert (rows["nasa_13013_rotated.mp4"].width, rows["nasa_13013_rotated.mp4"].height) == (
        270,
        480,
    )
