import numpy as np
import pytest

from nightcrawler.pose.layouts import BODY_JOINTS, BONES, LAYOUTS, MIRRORED, to_body
from nightcrawler.utils.errors import UserError

# Names of the first 20 joints of Kinect 1, from its SDK.
KINECT = [
    "hip_centre",
    "spine",
    "shoulder_centre",
    "head",
    "left_shoulder",
    "left_elbow",
    "left_wrist",
    "left_hand",
    "right_shoulder",
    "right_elbow",
    "right_wrist",
    "right_hand",
    "left_hip",
    "left_knee",
    "left_ankle",
    "left_foot",
    "right_hip",
    "right_knee",
    "right_ankle",
    "right_foot",
]
COCO = [
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
]


@pytest.mark.parametrize(("layout", "names"), [("kinect20", KINECT), ("coco17", COCO)])
def test_joints_are_found_by_their_names(layout, names):
    assert LAYOUTS[layout].num_joints == len(names)
    for joint, members in zip(BODY_JOINTS[1:], LAYOUTS[layout].body[1:], strict=True):
        assert names[members[0]] == joint.replace("hand", "wrist")


def test_head_of_blazepose_is_the_mean_of_nose_and_ears():
    points = np.random.default_rng(0).normal(size=(2, 5, 33, 3))
    body = to_body(points, "blazepose33")
    np.testing.assert_allclose(body[:, :, 0], points[:, :, [0, 7, 8]].sum(axis=2) / 3)
    np.testing.assert_array_equal(body[:, :, 5], points[:, :, 15])


def test_mirroring_twice_changes_nothing_and_keeps_bones():
    assert [MIRRORED[joint] for joint in MIRRORED] == list(range(13))
    bones = {frozenset(bone) for bone in BONES}
    assert {frozenset(MIRRORED[joint] for joint in bone) for bone in BONES} == bones
    for joint, name in enumerate(BODY_JOINTS):
        swapped = name.replace("left", "L").replace("right", "left").replace("L", "right")
        assert BODY_JOINTS[MIRRORED[joint]] == swapped


def test_another_number_of_joints_is_refused():
    with pytest.raises(UserError, match="32 joints are given, layout 'blazepose33' has 33"):
        to_body(np.zeros((1, 32, 3)), "blazepose33")
    with pytest.raises(UserError, match="'openpose' is unknown, expected body, blazepose33"):
        to_body(np.zeros((1, 32, 3)), "openpose")
