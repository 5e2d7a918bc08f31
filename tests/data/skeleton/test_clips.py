"""Clips of skeletons: windows, steps, cameras, and what a normalisation keeps."""

from __future__ import annotations

import numpy as np
import pytest

from nightcrawler.data.skeleton.clips import (
    eval_clips,
    film_if_world,
    fixed_window,
    normalise,
    random_window,
    resample,
)
from nightcrawler.data.skeleton.track import to_track
from nightcrawler.pose.filming import film
from tests.data.skeleton.files import motion, picture_pose, pictured, world_pose


def test_windows_lie_within_the_track() -> None:
    rng = np.random.default_rng(0)
    starts = {int(random_window(50, rng, 20)[0]) for _ in range(500)}
    assert starts == set(range(31))
    assert random_window(5, rng, 20).tolist() == [0, 1, 2, 3, 4]
    assert fixed_window(50, 0, 1, length=20).tolist() == list(range(15, 35))
    assert [int(fixed_window(50, view, 3, length=20)[0]) for view in range(3)] == [0, 15, 30]
    assert fixed_window(5, 1, 3, length=20).tolist() == [0, 1, 2, 3, 4]


def test_steps_are_evenly_spread_and_lost_ones_have_no_confidence() -> None:
    frames = np.ones((12, 13, 3))
    frames[..., 0] = np.arange(12)[:, None]
    whole = resample(frames, 4, 12)
    np.testing.assert_allclose(whole[:, 0, 0], [1, 4, 7, 10])
    np.testing.assert_allclose(whole[..., 2], 1)
    late = resample(frames, 4, 24, offset=12)
    np.testing.assert_allclose(late[:, 0, 0], [0, 0, 2.5, 8.5])
    np.testing.assert_allclose(late[:, 0, 2], [0, 0, 1, 1])
    fast = resample(frames, 4, 12, pace=2)
    np.testing.assert_allclose(fast[:, 0, 0], [2, 8, 11, 11])
    np.testing.assert_allclose(fast[:, 0, 2], [1, 1, 0, 0])


def test_normalised_steps_do_not_depend_on_place_and_size() -> None:
    steps = pictured(motion(1))
    moved = steps * [3, 3, 1] + [500, -70, 0]
    np.testing.assert_allclose(normalise(moved), normalise(steps), atol=1e-9)
    found = normalise(steps)
    heights = np.ptp(found[..., 1], axis=1)
    assert np.median(heights) == pytest.approx(1)
    hips = found[:, 7:9, :2].mean(axis=1)
    np.testing.assert_allclose(np.median(hips, axis=0), 0, atol=1e-9)
    # The way of one who walks is kept: more than a height in two seconds.
    assert np.ptp(hips[:, 0]) > 1


def test_steps_without_a_person_do_not_normalise() -> None:
    steps = pictured(motion(0))
    lost = steps.copy()
    lost[:20] = [9000, 9000, 0]
    lost[:20, 3] = [0, 0, 0]
    np.testing.assert_allclose(normalise(lost)[20:], normalise(steps[20:]), atol=1e-9)


def test_one_who_lies_is_not_blown_up() -> None:
    steps = pictured(motion(0))
    lying = steps[..., [1, 0, 2]]
    lying[..., 1] = 0
    assert np.abs(normalise(lying)[..., :2]).max() < 3.1
    assert np.isfinite(normalise(np.zeros((4, 13, 3)))).all()


def test_motions_are_filmed_and_pictures_are_left() -> None:
    frames = to_track(world_pose(1))
    filmed = film_if_world(frames, np.random.default_rng(3))
    np.testing.assert_allclose(filmed, film(frames[..., :3], np.random.default_rng(3)))
    frames[4, 5, 3] = 0
    assert film_if_world(frames, np.random.default_rng(3))[4, 5, 2] == 0
    picture = to_track(picture_pose(1))
    assert film_if_world(picture, np.random.default_rng(3)) is picture


@pytest.mark.parametrize("pose", [picture_pose, world_pose])
def test_clips_of_evaluation_are_the_same_every_time(pose) -> None:
    frames = to_track(pose(2))
    first = eval_clips(frames, 1, num_steps=48, length=60)
    assert first.shape == (1, 3, 48, 13)
    assert first.dtype.is_floating_point
    assert bool((first == eval_clips(frames.copy(), 1, num_steps=48, length=60)).all())
    # Two seconds in the middle of four.
    seen = first[0, 2].amax(dim=1) > 0
    assert seen.nonzero().flatten().tolist() == list(range(12, 36))
