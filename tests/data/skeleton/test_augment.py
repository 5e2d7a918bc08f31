"""Augmentation of skeletons: each switch does what it says, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from nightcrawler.data.skeleton.augment import (
    PoseTransform,
    crop_time,
    draw_factor,
    drop_joints,
    mirror,
)
from nightcrawler.data.skeleton.clips import normalise
from nightcrawler.data.skeleton.track import to_track
from nightcrawler.pose.disturb import disturb
from nightcrawler.pose.layouts import BODY_JOINTS
from tests.data.skeleton.files import motion, picture_pose, pictured, world_pose

WALK = torch.from_numpy(to_track(picture_pose(1)))
PEOPLE_WALK = torch.from_numpy(to_track(world_pose(1)))


def clips(frames: torch.Tensor, count: int = 40, **options: Any) -> np.ndarray:
    """[S, 3, T, 13] of as many generators."""
    transform = PoseTransform(**{"num_steps": 30, "length": 30, **options})
    rngs = [np.random.default_rng([7, number]) for number in range(count)]
    return transform(frames, rngs).numpy()


def test_without_any_switch_a_picture_stays_as_it_is() -> None:
    plain = normalise(WALK.numpy()).transpose(2, 0, 1)
    for clip in clips(WALK, 3):
        np.testing.assert_allclose(clip, plain, atol=1e-5)


def test_the_same_generators_give_the_same_clips() -> None:
    options = {
        "disturb_prob": 1.0,
        "warp": 0.3,
        "least_share": 0.5,
        "stretch": 0.2,
        "flip_prob": 0.5,
        "joint_drop": 0.2,
    }
    first = clips(PEOPLE_WALK, 5, **options)
    np.testing.assert_array_equal(first, clips(PEOPLE_WALK, 5, **options))
    assert np.isfinite(first).all()
    assert len({clip.tobytes() for clip in first}) == 5


def test_motions_are_seen_from_every_side() -> None:
    """One who walks goes to the left, to the right, to the camera and away from it."""
    found = clips(PEOPLE_WALK, 80)
    hips = found[:, 0, :, 7:9].mean(axis=2)
    ways = hips[:, -1] - hips[:, 0]
    assert ways.min() < -1
    assert ways.max() > 1
    heights = np.ptp(found[:, 1], axis=2)
    grows = heights[:, -3:].mean(axis=1) / heights[:, :3].mean(axis=1)
    assert grows.min() < 0.85
    assert grows.max() > 1.15


def test_disturbances_are_those_of_the_estimators() -> None:
    plain = clips(WALK)
    assert np.array_equal(clips(WALK, disturb_prob=1.0), plain)
    disturbed = clips(WALK, disturb_estimates_prob=1.0)
    changed = [not np.allclose(a, b, atol=0.01) for a, b in zip(disturbed, plain, strict=True)]
    assert all(changed)
    half = clips(WALK, 200, disturb_estimates_prob=0.5)
    share = np.mean([not np.allclose(clip, plain[0], atol=1e-4) for clip in half])
    assert 0.4 < share < 0.6
    motions = clips(PEOPLE_WALK, disturb_prob=1.0), clips(PEOPLE_WALK, disturb_estimates_prob=1.0)
    assert not np.allclose(*motions)
    np.testing.assert_array_equal(motions[1], clips(PEOPLE_WALK))


def test_a_disturbed_figure_is_one_still() -> None:
    rng = np.random.default_rng(0)
    figures = [normalise(disturb(pictured(motion(0)), rng)) for _ in range(50)]
    assert np.median([np.abs(figure).max() for figure in figures]) < 2


def test_pace_is_warped_both_ways_within_its_bounds() -> None:
    rng = np.random.default_rng(0)
    factors = [draw_factor(0.5, rng) for _ in range(4000)]
    assert 1 / 1.5 <= min(factors) < 0.68
    assert 1.47 < max(factors) <= 1.5
    assert np.median(factors) == pytest.approx(1, abs=0.03)
    found = clips(WALK, 200, warp=0.5)
    # The figure walks evenly: its speed is the pace.
    speeds = np.diff(found[:, 0, 10:20, 7], axis=1).mean(axis=1)
    plain = np.diff(clips(WALK, 1)[0, 0, 10:20, 7]).mean()
    ratios = speeds / plain
    assert 0.6 < ratios.min() < 0.75
    assert 1.35 < ratios.max() < 1.65
    # Who is faster is gone before the clip ends.
    shown = (found[:, 2].max(axis=2) > 0).sum(axis=1)
    assert shown[ratios > 1.3].max() < 25
    assert shown[ratios < 0.95].min() >= 29


def test_a_longer_track_is_cut_at_either_end() -> None:
    frames = torch.ones(40, 13, 3)
    frames[..., 0] = torch.arange(40)[:, None] + torch.arange(13)
    found = PoseTransform(num_steps=10, length=10, warp=0.0)
    first = [
        float(found._place(frames.numpy(), np.random.default_rng(n))[0, 0, 0]) for n in range(300)
    ]
    assert 0 <= min(first) < 2
    assert 28 < max(first) <= 30


def test_time_is_cropped_to_a_share_that_is_drawn() -> None:
    rng = np.random.default_rng(0)
    parts = [crop_time(np.arange(100), 0.6, rng) for _ in range(500)]
    lengths = [len(part) for part in parts]
    assert 60 <= min(lengths) < 63
    assert 97 < max(lengths) <= 100
    assert max(int(part[0]) for part in parts) > 30
    assert all(np.array_equal(np.diff(part), np.ones(len(part) - 1)) for part in parts)
    assert len(crop_time(np.arange(1), 0.01, rng)) == 1
    shown = (clips(WALK, least_share=0.5)[:, 2].max(axis=2) > 0).sum(axis=1)
    assert 14 <= shown.min() < 20


def test_stretching_changes_the_width_alone() -> None:
    plain, found = clips(WALK, 1)[0], clips(WALK, 100, stretch=0.5)
    np.testing.assert_allclose(found[:, 1:], np.repeat(plain[None, 1:], 100, axis=0), atol=1e-5)
    factors = (found[:, 0] / plain[0]).reshape(100, -1)
    np.testing.assert_allclose(factors, np.repeat(factors[:, :1], factors.shape[1], 1), rtol=1e-2)
    assert factors.min() < 0.75
    assert factors.max() > 1.35


def test_a_mirror_exchanges_left_and_right() -> None:
    steps = normalise(pictured(motion(2)))
    found = mirror(steps)
    left, right = BODY_JOINTS.index("left_hand"), BODY_JOINTS.index("right_hand")
    np.testing.assert_allclose(found[:, right], steps[:, left] * [-1, 1, 1])
    np.testing.assert_allclose(mirror(found), steps)
    share = np.mean([clip[0, -1, 0] < 0 for clip in clips(WALK, 300, flip_prob=0.3)])
    assert 0.2 < share < 0.4


def test_dropped_joints_are_bridged_without_confidence() -> None:
    steps = normalise(pictured(motion(1)))
    steps[..., 2] = 1
    rng = np.random.default_rng(3)
    found = [drop_joints(steps, 0.3, rng) for _ in range(200)]
    lost = np.stack([clip[..., 2] == 0 for clip in found])
    assert 0.25 < lost.any(axis=1).mean() < 0.35
    assert 0.02 < lost.all(axis=1).mean() < 0.2
    for clip, gone in zip(found, lost, strict=True):
        np.testing.assert_allclose(clip[~gone], steps[~gone])
        assert np.isfinite(clip).all()
    assert drop_joints(steps, 0.0, rng) is steps
    assert (drop_joints(steps, 1.0, rng)[..., 2] > 0).any()


def test_short_tracks_are_augmented_too() -> None:
    options = {"disturb_prob": 1.0, "disturb_estimates_prob": 1.0, "least_share": 0.1, "warp": 1.0}
    for frames in (WALK, PEOPLE_WALK):
        for count in (1, 2, 3, 5):
            found = clips(frames[:count], 30, joint_drop=0.3, **options)
            assert np.isfinite(found).all()
