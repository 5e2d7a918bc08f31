import math

import numpy as np
import pytest

from nightcrawler.pose.recordings.amc import read_amc
from nightcrawler.utils.errors import UserError

BONE = """  begin
     id 1
     name {name}
     direction {direction}
     length {length}
     axis {axis} XYZ
    dof rx ry rz
    limits (-160.0 20.0)
           (-70.0 70.0)
           (-60.0 70.0)
  end
"""
HIERARCHY = """:hierarchy
  begin
    root lhip rhip spine
    lhip lfemur
    lfemur ltibia
    ltibia lfoot
    rhip rfemur
    rfemur rtibia
    rtibia rfoot
    spine lclavicle rclavicle head
    lclavicle lhumerus
    lhumerus lradius
    lradius lhand
    rclavicle rhumerus
    rhumerus rradius
    rradius rhand
  end
"""


def made_asf():
    text = ":version 1.10\n:units\n  mass 1.0\n:root\n   order TX TY TZ RX RY RZ\n   axis XYZ\n"
    text += "   position 0 0 0\n   orientation 0 0 0\n:bonedata\n"
    bones = [("spine", "0 1 0", 5, "0 0 0"), ("head", "0 1 0", 2, "0 0 0")]
    for side, sign in (("l", 1), ("r", -1)):
        bones += [
            (f"{side}hip", f"{sign} 0 0", 1, "0 0 0"),
            (f"{side}clavicle", f"{sign} 0 0", 2, "0 0 0"),
        ]
        bones += [(f"{side}{name}", "0 -1 0", 4, "0 0 20") for name in ("femur", "tibia", "foot")]
        bones += [
            (f"{side}{name}", f"{sign} 0 0", 3, "0 0 0") for name in ("humerus", "radius", "hand")
        ]
    for name, direction, length, axis in bones:
        text += BONE.format(name=name, direction=direction, length=length, axis=axis)
    return text + HIERARCHY


def made_amc(frames):
    text = "#!OML:ASF\n:FULLY-SPECIFIED\n:DEGREES\n"
    for number, frame in enumerate(frames, start=1):
        text += f"{number}\n"
        for name, values in {"root": [0, 10, 0, 0, 0, 0], **frame}.items():
            text += f"{name} {' '.join(f'{value:g}' for value in values)}\n"
    return text


def test_a_figure_at_rest_is_the_sum_of_its_bones():
    points, fps = read_amc(made_asf(), made_amc([{}, {}]))
    assert fps == 120
    assert points.shape == (2, 13, 3)
    np.testing.assert_allclose(points[0, 0], [0, 17, 0])
    np.testing.assert_allclose(points[0, 1], [2, 15, 0])
    np.testing.assert_allclose(points[0, 5], [8, 15, 0])
    np.testing.assert_allclose(points[0, 11], [1, 2, 0])


def in_radians(text, *kinds):
    """A file whose angles, the numbers after words of these kinds, are in radians."""
    lines = []
    for line in text.splitlines():
        words = line.split()
        if words and words[0] in kinds:
            fixed = 4 if words[0] == "root" else 1
            numbers = [f"{math.radians(float(word)):.15f}" for word in words[fixed : fixed + 3]]
            words = [*words[:fixed], *numbers, *words[fixed + 3 :]]
        lines.append(" ".join(words))
    return "\n".join(lines)


MOVED = [
    {"root": [1, 2, 3, 40, 0, 10], "lfemur": [-60, 5, 0]},
    {"root": [1, 2, 3, 0, 50, 0], "lfemur": [0, 0, 70]},
]
ANGLES = ("root", "lfemur")


def test_radians_are_the_same_angles():
    skeleton, motion = made_asf(), made_amc(MOVED)
    expected, _ = read_amc(skeleton, motion)
    turned = in_radians(skeleton.replace("axis XYZ\n", "\n"), "axis", "orientation")
    turned = turned.replace("mass 1.0", "mass 1.0\n angle rad")
    moved = in_radians(motion, *ANGLES).replace(":DEGREES", ":RADIANS")
    # A motion that names no unit has the skeleton's.
    unnamed = moved.replace(":RADIANS\n", "")
    for pair in ((skeleton, moved), (turned, motion), (turned, moved), (turned, unnamed)):
        np.testing.assert_allclose(read_amc(*pair)[0], expected, atol=1e-9)


def test_other_units_are_refused():
    with pytest.raises(UserError, match=r"line 3 of the motion: 'gradians', expected :DEGREES or"):
        read_amc(made_asf(), made_amc([{}]).replace(":DEGREES", ":GRADIANS"))
    with pytest.raises(UserError, match="angle 'grad' of the skeleton: expected deg or rad"):
        read_amc(made_asf().replace("mass 1.0", "angle grad"), made_amc([{}]))


def test_bones_turn_about_their_own_axes():
    # About its own x, which is turned by 20 degrees about z: by hand with plain matrices.
    angle, tilt = np.radians(-60), np.radians(20)
    about_z = np.array(
        [[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]]
    )
    about_x = np.array(
        [[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]]
    )
    expected = about_z @ about_x @ about_z.T @ [0, -4, 0]
    points, _ = read_amc(made_asf(), made_amc([{"lfemur": [-60, 0, 0]}]))
    np.testing.assert_allclose(points[0, 9] - points[0, 7], expected, atol=1e-12)
    np.testing.assert_allclose(points[0, 11] - points[0, 9], expected, atol=1e-12)


def test_x_turns_first_of_three_angles():
    # x turns (0, 0, 4) down, z leaves it there: only in that order the knee ends at x 4.
    points, _ = read_amc(made_asf().replace("0 0 20", "0 0 0"), made_amc([{"lfemur": [90, 90, 0]}]))
    np.testing.assert_allclose(points[0, 9] - points[0, 7], [-4, 0, 0], atol=1e-12)


@pytest.mark.parametrize(
    ("skeleton", "motion", "message"),
    [
        ("bones", made_amc([{}]), "is no ASF file"),
        (made_asf().replace("length 5", "length long"), made_amc([{}]), "is not understood"),
        (made_asf().replace("lhip lfemur", "lhip wing"), made_amc([{}]), "is not understood"),
        (made_asf().replace("name lradius", "name wing"), made_amc([{}]), "is not understood"),
        (made_asf(), "", "has 0 frames"),
        (made_asf(), made_amc([{"lfemur": [1, 2]}]), "does not fit its skeleton"),
        (made_asf(), made_amc([{"wing": [1, 2, 3]}]), "does not fit its skeleton"),
        (made_asf(), made_amc([{"lfemur": [1, 2, 3]}, {}]), "has 1 of 2 frames"),
        (made_asf().replace("rradius rhand", "rradius rclavicle"), made_amc([{}]), "no joint for"),
    ],
)
def test_damaged_files_are_told(skeleton, motion, message):
    with pytest.raises(UserError, match=message):
        read_amc(skeleton, motion)


def test_many_bones_in_many_frames_ask_for_no_memory(monkeypatch):
    monkeypatch.setattr("nightcrawler.pose.recordings.amc.MAX_ROTATIONS", 7)
    with pytest.raises(UserError, match="more than 7 rotations in all"):
        read_amc(made_asf(), made_amc([{}, {}]))
