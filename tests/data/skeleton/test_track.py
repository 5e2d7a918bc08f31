"""Tracks: interpolation, gaps, joints that are never seen, and the rate."""

from __future__ import annotations

import numpy as np
import pytest

from nightcrawler.data.skeleton.track import (
    RATE,
    found_joints,
    interpolate,
    seconds_seen,
    smooth,
    to_track,
)
from nightcrawler.pose.files import PICTURE, WORLD, Pose
from tests.data.skeleton.files import motion, picture_pose, pictured, world_pose


def test_interpolation_is_that_of_numpy() -> None:
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 10, 9))
    values = rng.normal(size=(9, 2, 3))
    at = rng.uniform(-2, 12, 40)
    found = interpolate(values, times, at)
    for joint in range(2):
        for axis in range(3):
            expected = np.interp(at, times, values[:, joint, axis])
            np.testing.assert_allclose(found[:, joint, axis], expected, atol=1e-12)


def test_one_frame_is_repeated() -> None:
    assert interpolate(np.ones((1, 2)), np.zeros(1), np.arange(3.0)).shape == (3, 2)


def test_a_track_has_the_rate_whatever_the_video_has() -> None:
    for fps in (10.0, 15.0, 29.97, 240.0):
        count = round(2 * fps) + 1
        points = np.repeat(pictured(motion(0, 1)), count, axis=0)
        points[:, :, 0] += np.linspace(0, 60, count)[:, None]
        track = to_track(picture_pose(0, points=points[None].astype(np.float32), fps=fps))
        assert len(track) == int((count - 1) / fps * RATE + 1e-6) + 1
        speed = np.diff(track[5:-5, 0, 0]) * RATE
        np.testing.assert_allclose(speed, 60 * fps / (count - 1), rtol=1e-3)


def test_nobody_at_the_ends_is_cut_off_and_a_gap_is_bridged_without_confidence() -> None:
    points = pictured(motion(1))[None].astype(np.float32)
    points[0, :4] = np.nan
    points[0, 26:] = np.nan
    points[0, 10:14] = np.nan
    track = to_track(picture_pose(1, points=points))
    assert len(track) == 25 - 4 + 1
    assert np.isfinite(track).all()
    # Frames 10 to 13 are steps 6 to 9 after the first one, frame 4.
    assert (track[6:10, :, 2] == 0).all()
    assert (track[[*range(6), *range(10, 22)], :, 2] == 1).all()
    hips = track[:, 7, 0]
    np.testing.assert_allclose(np.diff(hips[5:11]), np.diff(hips[5:11]).mean(), atol=2)


def test_a_joint_that_is_never_seen_is_among_the_others_without_confidence() -> None:
    points = pictured(motion(0))[None].astype(np.float32)
    points[0, :, 11] = np.nan
    track = to_track(picture_pose(0, points=points))
    others = np.delete(track[..., :2], 11, axis=1)
    np.testing.assert_allclose(track[:, 11, :2], others.mean(axis=1), rtol=1e-5)
    assert (track[:, 11, 2] == 0).all()


def test_a_motion_keeps_its_three_dimensions() -> None:
    track = to_track(world_pose(1))
    assert track.shape == (30, 13, 4)
    np.testing.assert_allclose(track[..., :3], motion(1), atol=1e-6)
    assert (track[..., 3] == 1).all()


@pytest.mark.parametrize("layout", ["blazepose33", "coco17", "kinect20"])
def test_every_layout_becomes_the_body(layout: str) -> None:
    joints = {"blazepose33": 33, "coco17": 17, "kinect20": 20}[layout]
    points = np.random.default_rng(0).normal(size=(2, 8, joints, 3)).astype(np.float32)
    assert to_track(Pose(points, 30.0, layout, WORLD)).shape == (4, 13, 4)


def test_smoothing_keeps_straight_ways_and_lowers_jitter() -> None:
    way = np.arange(20.0)[:, None, None] * np.ones((1, 2, 2))
    np.testing.assert_allclose(smooth(way)[2:-2], way[2:-2])
    jitter = np.random.default_rng(0).normal(size=(4000, 1, 1))
    # Root of the sum of the squared weights.
    assert smooth(jitter).std() == pytest.approx(0.375**0.5, rel=0.05)


def test_joints_are_found_where_an_estimator_is_not_without_confidence() -> None:
    points = np.full((1, 5, 13, 3), np.nan, np.float32)
    points[0, 2, 3] = [4, 5, 0.1]
    points[0, 3] = [4, 5, 0]
    points[0, 4] = 1
    in_picture = Pose(points, 10.0, "body", PICTURE)
    assert found_joints(points[0], PICTURE).sum(axis=1).tolist() == [0, 0, 1, 0, 13]
    assert found_joints(points[0], WORLD).sum(axis=1).tolist() == [0, 0, 1, 13, 13]
    assert (seconds_seen(in_picture), seconds_seen(Pose(points, 10.0, "body", WORLD))) == (0.2, 0.3)
