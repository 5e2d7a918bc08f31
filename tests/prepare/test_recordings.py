"""Clips of one recording are never on both sides of a validation split."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nightcrawler.prepare.folders import VideoFolder, natural_key
from nightcrawler.prepare.lists import plan_tree
from nightcrawler.prepare.recordings import (
    choose_validation,
    read_recordings,
    recording_by_clip,
    recording_by_name,
)
from nightcrawler.utils.errors import UserError


@pytest.mark.parametrize(
    ("name", "recording"),
    [
        ("Run/garden_02_3.mp4", "Run/garden_02"),
        ("Run/garden_02_12.mp4", "Run/garden_02"),
        ("Run/v_Run_g01_c02.avi", "Run/v_Run_g01"),
        ("Run/cam 1 - 007.mp4", "Run/cam 1"),
        ("Run/rec_10-20.mp4", "Run/rec"),
        ("Run/garden/003.mp4", "Run/garden"),
        ("Run/003.mp4", "Run/003.mp4"),
        ("Run/garden.mp4", "Run/garden"),
        ("Run/a.b/x_1.mp4", "Run/a.b/x"),
    ],
)
def test_a_name_without_its_last_number_is_the_recording(name: str, recording: str) -> None:
    assert recording_by_name(name) == recording


@given(
    st.lists(st.integers(0, 8), min_size=1, max_size=40),
    st.floats(0, 0.99),
    st.integers(0, 3),
)
def test_no_recording_is_on_both_sides(groups: list[int], fraction: float, seed: int) -> None:
    recordings = [str(group) for group in groups]
    chosen = choose_validation(recordings, fraction, [seed, 0])
    train = {recordings[place] for place in range(len(groups)) if place not in chosen}
    assert not train & {recordings[place] for place in chosen}
    assert train, "a class without a training clip"
    count = len(groups)
    wanted = min(max(round(count * fraction), 1), count - 1)
    assert len(chosen) <= max(wanted, count / 2)
    if fraction and len(set(groups)) == count > 1:
        assert len(chosen) == wanted


def tree(names: list[str], **options: object) -> tuple[set[str], str]:
    """Validation clips, and the notes."""
    source = VideoFolder(Path("src"), tuple(sorted(names, key=natural_key)))
    found = plan_tree(source, None, 0.2, 0, **options)  # type: ignore[arg-type]
    return set(found.val), "\n".join(found.plan.notes)


def test_windows_of_one_recording_stay_together() -> None:
    names = [
        f"{label}/{place}_{number:03d}.mp4"
        for label in ("Run", "Walk")
        for place in ("garden", "street", "roof", "hall", "yard")
        for number in range(4)
    ]
    val, notes = tree(names)
    assert len(val) == 8
    for name in val:
        stem = name.rpartition("_")[0]
        assert {f"{stem}_{number:03d}.mp4" for number in range(4)} <= val
    assert "recordings" not in notes
    alone, _ = tree(names, recording_of=recording_by_clip)
    assert len({name.rpartition("_")[0] for name in alone}) > 2


def test_names_that_only_number_clips_are_split_by_clip_and_it_is_said() -> None:
    names = [f"{label}/clip_{number}.mp4" for label in ("Run", "Walk") for number in range(10)]
    val, notes = tree(names)
    assert len(val) == 4
    assert "tell no recordings" in notes
    assert notes.endswith(": Run, Walk")


def test_classes_without_a_validation_clip_are_named() -> None:
    names = [f"A/{number}.mp4" for number in range(10)] + ["B/0.mp4"]
    names += [f"C/long_{number}.mp4" for number in range(9)] + ["C/other_c1.mp4"]
    val, notes = tree(names)
    assert {name[0] for name in val} == {"A", "C"}
    assert "classes without a validation clip: B (1 clip)" in notes


def test_few_validation_clips_and_classes_are_said() -> None:
    names = [f"A/{number}.mp4" for number in range(100)]
    names += [f"{label}/{number}.mp4" for label in "BC" for number in range(30)]
    _, notes = tree(names)
    assert "fewer than 10 validation clips: B (6), C (6): each moves" in notes
    assert "3 classes: top-5 accuracy is always 100 %, and chance is 33 %" in notes
    _, notes = tree([f"{label}/{number}.mp4" for label in "ABCDEF" for number in range(50)])
    assert "fewer" not in notes
    assert "top-5" not in notes


def test_a_table_tells_recordings(tmp_path: Path) -> None:
    path = tmp_path / "rec.csv"
    path.write_text("path,recording\n./Run/a.mp4,r1\nRun/b.mp4,r1\nWalk/a.mp4,r2\n")
    recording_of = read_recordings(path)
    assert recording_of("Run/a.mp4") == recording_of("Run/b.mp4") == "r1"
    with pytest.raises(UserError, match=r"has no recording of 'Run/c\.mp4'"):
        recording_of("Run/c.mp4")
    _, notes = tree(["Run/a.mp4", "Run/b.mp4", "Walk/a.mp4"], recording_of=recording_of)
    assert "Run (2 clips of 1 recording), Walk (1 clip)" in notes


@pytest.mark.parametrize("text", ["a.mp4\n", "a.mp4,\n", "a.mp4,r,1\n"])
def test_a_bad_table_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "rec.csv").write_text(text)
    with pytest.raises(UserError, match=r"rec\.csv: row 1: expected path,recording"):
        read_recordings(tmp_path / "rec.csv")
    with pytest.raises(UserError, match=r"none\.csv: cannot be read"):
        read_recordings(tmp_path / "none.csv")
