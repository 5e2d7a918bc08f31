"""Commands beside training and prediction take videos at addresses and in archives."""

from __future__ import annotations

import csv
import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nightcrawler.cli import pose, show
from nightcrawler.config.node import get_cfg
from nightcrawler.data.build import build_eval_set
from nightcrawler.data.fingerprint import hash_ends
from nightcrawler.data.video.decode import FileReader, read_frames
from nightcrawler.data.video.integrity.checksums import ChecksumReader, read_checksums
from nightcrawler.download import videos
from nightcrawler.pose.files import read_pose, write_pose
from nightcrawler.predict import doctor_checks
from nightcrawler.prepare.audit import audit
from nightcrawler.prepare.missing_poses import build_missing_poses
from nightcrawler.prepare.sources import read_source
from nightcrawler.utils import command_line
from nightcrawler.utils.errors import VideoError
from tests import tiny
from tests.download.conftest import HASTE
from tests.download.server import Site
from tests.download.test_videos import write_tar
from tests.prepare.test_extract_poses import dots, walk

DOTS = ("--estimator", "dots", "--imports", "tests.pose.estimators", "--light", "none")


@pytest.fixture
def data(tmp_path: Path, site: Site, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A list of a file, a member of an archive, two addresses, and an address of nothing."""
    monkeypatch.setattr(videos, "PATIENCE", HASTE)
    folder = tmp_path / "data"
    (folder / "Test").mkdir(parents=True)
    content = Path(dots(folder / "Test/a.mp4", walk(20))).read_bytes()
    write_tar(folder / "Test/x.tar", {"b.mp4": content})
    site.files["/c.mp4"] = content
    site.files["/x.tar"] = (folder / "Test/x.tar").read_bytes()
    names = ("a.mp4", "x.tar::b.mp4", *addresses_of(site), f"{site.address}/gone.mp4")
    tiny.write_rows(folder / "test.csv", [(name, -1) for name in names])
    return folder


def addresses_of(site: Site) -> tuple[str, str]:
    return f"{site.address}/c.mp4", f"{site.address}/x.tar::b.mp4"


def test_an_audit_measures_them_and_continues(
    data: Path, site: Site, cache: Path, tmp_path: Path
) -> None:
    rows = audit([read_source(data / "test.csv")], tmp_path / "audit", 1)
    assert [row.path for row in rows[2:]] == [*addresses_of(site), f"{site.address}/gone.mp4"]
    assert [row.status for row in rows] == ["ok"] * 4 + ["bad"]
    for row in rows[1:4]:
        assert replace(row, path="", mtime_ns=0) == replace(rows[0], path="", mtime_ns=0)
    assert "answers with status 404" in rows[4].cause
    site.files["/gone.mp4"] = site.files.pop("/c.mp4")
    shutil.rmtree(cache)
    again = audit([read_source(data / "test.csv")], tmp_path / "audit", 1)
    assert again[:4] == rows[:4], "what was measured is not fetched again"
    assert again[4].status == "ok"


def test_poses_that_are_there_are_not_made_again(data: Path, site: Site, cache: Path) -> None:
    """Also where the videos have made room for others."""
    out = data / "poses"
    argv = ["extract", str(data / "test.csv"), str(out), *DOTS]
    assert command_line.run(pose.main, argv) == 3
    files = [out / f"{name}.pose.npz" for name in ("a.mp4", "x.tar::b.mp4", *addresses_of(site))]
    assert len({file.read_bytes() for file in files}) == 1
    before = [file.stat().st_mtime_ns for file in files]
    shutil.rmtree(cache)
    site.files.clear()
    assert command_line.run(pose.main, argv) == 3
    assert [file.stat().st_mtime_ns for file in files] == before
    with open(out / "poses.csv", newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok"] * 4 + ["failed"]


def test_missing_poses_are_made_and_read(data: Path, site: Site) -> None:
    cfg = get_cfg()
    given = ("DATA.PATH_PREFIX", str(data), "DATA.INPUT", "pose", "POSE.LIGHT", "none")
    given += ("IMPORTS", ["tests.pose.estimators"], "POSE.ESTIMATOR", "dots")
    cfg.merge_from_list([*given, "MODEL.NUM_CLASSES", 11])
    build_missing_poses(cfg, ["test"], 1)
    found = build_eval_set(cfg, "test", "TEST", [(1, 1)])
    fingerprint = hash_ends(data / "Test/a.mp4")
    for item in found.items[:4]:
        assert read_pose(item.path).fingerprint == fingerprint
    assert not found.items[4].path.exists()


def test_they_are_shown_with_their_poses(
    data: Path, site: Site, tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = command_line.run(pose.main, ["extract", str(data / "test.csv"), str(tmp_path), *DOTS])
    assert made == 3
    shutil.rmtree(cache)
    file = tmp_path / "a.mp4.pose.npz"
    for name in (str(data / "Test/x.tar::b.mp4"), *addresses_of(site)):
        argv = [name, "--only", "gamma", "--poses", str(file), "--out", str(tmp_path / "a.png")]
        assert command_line.run(show.main, argv) == 0
    argv[0] = f"{site.address}/gone.mp4"
    assert command_line.run(show.main, argv) in (2, 3)
    assert f"{site.address}/gone.mp4: answers with status 404" in capsys.readouterr().err
    write_pose(file, replace(read_pose(file), fingerprint="0"))
    argv[0] = addresses_of(site)[0]
    assert command_line.run(show.main, argv) == 2
    assert f"is the pose of another video than {argv[0]}" in capsys.readouterr().err


def test_the_doctor_does_not_miss_them(data: Path) -> None:
    found = doctor_checks.check_split(data, "test")
    assert found.ok
    assert found.found.endswith("test.csv: 3 of 5 videos are at addresses; 2 of 2 videos are there")
    (data / "Test/x.tar").unlink()
    lost = doctor_checks.check_split(data, "test")
    assert not lost.ok
    assert lost.found.endswith("1 of 2 videos are there, not 'x.tar::b.mp4'")


def test_their_checksums_are_compared(data: Path, site: Site, tmp_path: Path) -> None:
    digest = hashlib.sha256((data / "Test/a.mp4").read_bytes()).hexdigest()
    names = ("Test/a.mp4", "Test/x.tar::b.mp4", *addresses_of(site))
    sums = data / "sums"
    sums.write_text("".join(f"{digest}  {name}\n" for name in names))
    reader = ChecksumReader(FileReader(), read_checksums(sums, data))
    for name in names:
        path = name if name.startswith("http") else str(data / name)
        assert len(read_frames(reader, path, range).frames) == 20
    sums.write_text(f"{digest[::-1]}  {names[2]}\n")
    reader = ChecksumReader(FileReader(), read_checksums(sums, data))
    with pytest.raises(VideoError, match=f"{names[2]}: damaged: its bytes are not those"):
        read_frames(reader, names[2], range)
