"""Joints of a recorded skeleton from its rotations, and their way to the layout `body`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nightcrawler.pose.layouts import BODY_JOINTS
from nightcrawler.utils.errors import UserError

# Names that recordings give to the joints of `body`, in lower case without a prefix such as
# "mixamorig:", `SIDE` and `S` standing for left or right. The first that a recording has is taken.
NAMES = {
    "head": ("head",),
    "shoulder": ("SIDEarm", "upperarm_S", "SIDEupperarm", "SIDEshoulder", "Shumerus"),
    "elbow": ("SIDEforearm", "lowerarm_S", "SIDElowerarm", "SIDEelbow", "Sradius"),
    "hand": ("SIDEhand", "hand_S", "SIDEwrist", "Shand"),
    "hip": ("SIDEupleg", "upperleg_S", "SIDEupperleg", "SIDEhip", "Sfemur"),
    "knee": ("SIDEleg", "lowerleg_S", "SIDElowerleg", "SIDEknee", "Stibia"),
    "ankle": ("SIDEfoot", "foot_S", "SIDEankle", "Sfoot"),
}

# Joints in all frames of a recording, each with a rotation of nine numbers.
MAX_ROTATIONS = 10_000_000


def axis_rotation(axis: str, degrees: np.ndarray) -> np.ndarray:
    """Return rotation matrices about one axis, `[..., 3, 3]`.

    Args:
        axis: `x`, `y` or `z`.
        degrees: `[...]`.
    """
    first, second = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    radians = np.radians(degrees)
    matrix = np.zeros((*np.shape(radians), 3, 3))
    matrix[..., range(3), range(3)] = 1
    matrix[..., first, first] = np.cos(radians)
    matrix[..., second, second] = np.cos(radians)
    matrix[..., second, first] = np.sin(radians)
    matrix[..., first, second] = -np.sin(radians)
    return matrix


def chained_rotation(axes: Sequence[str], degrees: np.ndarray) -> np.ndarray:
    """Return the product of rotations, the first axis outermost.

    Args:
        axes: Axes in the order of the factors.
        degrees: `[..., number of axes]`.
    """
    product = np.broadcast_to(np.eye(3), (*degrees.shape[:-1], 3, 3))
    for column, axis in enumerate(axes):
        product = product @ axis_rotation(axis, degrees[..., column])
    return product


def body_names(names: Sequence[str]) -> list[str]:
    """Return the name of each joint of `body` among those of a recording.

    Raises:
        UserError: If one of them is not there under any known name.
    """
    known = {name.rsplit(":", 1)[-1].lower(): name for name in names}
    found = []
    for joint in BODY_JOINTS:
        side, _, part = joint.rpartition("_")
        spellings = [
            spelling.replace("SIDE", side).replace("S", side[:1]) for spelling in NAMES[part]
        ]
        match = next((known[spelling] for spelling in spellings if spelling in known), None)
        if match is None:
            raise UserError(
                f"has no joint for '{joint}' (known names: {', '.join(spellings)}), "
                f"it has {', '.join(list(names)[:12])} ..."
            )
        found.append(match)
    return found


def body_points(positions: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the joints of `body`, `[T, 13, 3]`.

    Args:
        positions: Joint name to its places, `[T, 3]`.

    Raises:
        UserError: If a joint of `body` is missing.
    """
    return np.stack([positions[name] for name in body_names(list(positions))], axis=1)
