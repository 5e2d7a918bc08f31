import numpy as np
import pytest

from nightcrawler.pose import disturb as module
from nightcrawler.pose.disturb import DISTURBANCES, disturb
from nightcrawler.pose.layouts import HIPS, MIRRORED

SEEDS = range(40)


def walking(num_frames=30):
    """A figure of height 100 that moves to the right."""
    heights = [0, 20, 20, 40, 40, 50, 50, 52, 52, 76, 76, 100, 100]
    joints = np.zeros((num_frames, 13, 2))
    joints[..., 1] = heights
    joints[..., 0] = np.linspace(0, 200, num_frames)[:, None] + np.arange(13) * 1.5
    # Hands swing, so that a straight line is a change.
    joints[:, 5:7, 1] += 8 * np.sin(np.arange(num_frames))[:, None]
    return joints


def changes_of(disturbance):
    """The change of each joint by several generators, of those that change anything."""
    found = []
    for seed in SEEDS:
        change = disturbance(walking(), 100.0, np.random.default_rng(seed)) - walking()
        if np.abs(change).max() > 1e-9:
            found.append(change)
    return found


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda one: one.__name__)
def test_every_disturbance_acts_repeatably_and_leaves_its_input_alone(disturbance):
    assert len(changes_of(disturbance)) >= 5
    before = walking()
    one = disturbance(before, 100.0, np.random.default_rng(3))
    two = disturbance(walking(), 100.0, np.random.default_rng(3))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(before, walking())


@pytest.mark.parametrize("disturbance", DISTURBANCES, ids=lambda one: one.__name__)
@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 7])
def test_short_tracks_stay_tracks(disturbance, num_frames):
    for seed in range(20):
        changed = disturbance(walking(num_frames), 100.0, np.random.default_rng(seed))
        assert changed.shape == (num_frames, 13, 2)
        assert np.isfinite(changed).all()


def test_jitter_is_independent_and_wandering_is_not():
    def likeness(change):
        return np.mean(change[1:] * change[:-1]) / np.mean(change * change)

    assert abs(np.mean([likeness(change) for change in changes_of(module.jitter)])) < 0.1
    assert np.mean([likeness(change) for change in changes_of(module.wander)]) > 0.7


def test_a_camera_that_follows_or_shakes_moves_all_joints_alike():
    for disturbance in (module.follow, module.shake):
        for change in changes_of(disturbance):
            np.testing.assert_allclose(change, change[:, :1].repeat(13, axis=1), atol=1e-9)
    for change in changes_of(module.follow):
        # The figure goes to the right, so a camera that follows takes from its way.
        assert change[-1, 0, 0] < -20


def test_sides_are_swapped_in_one_stretch():
    for change in changes_of(module.swap_sides):
        swapped = walking()[:, MIRRORED] - walking()
        frames = np.flatnonzero(np.abs(change).max(axis=(1, 2)) > 0)
        assert frames.tolist() == list(range(frames[0], frames[-1] + 1))
        np.testing.assert_allclose(change[frames], swapped[frames])


def test_guessed_legs_hang_below_the_hips():
    for change in changes_of(module.guess_legs):
        joints = walking() + change
        np.testing.assert_array_equal(joints[:, :9], walking()[:, :9])
        assert np.abs(joints[:, 9:11, 0] - joints[:, HIPS, 0]).max() < 20
        assert np.abs(np.diff(joints[:, 11] - joints[:, 7], axis=0)).max() < 10


def test_a_gap_is_a_straight_line():
    for change in changes_of(module.bridge_gap):
        joints = walking() + change
        frames = np.flatnonzero(np.abs(change).max(axis=(1, 2)) > 1e-9)
        gap = joints[frames[0] - 1 : frames[-1] + 2]
        np.testing.assert_allclose(np.diff(gap, n=2, axis=0), 0, atol=1e-9)
        assert len(frames) < 10


def test_confidence_stays():
    joints = np.concatenate([walking(), np.full((30, 13, 1), 0.4)], axis=2).astype(np.float32)
    found = disturb(joints, np.random.default_rng(0))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[..., 2], joints[..., 2])
    assert 0.1 < np.abs(found - joints).max() < 400
