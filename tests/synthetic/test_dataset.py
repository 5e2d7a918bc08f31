"""The synthetic set: layout, lists, repeatable frames, darkness, what happens to folders that hold something."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from nightcrawler.cli.synthetic import main
from nightcrawler.data.lists import read_list
from nightcrawler.data.splits import get_split
from nightcrawler.synthetic.dataset import DatasetSpec, clip_frames, make_plan, write_dataset
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils.errors import UserError
from tests.reading import read_file

TINY = DatasetSpec(train=2, val=1, unlabel=1, arid=1, test=1, height=48, width=64)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("synthetic") / "data"
    assert write_dataset(root, TINY, jobs=2) == (66, 66)
    return root


def test_every_list_leads_to_its_files(data: Path) -> None:
    counts = {
        "train": 33,
        "val_dry": 11,
        "dark_unlabel": 11,
        "arid": 11,
        "total_unlabel": 22,
        "test": 11,
    }
    for name, count in counts.items():
        split = get_split(name, data)
        rows = read_list(split.list_file, split.folders, 11)
        assert len(rows) == count
        assert all(Path(row.path).is_file() for row in rows)
    assert b"\r\n" in (data / "train_label+val_dry.csv").read_bytes()
    assert b"\r\n" not in (data / "arid.csv").read_bytes()
    total = (data / "total_unlabel.csv").read_text()
    assert total.startswith((data / "dark_unlabel.csv").read_text())
    assert ",-1\n" in total


def test_both_containers_are_used_and_hidden_names_tell_nothing(data: Path) -> None:
    assert {path.suffix for path in (data / "labeled_train/Train").iterdir()} == {".mp4", ".avi"}
    names = sorted((data / "Test").iterdir())
    assert {path.stem for path in names} == {str(number) for number in range(11)}
    labels = [int(line.rsplit(",", 1)[1]) for line in (data / "truth/test.csv").read_text().split()]
    assert sorted(labels) == list(range(11))
    assert labels != sorted(labels)


def test_encoded_dark_clips_are_dark(data: Path) -> None:
    def mean(path: Path) -> float:
        return float(read_file(str(path), lambda count: list(range(count))).frames.mean())

    dark = [mean(path) for path in sorted((data / "Test").iterdir())]
    bright = [mean(path) for path in sorted((data / "dry_run/Validation").iterdir())]
    assert min(dark) > 5
    assert max(dark) < 28
    assert min(bright) > 50


def test_same_seed_same_frames_other_seed_other_frames() -> None:
    plan = make_plan(TINY).clips[-1]
    frames, fps = clip_frames(plan, TINY)
    again, _ = clip_frames(plan, TINY)
    assert frames.dtype == np.uint8
    assert frames.shape[1:] == (48, 64, 3)
    assert 2 * fps <= len(frames) <= 3 * fps
    np.testing.assert_array_equal(frames, again)
    other = make_plan(replace(TINY, seed=1)).clips[-1]
    assert (
        clip_frames(other, TINY)[0].shape != frames.shape
        or (clip_frames(other, TINY)[0] != frames).any()
    )


def test_files_are_complete_and_decode_to_all_frames(data: Path) -> None:
    plan = make_plan(TINY)
    for clip in plan.clips[::13]:
        frames, fps = clip_frames(clip, TINY)
        decoded = read_file(str(data / clip.path), lambda count: list(range(count)))
        assert decoded.num_frames == len(frames)
        assert decoded.fps == pytest.approx(fps)
        assert np.abs(decoded.frames.astype(float) - frames).mean() < 13


def test_only_what_is_missing_is_rendered_again(data: Path) -> None:
    gone = data / make_plan(TINY).clips[5].path
    before = gone.read_bytes()
    gone.unlink()
    assert write_dataset(data, TINY, jobs=1) == (1, 66)
    assert gone.read_bytes() == before, "the same seed gives the same file"


def test_a_folder_of_something_else_is_left_alone(data: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="other settings"):
        write_dataset(data, replace(TINY, seed=9), jobs=1)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="no synthetic data"):
        write_dataset(tmp_path, TINY, jobs=1, force=True)


def test_force_replaces_clips_of_another_specification(tmp_path: Path) -> None:
    one = DatasetSpec(train=1, val=1, unlabel=1, arid=1, test=1, height=32, width=32)
    root = tmp_path / "data"
    write_dataset(root, one, jobs=1)
    first = root / make_plan(one).clips[0].path
    before = first.read_bytes()
    with pytest.raises(UserError, match="use force to replace them"):
        write_dataset(root, replace(one, seed=1), jobs=1)
    assert write_dataset(root, replace(one, seed=1), jobs=1, force=True) == (55, 55)
    assert first.read_bytes() != before
    # A damaged file of the specification is that of another one.
    (root / "synthetic.json").write_text("{")
    with pytest.raises(UserError, match="other settings"):
        write_dataset(root, one, jobs=1)


@pytest.mark.parametrize("num_done", [0, 1, 30])
def test_a_forced_replacement_that_is_stopped_leaves_no_clip_of_before(
    tmp_path: Path, num_done: int
) -> None:
    one = DatasetSpec(train=1, val=1, unlabel=1, arid=1, test=1, height=32, width=32)
    other = replace(one, seed=1)
    root = tmp_path / "data"
    write_dataset(root, one, jobs=1)

    def stop(paths: Iterable[str], total: int) -> Iterable[str]:
        for count, path in enumerate(paths):
            if count == num_done:
                raise KeyboardInterrupt
            yield path

    with pytest.raises(KeyboardInterrupt):
        write_dataset(root, other, jobs=1, force=True, wrap=stop)
    assert not (root / "truth/test.csv").exists(), "labels of one seed beside clips of the other"
    rendered, total = write_dataset(root, other, jobs=1)
    # The clip under way may have been finished.
    assert total - num_done - 1 <= rendered <= total - num_done
    for clip in make_plan(other).clips:
        frames, _ = clip_frames(clip, other)
        found = read_file(str(root / clip.path), lambda count: list(range(count))).frames
        assert found.shape == frames.shape
        assert np.abs(found.astype(float) - frames).mean() < 13


def test_a_forced_replacement_stopped_while_it_removes_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = DatasetSpec(train=1, val=1, unlabel=1, arid=1, test=1, height=32, width=32)
    other = replace(one, seed=1)
    root = tmp_path / "data"
    write_dataset(root, one, jobs=1)
    unlink = Path.unlink

    def fail(path: Path, missing_ok: bool = False) -> None:
        if path.name == "train_run_000.mp4":
            raise KeyboardInterrupt
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(KeyboardInterrupt):
        write_dataset(root, other, jobs=1, force=True)
    monkeypatch.undo()
    assert write_dataset(root, other, jobs=1) == (55, 55)


def test_clips_behind_a_link_are_not_replaced(tmp_path: Path) -> None:
    one = DatasetSpec(train=1, val=1, unlabel=1, arid=1, test=1, height=32, width=32)
    root = tmp_path / "data"
    write_dataset(root, one, jobs=1)
    (root / "Test").rename(tmp_path / "elsewhere")
    (root / "Test").symlink_to(tmp_path / "elsewhere")
    before = contents(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="Test: is a link"):
        write_dataset(root, replace(one, seed=1), jobs=1, force=True)
    assert contents(tmp_path / "elsewhere") == before


def contents(root: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    files = {}
    for path in sorted(root.rglob("*")):
        if path.is_file():
            files[str(path.relative_to(root))] = path.read_bytes()
    return files


def test_progress_is_shown_for_the_rendered_clips(tmp_path: Path) -> None:
    one = DatasetSpec(train=1, val=1, unlabel=1, arid=1, test=1, height=32, width=32)
    shown: list[tuple[list[str], int]] = []

    def wrap(paths: Iterable[str], total: int) -> Iterable[str]:
        found = list(paths)
        shown.append((found, total))
        return found

    write_dataset(tmp_path / "data", one, jobs=1, wrap=wrap)
    assert shown == [([clip.path for clip in make_plan(one).clips], 55)]


def test_lists_that_were_changed_are_not_replaced(tmp_path: Path) -> None:
    """A repeated command leaves them, and says so; --force writes them anew."""
    spec = DatasetSpec(0, train=1, val=1, unlabel=1, arid=1, test=1, height=32, width=48)
    root = tmp_path / "data"
    write_dataset(root, spec, jobs=1)
    path = root / "test.csv"
    whole = path.read_bytes()
    path.write_bytes(whole + b"mine.mp4,-1\n")
    with pytest.raises(UserError, match=f"{path}: holds other rows than this data set"):
        write_dataset(root, spec, jobs=1)
    assert path.read_bytes() == whole + b"mine.mp4,-1\n"
    write_dataset(root, spec, jobs=1, force=True)
    assert path.read_bytes() == whole


def test_a_picture_of_the_user_is_no_contact_sheet(tmp_path: Path) -> None:
    parts = ("train", "val", "unlabel", "arid", "test")
    argv = [word for part in parts for word in (f"--{part}", "1")]
    argv += ["--size", "32x48", "--out", str(tmp_path), "--contact-sheet"]
    for _ in range(2):
        assert main(argv) == 0
    sheet = tmp_path / "contact_sheet.png"
    with Image.open(sheet) as picture:
        picture.load()
        assert picture.width == 8 * 48
        picture.save(sheet)
    mine = sheet.read_bytes()
    with pytest.raises(UserError, match=f"{sheet}: exists and was not written by this command"):
        main(argv)
    assert sheet.read_bytes() == mine


def test_a_video_is_written_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    link = tmp_path / "copy.mp4"
    link.symlink_to(target)
    write_video(link, np.zeros((2, 32, 48, 3), np.uint8), fps=25)
    assert link.is_symlink()
    with av.open(str(target)) as container:
        assert len(list(container.decode(video=0))) == 2
    (tmp_path / "resolved.yaml").write_text("")
    with pytest.raises(UserError, match="is a symbolic link"):
        write_video(link, np.zeros((2, 32, 48, 3), np.uint8), fps=25)
