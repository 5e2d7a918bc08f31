"""What tells the actions apart, measured on the skeleton."""

from __future__ import annotations

import numpy as np
import pytest

from nightcrawler.synthetic.actions import ACTIONS, ease
from nightcrawler.synthetic.skeleton import Body, Joints, joint_positions, sample_body

FPS = 20
TIME = np.arange(50) / FPS
SEEDS = range(12)


def joints_of(action: str, seed: int, facing: float = 0.0) -> tuple[Body, Joints]:
    rng = np.random.default_rng([seed, 5])
    pose = ACTIONS[action](rng, TIME).pose
    body = sample_body(rng)
    return body, joint_positions(body, pose, facing)


def test_class_order_is_the_data_sets() -> None:
    assert list(ACTIONS) == [
        "Drink",
        "Jump",
        "Pick",
        "Pour",
        "Push",
        "Run",
        "Sit",
        "Stand",
        "Turn",
        "Walk",
        "Wave",
    ]


@pytest.mark.parametrize("action", ACTIONS)
def test_limbs_keep_their_lengths_and_feet_their_ground(action: str) -> None:
    for seed in SEEDS:
        body, joints = joints_of(action, seed, facing=0.7)
        pairs = {
            "thigh": ("hip", "knee"),
            "shank": ("knee", "ankle"),
            "upper_arm": ("shoulder", "elbow"),
        }
        for part, (upper, lower) in {**pairs, "forearm": ("elbow", "hand")}.items():
            length = np.linalg.norm(joints[lower] - joints[upper], axis=-1)
            np.testing.assert_allclose(length, body.lengths[part], rtol=1e-9)
        lowest = np.minimum(joints["ankle"][..., 1], joints["toe"][..., 1]).min(axis=1)
        assert lowest.min() > -1e-9
        if action not in ("Jump", "Run"):
            np.testing.assert_allclose(lowest, 0.0, atol=1e-9)


@pytest.mark.parametrize("seed", SEEDS)
def test_stand_is_sit_backwards(seed: int) -> None:
    sit = ACTIONS["Sit"](np.random.default_rng(seed), TIME).pose
    stand = ACTIONS["Stand"](np.random.default_rng(seed), TIME).pose
    np.testing.assert_array_equal(stand.hip, sit.hip[::-1])
    assert sit.hip[-1, 0] > np.radians(60) > sit.hip[0, 0]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_each_action_is(seed: int) -> None:
    def rise(action: str, joint: str) -> float:
        height = joints_of(action, seed)[1][joint][..., 1]
        return float(height.max() - height.min())

    drink = joints_of("Drink", seed)[1]
    reach = np.linalg.norm(drink["hand"] - drink["head"][:, None], axis=-1).min()
    assert reach < 0.21, "the cup (0.1 high) reaches the face"
    assert rise("Jump", "pelvis") > 0.14
    assert rise("Pick", "neck") > 0.15
    wave = joints_of("Wave", seed)[1]
    assert (wave["hand"] - wave["shoulder"])[..., 1].max() > 0.1, "a hand over its shoulder"
    run, walk = (np.ptp(joints_of(name, seed)[1]["pelvis"][:, 0]) for name in ("Run", "Walk"))
    assert run > 1.3 * walk > 0.6, "running covers more ground"
    turned = ACTIONS["Turn"](np.random.default_rng(seed), TIME).pose.yaw
    assert np.radians(100) < np.ptp(turned) <= np.radians(360)


def test_ease_is_a_smooth_step() -> None:
    time = np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0])
    np.testing.assert_allclose(ease(time, 0.0, 2.0), [0, 0, 3 / 16 - 2 / 64, 0.5, 1, 1])


def test_facing_turns_the_figure() -> None:
    right, front = (joints_of("Walk", 3, facing)[1]["pelvis"] for facing in (0.0, np.pi / 2))
    assert np.ptp(right[:, 0]) > 0.5
    np.testing.assert_allclose(right[:, 0], front[:, 2], atol=1e-9)
