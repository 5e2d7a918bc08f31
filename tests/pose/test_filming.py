import numpy as np

from nightcrawler.pose.filming import body_height, film, stand_at_origin, turn
from nightcrawler.pose.layouts import BODY_JOINTS


def standing_figure():
    """A figure of 180 cm that walks to the right and raises its left hand."""
    heights = [180, 150, 150, 120, 120, 95, 95, 95, 95, 50, 50, 5, 5]
    points = np.zeros((12, 13, 3))
    points[..., 1] = heights
    for joint, name in enumerate(BODY_JOINTS):
        points[:, joint, 2] = 20 * name.startswith("left") - 20 * name.startswith("right")
    points[..., 0] += np.linspace(0, 100, 12)[:, None]
    points[6:, BODY_JOINTS.index("left_hand"), 1] = 200
    return points


def test_height_and_place_are_those_of_the_figure():
    at_origin = stand_at_origin(standing_figure())
    np.testing.assert_allclose(body_height(at_origin), 1, atol=0.06)
    np.testing.assert_allclose(at_origin[:, 7:9].mean(axis=(0, 1)), 0, atol=1e-9)


def test_a_quarter_turn_brings_what_was_near_to_the_right():
    np.testing.assert_allclose(turn(np.array([0.0, 1, 2]), np.pi / 2), [2, 1, 0], atol=1e-12)


def test_the_raised_hand_is_above_the_head_from_every_side_and_stays_left_or_mirrored():
    for seed in range(30):
        seen = film(standing_figure(), np.random.default_rng(seed))
        assert seen.dtype == np.float32
        assert (seen[..., 2] == 1).all()
        hands = seen[8, [BODY_JOINTS.index("left_hand"), BODY_JOINTS.index("right_hand")], 1]
        assert hands.min() < seen[8, 1:3, 1].min()
        assert hands.max() > seen[8, 1:3, 1].max()


def test_equal_generators_film_equally_and_others_do_not():
    one, two, three = (film(standing_figure(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert np.abs(one - three).max() > 0.1


def test_joints_that_were_not_seen_have_no_confidence():
    points = standing_figure()
    points[3, 5] = np.nan
    seen = film(points, np.random.default_rng(0))
    assert (seen[..., 2] == 0).sum() == 1
    assert np.isnan(seen[..., 0]).sum() == 1
