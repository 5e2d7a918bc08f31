import csv
import re

import numpy as np
import pytest

from nightcrawler.cli import main, pose
from nightcrawler.pose.files import read_pose
from nightcrawler.utils import command_line
from tests.download.test_videos import write_tar
from tests.pose.estimators import BUG, CRASH, HANG, SHAPE
from tests.prepare.test_extract_poses import dots, walk

DOTS = ("--estimator", "dots", "--imports", "tests.pose.estimators", "--light", "none")


def extract(*argv):
    return command_line.run(pose.main, ["extract", *map(str, argv)])


def table(out):
    with open(out / "poses.csv", newline="") as file:
        return {row["path"]: row for row in csv.DictReader(file)}


@pytest.fixture
def clips(tmp_path):
    (tmp_path / "clips/Walk").mkdir(parents=True)
    for name in ("a", "b"):
        dots(tmp_path / f"clips/Walk/{name}.mp4", walk(20))
    return tmp_path / "clips"


def test_one_that_crashes_hangs_or_fails_is_a_row_and_the_others_go_on(clips, tmp_path, capfd):
    for name, corner in (("crash", CRASH), ("hang", HANG), ("bug", BUG), ("shape", SHAPE)):
        dots(clips / f"{name}.mp4", walk(20), corner=corner)
    dots(clips / "empty.mp4", [None] * 20)
    (clips / "text.mp4").write_text("no video")
    assert extract(clips, tmp_path / "out", *DOTS, "--jobs", 2, "--timeout", 6) == 3
    rows = table(tmp_path / "out")
    assert {name: row["status"] for name, row in rows.items()} == {
        "Walk/a.mp4": "ok",
        "Walk/b.mp4": "ok",
        "bug.mp4": "failed",
        "crash.mp4": "failed",
        "empty.mp4": "no person",
        "hang.mp4": "failed",
        "shape.mp4": "failed",
        "text.mp4": "failed",
    }
    assert "took more than 6 s" in rows["hang.mp4"]["reason"]
    assert "SIGSEGV" in rows["crash.mp4"]["reason"]
    assert rows["bug.mp4"]["reason"] == "estimator 'dots' failed (ZeroDivisionError: no such)"
    assert "dots 1 gives points of shape [1, 3, 17, 3]" in rows["shape.mp4"]["reason"]
    assert "not a video" in rows["text.mp4"]["reason"]
    said = capfd.readouterr()
    assert "2 of 8 videos show a person" in said.out
    assert "5 failed:" in said.out
    assert "Traceback" not in said.err
    written = sorted(path.name for path in (tmp_path / "out").rglob("*.npz"))
    assert written == ["a.mp4.pose.npz", "b.mp4.pose.npz", "empty.mp4.pose.npz"]


def test_only_what_is_missing_or_changed_is_made(clips, tmp_path, capsys):
    out = tmp_path / "out"
    assert extract(clips, out, *DOTS, "--jobs", 1) == 0
    first = {path: path.stat().st_mtime_ns for path in out.rglob("*.npz")}
    found = read_pose(out / "Walk/a.mp4.pose.npz")
    assert found.source == "dots 1; none; 15 fps, 2 people, crops; rules 4"
    assert re.fullmatch(r"[0-9a-f]{64}", found.fingerprint)
    dots(clips / "Walk/b.mp4", walk(30))
    (out / "Walk/a.mp4.pose.npz").touch()
    capsys.readouterr()
    assert extract(clips, out, *DOTS) == 0
    assert "1 videos have their poses" in capsys.readouterr().out
    assert read_pose(out / "Walk/b.mp4.pose.npz").num_frames == 15
    assert {row["frames"] for row in table(out).values()} == {"10", "15"}
    # Another release, another number of frames.
    for change in (("--model", ".1"), ("--fps", 30)):
        assert extract(clips, out, *DOTS, *change) == 0
        assert "have their poses" not in capsys.readouterr().out
    assert read_pose(out / "Walk/b.mp4.pose.npz").num_frames == 30
    assert set(first) == set(out.rglob("*.npz"))


def test_light_is_part_of_the_source(clips, tmp_path, capsys):
    """Poses of another light, or of frames as recorded, are made anew."""
    for options, light in (
        ((), "auto_gamma 64, means of 3 frames"),
        (("--target-mean", 80), "auto_gamma 80, means of 3 frames"),
        (("--light", "gamma", "--denoise-frames", 1), "gamma 0.4"),
        (("--light", "clahe", "--denoise-frames", 5), "clahe, means of 5 frames"),
    ):
        assert extract(clips, tmp_path / "out", *DOTS[:-2], *options) == 0
        assert "have their poses" not in capsys.readouterr().out
        source = read_pose(tmp_path / "out/Walk/a.mp4.pose.npz").source
        assert source == f"dots 1; {light}; 15 fps, 2 people, crops; rules 4"


def test_the_largest_picture_is_an_option(clips, tmp_path):
    assert extract(clips, tmp_path / "out", *DOTS, "--max-pixels", 1000) == 3
    assert all("over the limit" in row["reason"] for row in table(tmp_path / "out").values())


def test_a_list_is_read_as_everywhere(clips, tmp_path):
    (clips / "mine.csv").write_text("path,label\nWalk/a.mp4,3\n")
    assert extract(clips / "mine.csv", tmp_path / "out", *DOTS) == 0
    assert list(table(tmp_path / "out")) == ["Walk/a.mp4"]
    joints = read_pose(tmp_path / "out/Walk/a.mp4.pose.npz").points
    assert np.isfinite(joints).all()


def test_members_of_archives_have_the_poses_of_their_files(clips, tmp_path, monkeypatch):
    """A list may name them as everywhere; a repeated command finds their poses."""
    monkeypatch.setenv("NIGHTCRAWLER_CACHE", str(tmp_path / "cache"))
    write_tar(clips / "clips.tar", {"a.mp4": (clips / "Walk/a.mp4").read_bytes()})
    (clips / "mine.csv").write_text("clips.tar::a.mp4,3\nWalk/a.mp4,3\nclips.tar::none.mp4,3\n")
    assert extract(clips / "mine.csv", tmp_path / "out", *DOTS) == 3
    rows = table(tmp_path / "out")
    assert [row["status"] for row in rows.values()] == ["ok", "ok", "failed"]
    assert "no regular file 'none.mp4'" in rows["clips.tar::none.mp4"]["reason"]
    member, file = (tmp_path / f"out/{name}.pose.npz" for name in list(rows)[:2])
    assert member.read_bytes() == file.read_bytes()
    before = member.stat().st_mtime_ns
    assert extract(clips / "mine.csv", tmp_path / "out", *DOTS) == 3
    assert member.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--estimator", "dot"), "unknown estimator 'dot'"),
        (("--estimator", "mediapipe"), "'mediapipe' needs the extra pose: python -m pip install"),
        (("--light", "gama"), "unknown enhancement 'gama'"),
        (("--light", "gamma", "--gamma", "-1"), "ENHANCE.GAMMA"),
        (("--gamma", "0.3"), "--gamma is of gamma: give --light gamma"),
        (
            ("--light", "gamma", "--target-mean", "90"),
            "--target-mean is of auto_gamma: give --light auto_gamma",
        ),
        (("--light", "clahe", "--denoise-frames", "2"), "ENHANCE.DENOISE_FRAMES"),
        (("--light", "none", "--denoise-frames", "3"), "--denoise-frames goes with an enhancement"),
        (("--fps", "0"), "--fps 0: expected 0.5 or more"),
        (("--imports", "no_such_module"), "no module named 'no_such_module'"),
    ],
)
def test_what_cannot_work_is_told_at_once_in_one_line(
    clips, tmp_path, capfd, monkeypatch, argv, message
):
    # The process of its own imports what it finds on this path: without the extra, nothing.
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/sitecustomize.py").write_text(
        "import importlib.util as u\nfound = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'mediapipe' else found(name, *rest)\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}/hidden")
    monkeypatch.syspath_prepend(tmp_path / "hidden")
    assert extract(clips, tmp_path / "out", *DOTS[2:], *argv) == 2
    said = capfd.readouterr()
    assert message in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_table_of_the_user_is_not_replaced(clips, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/poses.csv").write_text("my,own\n")
    assert extract(clips, tmp_path / "out", *DOTS) == 2
    assert "exists and was not written by pose extract" in capsys.readouterr().err
    assert (tmp_path / "out/poses.csv").read_text() == "my,own\n"


def test_poses_are_not_written_among_the_videos(clips, capsys):
    assert extract(clips, clips / "poses", *DOTS) == 2
    assert "is inside" in capsys.readouterr().err


def test_help_names_the_estimators(capsys):
    with pytest.raises(SystemExit):
        main.main(["pose", "extract", "--help"])
    assert "mediapipe" in capsys.readouterr().out
