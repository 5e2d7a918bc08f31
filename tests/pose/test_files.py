from dataclasses import replace

import numpy as np
import pytest

from nightcrawler.pose.files import Pose, read_pose, write_pose
from nightcrawler.utils.errors import UserError


def made_pose():
    points = np.random.default_rng(0).normal(size=(2, 7, 17, 3)).astype(np.float32)
    points[1, 3:] = np.nan
    return Pose(points, 29.97, "coco17", "picture", 320, 240, "rtmpose", "abc")


def test_a_pose_comes_back_as_it_was(tmp_path):
    write_pose(tmp_path / "a.pose.npz", made_pose())
    read = read_pose(tmp_path / "a.pose.npz")
    np.testing.assert_array_equal(read.points, made_pose().points)
    assert (read.fps, read.layout, read.space) == (29.97, "coco17", "picture")
    assert (read.width, read.height, read.source, read.fingerprint) == (320, 240, "rtmpose", "abc")


def test_second_looks_come_back_and_files_without_them_are_read(tmp_path):
    write_pose(tmp_path / "a.pose.npz", replace(made_pose(), seen_again=(0.5, float("nan"))))
    first, second = read_pose(tmp_path / "a.pose.npz").seen_again
    assert first == 0.5
    assert np.isnan(second)
    write_pose(tmp_path / "b.pose.npz", made_pose())
    assert read_pose(tmp_path / "b.pose.npz").seen_again == ()


def test_equal_poses_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_pose(tmp_path / name, made_pose())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_damaged_byte_is_found_or_harmless(tmp_path):
    write_pose(tmp_path / "a.pose.npz", made_pose())
    whole = (tmp_path / "a.pose.npz").read_bytes()
    changed = 0
    for position in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[position] ^= 0x55
        (tmp_path / "b.pose.npz").write_bytes(damaged)
        try:
            read = read_pose(tmp_path / "b.pose.npz")
        except UserError:
            continue
        changed += not np.array_equal(read.points, made_pose().points, equal_nan=True)
    assert changed == 0


def test_a_missing_file_and_another_file_are_told(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_pose(tmp_path / "none.pose.npz")
    (tmp_path / "text.pose.npz").write_text("joints")
    with pytest.raises(UserError, match="is no pose file"):
        read_pose(tmp_path / "text.pose.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": np.zeros((3, 17, 3))}, r"expected \[P, T, 17, 3\]"),
        ({"seen_again": (0.5,)}, "1 people were seen again, expected 2"),
        ({"seen_again": (0.5, -1.0)}, "expected 0 to 1"),
        ({"fps": 0.0}, "fps is 0.0"),
        ({"space": "air"}, "expected picture or world"),
        ({"fps": 1e-7}, "last longer than 24 hours"),
        ({"layout": "coco"}, "'coco' is unknown"),
    ],
)
def test_values_that_make_no_pose_are_refused(change, message):
    with pytest.raises(UserError, match=message):
        Pose(**{**vars(made_pose()), **change})


def test_damage_of_the_video_is_kept_and_files_of_sound_ones_stay_as_they_were(tmp_path):
    write_pose(tmp_path / "a.pose.npz", replace(made_pose(), damage="1.0 s lost"))
    assert read_pose(tmp_path / "a.pose.npz").damage == "1.0 s lost"
    write_pose(tmp_path / "b.pose.npz", made_pose())
    assert read_pose(tmp_path / "b.pose.npz").damage == ""
    assert b"damage" not in (tmp_path / "b.pose.npz").read_bytes()
