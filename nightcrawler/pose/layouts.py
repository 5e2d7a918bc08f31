"""Layouts of joints, and the way from each to the one that skeleton models see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nightcrawler.utils.errors import UserError

# Joints of the layout `body`, which every other layout can be mapped to.
BODY_JOINTS = (
    "head",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_hand",
    "right_hand",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
HEAD = 0
SHOULDERS = (1, 2)
ELBOWS = (3, 4)
HANDS = (5, 6)
HIPS = (7, 8)
KNEES = (9, 10)
ANKLES = (11, 12)
# Joints of `body` after left and right are exchanged.
MIRRORED = (0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11)
# Each bone from the joint nearer to the trunk to the one farther away.
BONES = (
    (1, 0),
    (2, 0),
    (1, 2),
    (1, 3),
    (3, 5),
    (2, 4),
    (4, 6),
    (1, 7),
    (2, 8),
    (7, 8),
    (7, 9),
    (9, 11),
    (8, 10),
    (10, 12),
)


@dataclass(frozen=True)
class Layout:
    """The joints that an estimator or a recording gives.

    Attributes:
        name: Name of the layout.
        num_joints: V.
        body: For each joint of `body`, the joints whose mean it is.
    """

    name: str
    num_joints: int
    body: tuple[tuple[int, ...], ...]


def _pairs(
    head: tuple[int, ...], left: tuple[int, ...], right: tuple[int, ...]
) -> tuple[tuple[int, ...], ...]:
    """Return `Layout.body` of one joint each for shoulder, elbow, hand, hip, knee and ankle."""
    sides = [joint for pair in zip(left, right, strict=True) for joint in pair]
    return (head, *((joint,) for joint in sides))


# BlazePose: Bazarevsky et al. 2020, figure 2. COCO: Lin et al. 2014. Kinect 1: its first 20 joints,
# in the order of its SDK and of UTKinect-Action3D.
LAYOUTS = {
    layout.name: layout
    for layout in (
        Layout("body", 13, tuple((joint,) for joint in range(13))),
        Layout(
            "blazepose33",
            33,
            _pairs((0, 7, 8), (11, 13, 15, 23, 25, 27), (12, 14, 16, 24, 26, 28)),
        ),
        Layout("coco17", 17, _pairs((0, 3, 4), (5, 7, 9, 11, 13, 15), (6, 8, 10, 12, 14, 16))),
        Layout("kinect20", 20, _pairs((3,), (4, 5, 6, 12, 13, 14), (8, 9, 10, 16, 17, 18))),
    )
}


def get_layout(name: str) -> Layout:
    """Return a layout by its name.

    Raises:
        UserError: If the name is unknown.
    """
    if name not in LAYOUTS:
        raise UserError(f"layout of joints '{name}' is unknown, expected {', '.join(LAYOUTS)}")
    return LAYOUTS[name]


def to_body(points: np.ndarray, layout: str) -> np.ndarray:
    """Map joints to the layout `body`.

    Args:
        points: `[..., V, C]`, NaN where nobody was seen.
        layout: Layout of the joints, a name of `LAYOUTS`.

    Returns:
        `[..., 13, C]`, of the dtype of `points`.

    Raises:
        UserError: If the layout is unknown, or has another number of joints.

    Example:
        >>> to_body(np.zeros((60, 33, 3), np.float32), "blazepose33").shape
        (60, 13, 3)
    """
    known = get_layout(layout)
    if points.shape[-2] != known.num_joints:
        raise UserError(
            f"{points.shape[-2]} joints are given, layout '{layout}' has {known.num_joints}"
        )
    joints = [points[..., list(members), :].mean(axis=-2) for members in known.body]
    return np.stack(joints, axis=-2)
