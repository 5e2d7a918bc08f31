import numpy as np
import pytest

from nightcrawler.pose.layouts import BODY_JOINTS, HIPS
from nightcrawler.synthetic.actions import ACTIONS
from nightcrawler.synthetic.motions import FPS, SECONDS, sample_motion


@pytest.mark.parametrize("action", ACTIONS)
def test_bones_keep_their_lengths_however_the_way_bends(action):
    for seed in range(8):
        points = sample_motion(action, np.random.default_rng(seed))
        assert SECONDS[0] * FPS - 1 <= len(points) <= SECONDS[1] * FPS
        for one, two in (("left_hip", "left_knee"), ("right_elbow", "right_hand")):
            bone = points[:, BODY_JOINTS.index(one)] - points[:, BODY_JOINTS.index(two)]
            length = np.linalg.norm(bone, axis=-1)
            np.testing.assert_allclose(length, length[0], rtol=1e-6)


def test_equal_generators_give_equal_motions_and_others_do_not():
    one, two, three = (sample_motion("Walk", np.random.default_rng(seed)) for seed in (3, 3, 4))
    np.testing.assert_array_equal(one, two)
    assert one.shape != three.shape or not np.allclose(one, three)


def test_walkers_face_where_they_go_along_a_bent_way():
    for seed in range(20):
        points = sample_motion("Walk", np.random.default_rng(seed))
        hips = points[:, HIPS].mean(axis=1)
        steps = np.diff(hips[:, [0, 2]], axis=0)
        # Forwards is to the right of the line from the left hip to the right one, seen from above.
        across = (points[:, 7] - points[:, 8])[:-1, [0, 2]]
        forward = np.stack([-across[:, 1], across[:, 0]], axis=1)
        moving = np.linalg.norm(steps, axis=1) > 0.02
        assert abs(np.sign((forward * steps).sum(axis=1)[moving]).mean()) > 0.95


def test_some_people_wait_before_and_after():
    still_first = 0
    still_last = 0
    for seed in range(60):
        points = sample_motion("Walk", np.random.default_rng(seed))
        speed = np.abs(np.diff(points, axis=0)).max(axis=(1, 2))
        still_first += bool((speed[:2] < 0.01).all())
        still_last += bool((speed[-2:] < 0.01).all())
    assert 6 <= still_first <= 45
    assert 6 <= still_last <= 45
