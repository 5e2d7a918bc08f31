"""Pose files as videos of joints: frames, files that cannot be read, and nobody."""

from __future__ import annotations

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.data.skeleton import reader as module
from nightcrawler.data.skeleton.reader import PoseReader
from nightcrawler.data.skeleton.track import to_track
from nightcrawler.data.video.decode import read_frames
from nightcrawler.pose.files import write_pose
from nightcrawler.utils.errors import NoPersonError, VideoError
from tests.data.skeleton.files import nobody, picture_pose, pictured


def saved(folder: Path, pose=None) -> str:
    path = folder / "a.mp4.pose.npz"
    write_pose(path, pose or picture_pose(1))
    return str(path)


def test_frames_are_those_of_the_track(tmp_path: Path) -> None:
    decoded = read_frames(PoseReader(), saved(tmp_path), lambda count: [0, 7, count - 1])
    track = to_track(picture_pose(1))
    assert (decoded.num_frames, decoded.fps) == (30, 15.0)
    np.testing.assert_array_equal(decoded.frames, track[[0, 7, 29]])
    assert decoded.frames.dtype == np.float32


def test_a_missing_and_a_damaged_file_are_video_errors(tmp_path: Path) -> None:
    for name, content in (("none.pose.npz", None), ("bad.pose.npz", b"PK\x03\x04 nothing")):
        path = tmp_path / name
        if content:
            path.write_bytes(content)
        with pytest.raises(VideoError, match="nightcrawler pose extract") as caught:
            PoseReader().probe(str(path))
        assert str(caught.value).count(str(path)) == 1
        assert caught.value.status.startswith("error: ")


def test_somebody_who_is_upside_down_is_nobody(tmp_path: Path) -> None:
    points = picture_pose(1).points.copy()
    points[..., 1] = 240 - points[..., 1]
    with pytest.raises(NoPersonError, match="what was seen is upside down"):
        PoseReader().probe(saved(tmp_path, picture_pose(1, points=points)))
    # For less than half of the time.
    points[:, 14:] = picture_pose(1).points[:, 14:]
    assert PoseReader().probe(saved(tmp_path, picture_pose(1, points=points)))


def test_frames_that_are_minutes_apart_are_refused_before_memory_is_asked_for(
    tmp_path: Path,
) -> None:
    """80 frames in a day would be a million steps; at half a frame a second they are 2371."""
    points = np.repeat(picture_pose(0).points[:, :1], 80, axis=1)
    path = saved(tmp_path, picture_pose(0, points=points, fps=0.001))
    tracemalloc.start()
    with pytest.raises(VideoError, match=r"has 0.001 frames a second, expected 0.5 or more"):
        PoseReader().probe(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    path = saved(tmp_path, picture_pose(0, points=points, fps=0.5))
    assert PoseReader().probe(path).num_frames == 79 * 30 + 1


def test_nobody_is_no_fault(tmp_path: Path) -> None:
    short = pictured(np.zeros((30, 13, 3)))[None].astype(np.float32)
    short[0, 3:] = np.nan
    for pose in (nobody(), picture_pose(0, points=short)):
        with pytest.raises(NoPersonError) as caught:
            PoseReader(least_seconds=0.25).probe(saved(tmp_path, pose))
        assert caught.value.status == "no person"
        # As a loader's process sends it to the trainer.
        kind, values = caught.value.__reduce__()
        assert kind(*values).status == "no person"
    assert PoseReader(least_seconds=0.2).probe(saved(tmp_path, picture_pose(0, points=short)))
    with pytest.raises(NoPersonError):
        PoseReader(least_seconds=0).probe(saved(tmp_path, nobody()))
    path = saved(tmp_path, picture_pose(0, points=np.zeros((0, 30, 13, 3), np.float32)))
    with pytest.raises(NoPersonError):
        PoseReader().probe(path)


def test_a_file_is_read_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path)
    reads = []
    monkeypatch.setattr(
        module, "read_pose", lambda path, read=module.read_pose: reads.append(path) or read(path)
    )
    # A file that changed just now may change again without another time.
    PoseReader().probe(path)
    PoseReader().probe(path)
    assert len(reads) == 2
    monkeypatch.setattr("nightcrawler.data.video.integrity.file_identity.time.time", lambda: 4e9)
    PoseReader().probe(path)
    PoseReader().probe(path)
    assert len(reads) == 3
    os.utime(path, (1e9, 1e9))
    PoseReader().probe(path)
    assert len(reads) == 4
