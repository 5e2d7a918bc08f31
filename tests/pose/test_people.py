import numpy as np
import pytest

from nightcrawler.pose.people import bridge_gaps, follow_people, seen_frames
from tests.pose.people import person_at

FPS = 15.0


def shuffled(*people, seed=0):
    """Who is first changes from frame to frame, as in an estimator's answer."""
    points = np.stack(people)
    rng = np.random.default_rng(seed)
    for frame in range(points.shape[1]):
        points[:, frame] = rng.permutation(points[:, frame])
    return points


def test_two_people_who_cross_keep_their_places_and_the_larger_one_is_first():
    right = person_at(np.linspace(40, 280, 45), scale=1.0)
    left = person_at(np.linspace(280, 40, 45), scale=0.8)
    found = follow_people(shuffled(left, right), FPS, 2, "coco17")
    np.testing.assert_array_equal(found[0], right)
    np.testing.assert_array_equal(found[1], left)


def test_only_the_main_person_is_kept_where_one_is_asked_for():
    large = person_at(np.full(30, 100.0), scale=1.2)
    small = person_at(np.full(30, 250.0), scale=0.5)
    found = follow_people(shuffled(small, large), FPS, 1, "coco17")
    np.testing.assert_array_equal(found, large[None])


def test_a_long_track_goes_before_a_larger_short_one():
    short = person_at(np.full(45, 250.0), scale=1.2)
    short[9:] = np.nan
    found = follow_people(shuffled(short, person_at(np.full(45, 60.0))), FPS, 2, "coco17")
    np.testing.assert_array_equal(found[0], person_at(np.full(45, 60.0)))


def test_a_gap_is_bridged_and_marked():
    walking = person_at(np.linspace(40, 100, 31))
    gap = walking.copy()
    gap[10:15] = np.nan
    found = follow_people(gap[None], FPS, 1, "coco17")
    np.testing.assert_allclose(found[0, ..., :2], walking[..., :2], rtol=1e-5)
    assert (found[0, 10:15, :, 2] == 0).all()
    assert seen_frames(found[0]).sum() == 26


def test_a_long_gap_stays_open_and_the_person_is_the_same():
    walking = person_at(np.linspace(40, 100, 61))
    walking[10:30] = np.nan
    found = follow_people(walking[None], FPS, 2, "coco17")
    np.testing.assert_array_equal(found, walking[None])


def test_who_leaves_is_not_continued_and_who_comes_is_not_guessed():
    walking = person_at(np.linspace(40, 100, 45))
    walking[:6] = np.nan
    walking[40:] = np.nan
    found = follow_people(walking[None], FPS, 1, "coco17")
    np.testing.assert_array_equal(found[0], walking)


def test_a_tree_that_is_taken_for_a_person_for_a_moment_is_left_out():
    walking = person_at(np.linspace(40, 60, 45))
    walking[20:22] = person_at([300.0, 300.0])
    found = follow_people(walking[None], FPS, 2, "coco17")
    assert found.shape[0] == 1
    np.testing.assert_allclose(found[0, ..., 0], person_at(np.linspace(40, 60, 45))[..., 0], 1e-4)


def test_nobody_gives_one_person_of_nan():
    for shape in ((0, 12, 17, 3), (2, 12, 17, 3), (1, 1, 17, 3)):
        found = follow_people(np.full(shape, np.nan, np.float32), FPS, 2, "coco17")
        assert found.shape == (1, *shape[1:])
        assert np.isnan(found).all()
        assert not seen_frames(found[0]).any()


def test_one_frame_is_a_track():
    found = follow_people(person_at([50.0])[None], FPS, 1, "coco17")
    np.testing.assert_array_equal(found[0], person_at([50.0]))


@pytest.mark.parametrize("fps", [10.0, 30.0, 240.0])
def test_the_length_of_gaps_is_in_seconds(fps):
    num_frames = int(4 * fps)
    for gap_sec, is_bridged in ((0.4, True), (0.8, False)):
        points = person_at(np.full(num_frames, 90.0))
        points[int(fps) : int(fps * (1 + gap_sec))] = np.nan
        found = follow_people(points[None], fps, 1, "coco17")
        assert np.isfinite(found).all() == is_bridged


def test_bridging_leaves_what_was_seen():
    points = person_at(np.arange(20.0))[None]
    np.testing.assert_array_equal(bridge_gaps(points, 5), points)


def test_who_is_upside_down_is_not_the_main_person_where_another_one_is():
    """A skeleton in a tree moves, too."""
    tree = person_at(np.linspace(240, 260, 60), scale=1.2)
    tree[..., 1] = 240 - tree[..., 1]
    walking = person_at(np.linspace(40, 200, 60), scale=0.6)
    walking[:15] = np.nan
    found = follow_people(np.stack([tree, walking]), FPS, 2, "coco17")
    np.testing.assert_array_equal(found[0], walking)
    np.testing.assert_array_equal(found[1], tree)


def test_a_poster_is_not_the_main_person_where_somebody_moves():
    rng = np.random.default_rng(0)
    poster = person_at(np.full(60, 250.0), scale=1.2)
    poster[..., :2] += rng.normal(0, 1.0, poster[..., :2].shape)
    walking = person_at(np.linspace(40, 200, 60), scale=0.8)
    walking[:15] = np.nan
    found = follow_people(np.stack([poster, walking]), FPS, 2, "coco17")
    np.testing.assert_array_equal(found[0], walking)
    np.testing.assert_array_equal(found[1], poster)
    # Who stands and waves moves, and where nobody does, the largest is the main person.
    waving = person_at(np.full(60, 250.0), scale=1.2)
    waving[:, 9, 0] += 15 * np.sin(np.arange(60))
    assert np.nanmean(follow_people(np.stack([walking, waving]), FPS, 2, "coco17")[0, ..., 0]) > 240
    small = person_at(np.full(60, 80.0), scale=0.6)
    assert np.nanmean(follow_people(np.stack([small, poster]), FPS, 2, "coco17")[0, ..., 0]) > 240


def test_a_mirror_image_that_moves_alike_is_a_person_of_its_own():
    way = np.linspace(40, 140, 45)
    person = person_at(way)
    mirrored = person_at(320 - way, scale=0.7)
    # Which of the two an estimator tells first changes.
    seen = np.stack([person, mirrored])
    seen[:, ::2] = seen[::-1, ::2]
    found = follow_people(seen, FPS, 2, "coco17")
    np.testing.assert_array_equal(found, np.stack([person, mirrored]))
