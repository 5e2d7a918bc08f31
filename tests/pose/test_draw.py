import numpy as np

from nightcrawler.pose.draw import LEFT, RIGHT, draw_pose, draw_skeletons
from nightcrawler.pose.files import Pose
from tests.pose.people import person_at


def test_left_is_warm_right_is_cold_and_the_frame_stays_as_it_was():
    frame = np.zeros((240, 320, 3), np.uint8)
    drawn = draw_skeletons(frame, person_at(160.0), "coco17")
    assert not frame.any()
    warm = np.argwhere((drawn == LEFT).all(-1))
    cold = np.argwhere((drawn == RIGHT).all(-1))
    assert len(warm) > 50
    assert len(cold) > 50
    # The figure faces the camera, so its left is on the right of the picture.
    assert warm[:, 1].min() >= 160 >= cold[:, 1].max()


def test_bridged_joints_are_dim_and_absent_ones_are_not_drawn():
    frame = np.zeros((240, 320, 3), np.uint8)
    guessed = person_at(160.0)
    guessed[..., 2] = 0
    assert 0 < draw_skeletons(frame, guessed, "coco17").max() < 150
    guessed[:] = np.nan
    assert not draw_skeletons(frame, guessed, "coco17").any()


def test_joints_far_outside_are_left_out():
    frame = np.zeros((24, 32, 3), np.uint8)
    far = person_at(1e9)
    assert not draw_skeletons(frame, far, "coco17").any()


def test_frames_show_the_look_at_their_time_in_their_own_size():
    pose = Pose(person_at([40.0, 160.0, 280.0])[None], 10.0, "coco17", width=320, height=240)
    frames = np.zeros((3, 120, 160, 3), np.uint8)
    drawn = draw_pose(frames, [0.0, 0.25, 0.3], pose)
    middles = [np.argwhere(frame.any(-1))[:, 1].mean() for frame in drawn[:2]]
    np.testing.assert_allclose(middles, [20, 140], atol=1.5)
    assert not drawn[2].any()
