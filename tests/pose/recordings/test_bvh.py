import numpy as np
import pytest

from nightcrawler.pose.recordings.bvh import read_bvh
from nightcrawler.utils.errors import UserError

SIDE = """
  JOINT {side}UpLeg {{ OFFSET {x} 0 0 CHANNELS 3 Zrotation Yrotation Xrotation
   JOINT {side}Leg {{ OFFSET 0 -4 0 CHANNELS 3 Zrotation Yrotation Xrotation
    JOINT {side}Foot {{ OFFSET 0 -4 0 CHANNELS 3 Zrotation Yrotation Xrotation
     End Site {{ OFFSET 0 0 1 }} }} }} }}"""
ARM = """
  JOINT {side}Arm {{ OFFSET {x} 5 0 CHANNELS 3 Zrotation Yrotation Xrotation
   JOINT {side}ForeArm {{ OFFSET {x} 0 0 CHANNELS 3 Zrotation Yrotation Xrotation
    JOINT {side}Hand {{ OFFSET {x} 0 0 CHANNELS 3 Zrotation Yrotation Xrotation
     End Site {{ OFFSET 0 0 1 }} }} }} }}"""
NUM_CHANNELS = 6 + 3 * 13


def made_bvh(rows, prefix=""):
    hierarchy = (
        "HIERARCHY\nROOT Hips { OFFSET 0 0 0\n"
        "CHANNELS 6 Xposition Yposition Zposition Zrotation Yrotation Xrotation"
    )
    hierarchy += SIDE.format(side="Left", x=1) + SIDE.format(side="Right", x=-1)
    hierarchy += ARM.format(side="Left", x=2) + ARM.format(side="Right", x=-2)
    hierarchy += "\nJOINT Head { OFFSET 0 7 0 CHANNELS 3 Zrotation Yrotation Xrotation\n"
    hierarchy += "End Site { OFFSET 0 1 0 } } }\n"
    for name in ("Hips", "LeftArm", "Head"):
        hierarchy = hierarchy.replace(f" {name} ", f" {prefix}{name} ")
    lines = [" ".join(f"{value:g}" for value in row) for row in rows]
    return f"{hierarchy}MOTION\nFrames: {len(rows)}\nFrame Time: 0.04\n" + "\n".join(lines) + "\n"


def channels(**changed):
    """One frame: root place and rotation, then three angles of each joint in file order."""
    order = [f"{s}{p}" for s in ("Left", "Right") for p in ("UpLeg", "Leg", "Foot")]
    order += [f"{s}{p}" for s in ("Left", "Right") for p in ("Arm", "ForeArm", "Hand")]
    row = list(changed.get("root", [0, 10, 0, 0, 0, 0]))
    for name in [*order, "Head"]:
        row += changed.get(name, [0, 0, 0])
    return row


@pytest.mark.parametrize("prefix", ["", "mixamorig:"])
def test_a_figure_at_rest_is_the_sum_of_its_offsets(prefix):
    points, fps = read_bvh(made_bvh([channels()] * 2, prefix))
    assert fps == 25
    assert points.shape == (2, 13, 3)
    np.testing.assert_allclose(points[0, 0], [0, 17, 0])
    np.testing.assert_allclose(points[0, 1], [2, 15, 0])
    np.testing.assert_allclose(points[0, 6], [-6, 15, 0])
    np.testing.assert_allclose(points[0, 11], [1, 2, 0])


def test_parents_turn_their_children_in_the_order_of_the_channels():
    # A thigh turned by 90 degrees about x points forwards (z), its shank follows it.
    points, _ = read_bvh(made_bvh([channels(LeftUpLeg=[0, 0, -90])]))
    np.testing.assert_allclose(points[0, 9], [1, 10, 4], atol=1e-12)
    np.testing.assert_allclose(points[0, 11], [1, 10, 8], atol=1e-12)
    # Z then Y then X, of which the last acts first, by hand: v -> Rz(90) Ry(90) Rx(90) v.
    points, _ = read_bvh(made_bvh([channels(LeftUpLeg=[90, 90, 90])]))
    # Rx(90) turns (0,-4,0) to (0,0,-4), Ry(90) that to (-4,0,0), Rz(90) that to (0,-4,0).
    np.testing.assert_allclose(points[0, 9], [1, 6, 0], atol=1e-12)


def test_the_root_moves_and_turns_all():
    points, _ = read_bvh(made_bvh([channels(root=[5, 10, 3, 0, 90, 0])]))
    np.testing.assert_allclose(points[0, 9], [5, 6, 3 - 1], atol=1e-12)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: "joints", "is no BVH file"),
        (lambda text: text.replace("Frames: 2", "Frames: 3"), "breaks off: 2 of 3 frames"),
        (lambda text: text.replace("Frames: 2", "Frames: 2000000"), "promises 2000000 frames"),
        (lambda text: text.replace("Frame Time: 0.04", "Frame Time: 0"), "of 0.0 s"),
        (lambda text: text.replace(" 10 ", " ten ", 1), "other words than numbers"),
        (lambda text: text.replace("LeftForeArm", "Feather"), "has no joint for 'left_elbow'"),
        (lambda text: text.replace("Zrotation", "Wrotation", 1), "has channels"),
        (lambda text: text.replace("OFFSET 1 0 0", "OFFSET one", 1), "has no 3 numbers"),
        (lambda text: text.replace("CHANNELS 3", "CHANNELS 2", 1), "values in a frame|no joint"),
        (lambda text: text.replace("HIERARCHY", "HIERARCHY }"), "closes more joints"),
        (lambda text: text.replace("HIERARCHY", "HIERARCHY CHANNELS 0"), "outside of a joint"),
        (lambda text: text.replace("CHANNELS 6", "CHANNELS nan"), "has channels"),
        (lambda text: text.replace("Frame Time: 0.04", "Frame Time: 1e-320"), "promises 2 frames"),
        (lambda text: text + "\n" * 1_000_000, "rotations in all"),
        # Other ends of lines make frames, too.
        (lambda text: text + "\f" * 1_000_000, "rotations in all"),
    ],
)
def test_damaged_files_are_told(damage, message):
    with pytest.raises(UserError, match=message):
        read_bvh(damage(made_bvh([channels()] * 2)))
