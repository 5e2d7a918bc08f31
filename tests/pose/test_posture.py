import numpy as np
import pytest

from nightcrawler.pose.disturb import disturb
from nightcrawler.pose.filming import film
from nightcrawler.pose.posture import is_animal, is_upside_down, trunk_cosine
from nightcrawler.synthetic.actions import ACTIONS
from nightcrawler.synthetic.motions import sample_motion
from tests.pose.people import person_at

# What mediapipe 0.10.14 saw in one frame of a dog that we drew, seen from its side: layout `body`.
DOG = np.array(
    [[109, 163], [126, 165], [127, 158], [142, 187], [136, 179], [151, 208], [150, 204], [184, 160]]
    + [[182, 161], [206, 155], [198, 169], [222, 152], [218, 167]],
    float,
)


def seen(places, count=20):
    """Joints `[T, 13, 3]` that stay where they are, sure of themselves."""
    places = np.broadcast_to(places, (count, 13, 2))
    return np.concatenate([places, np.ones((count, 13, 1))], axis=-1).astype(np.float32)


def turned(points, degrees):
    """Turn joints in the picture, about its origin."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    places = points[..., :2] @ np.array([[cos, sin], [-sin, cos]])
    return np.concatenate([places, points[..., 2:]], axis=-1).astype(np.float32)


@pytest.mark.parametrize(("degrees", "cosine"), [(0, 1), (60, 0.5), (90, 0), (180, -1)])
def test_the_cosine_of_a_trunk_is_that_of_its_angle(degrees, cosine):
    body = turned(
        seen([[0, -2], [-1, -1], [1, -1], *[[0, 0]] * 4, [-1, 1], [1, 1], *[[0, 2]] * 4]), degrees
    )
    np.testing.assert_allclose(trunk_cosine(body), cosine, atol=1e-6)


@pytest.mark.parametrize("action", list(ACTIONS))
def test_figures_of_all_actions_are_people(action):
    for number in range(20):
        rng = np.random.default_rng([91, number])
        points = disturb(film(sample_motion(action, rng), rng), rng)
        assert not is_animal(points, "body")
        assert not is_upside_down(points, "body")


def test_who_lies_or_hangs_upside_down_is_no_animal():
    standing = person_at(np.linspace(40, 60, 30))
    for degrees in (80, 90, 180, 270):
        assert not is_animal(turned(standing, degrees), "coco17")


@pytest.mark.parametrize(
    ("degrees", "is_so"), [(0, False), (90, False), (115, False), (125, True), (180, True)]
)
def test_upside_down_is_30_degrees_and_more_below_level(degrees, is_so):
    standing = person_at(np.linspace(40, 60, 30))
    assert is_upside_down(turned(standing, degrees), "coco17") == is_so
    # For most of the time: a cartwheel is soon over.
    for count, expected in ((14, False), (15, is_so)):
        points = standing.copy()
        points[:count] = turned(standing, degrees)[:count]
        assert is_upside_down(points, "coco17") == expected
    assert not is_upside_down(np.full((5, 17, 3), np.nan, np.float32), "coco17")


def test_hardly_any_figure_that_lies_is_an_animal():
    taken = 0
    for number in range(110):
        rng = np.random.default_rng([92, number])
        motion = sample_motion(list(ACTIONS)[number % 11], rng)
        # What was up is away from the camera.
        taken += is_animal(film(motion[..., [0, 2, 1]] * [1, 1, -1], rng), "body")
    assert taken <= 8


def test_a_dog_is_an_animal_from_both_sides_and_at_every_size():
    for scale in (0.2, 1.0, 3.0):
        for side in (1, -1):
            assert is_animal(seen(DOG * [side * scale, scale]), "body")


def test_who_picks_something_up_for_a_moment_is_no_animal():
    points = np.concatenate(
        [
            seen(DOG, 9),
            seen(
                [
                    [80, 0],
                    [70, 20],
                    [90, 20],
                    *[[80, 60]] * 4,
                    [75, 70],
                    [85, 70],
                    *[[80, 100]] * 2,
                    *[[80, 130]] * 2,
                ],
                11,
            ),
        ]
    )
    assert not is_animal(points, "body")
    assert is_animal(points[:9], "body")


def test_nobody_is_no_animal():
    points = np.full((5, 17, 3), np.nan, np.float32)
    assert not is_animal(points, "coco17")
    points[:2] = person_at([10.0, 11.0])
    assert not is_animal(points, "coco17")
