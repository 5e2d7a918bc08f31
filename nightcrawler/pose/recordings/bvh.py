"""Read BVH files (Biovision hierarchy): a skeleton of joints, and their rotations in each frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from nightcrawler.pose.recordings.skeleton_tree import MAX_ROTATIONS, body_points, chained_rotation
from nightcrawler.utils.errors import UserError

MAX_JOINTS = 512
MAX_FRAMES = 1_000_000


@dataclass
class _Joint:
    name: str
    parent: int
    offset: np.ndarray = field(default_factory=lambda: np.zeros(3))
    channels: list[str] = field(default_factory=list)


def read_bvh(text: str) -> tuple[np.ndarray, float]:
    """Return the joints and the frame rate of a BVH file.

    Args:
        text: The file.

    Returns:
        float64 `[T, 13, 3]` of layout `body` in the world (y up), and frames per second.

    Raises:
        UserError: If it is no BVH file, or has no body.
    """
    hierarchy, found, motion = text.partition("MOTION")
    if not found or "HIERARCHY" not in hierarchy:
        raise UserError("is no BVH file: HIERARCHY and MOTION are expected")
    joints = _read_joints(hierarchy)
    if len(motion.splitlines()) * len(joints) > MAX_ROTATIONS:
        raise UserError(f"has more than {MAX_ROTATIONS} rotations in all")
    values, fps = _read_motion(motion, sum(len(joint.channels) for joint in joints))
    return body_points(_positions(joints, values)), fps


def _read_joints(hierarchy: str) -> list[_Joint]:
    words = iter(hierarchy.split())
    joints: list[_Joint] = []
    parents: list[int] = []
    current = -1
    for word in words:
        if word in ("ROOT", "JOINT", "End"):
            name = next(words, "")
            current = -1
            if word != "End":
                joints.append(_Joint(name, parents[-1] if parents else -1))
                current = len(joints) - 1
        elif word == "{":
            parents.append(current)
        elif word == "}":
            if not parents:
                raise UserError("closes more joints than it opens")
            parents.pop()
        elif word == "OFFSET":
            offset = _numbers(words, 3)
            if current >= 0:
                joints[current].offset = offset
        elif word == "CHANNELS":
            _of_joint(joints, current).channels = _channels(words)
        if len(joints) > MAX_JOINTS or len(parents) > MAX_JOINTS:
            raise UserError(f"has more than {MAX_JOINTS} joints")
    if not joints:
        raise UserError("has no joints")
    return joints


def _of_joint(joints: list[_Joint], current: int) -> _Joint:
    if current < 0:
        raise UserError("has channels outside of a joint")
    return joints[current]


def _numbers(words: Iterator[str], count: int) -> np.ndarray:
    try:
        return np.array([float(next(words)) for _ in range(count)])
    except (ValueError, StopIteration):
        raise UserError(f"has no {count} numbers where they are expected") from None


def _channels(words: Iterator[str]) -> list[str]:
    number = float(_numbers(words, 1)[0])
    count = int(number) if 0 <= number <= 6 else -1
    channels = [next(words, "") for _ in range(min(max(count, 0), 6))]
    kinds = {f"{axis}{kind}" for axis in "XYZ" for kind in ("position", "rotation")}
    if not 0 <= count <= 6 or not kinds.issuperset(channels):
        raise UserError(
            f"has channels {channels}, expected up to six of {', '.join(sorted(kinds))}"
        )
    return channels


def _read_motion(motion: str, width: int) -> tuple[np.ndarray, float]:
    """Return the channels `[T, width]` and the frames per second."""
    lines = [line for line in motion.splitlines() if line.strip()]
    try:
        num_frames = int(lines[0].split(":")[1])
        seconds = float(lines[1].split(":")[1])
    except (IndexError, ValueError):
        raise UserError("has no 'Frames:' and 'Frame Time:' after MOTION") from None
    if not (0 < num_frames <= MAX_FRAMES and 1e-4 < seconds < 1e4):
        raise UserError(f"promises {num_frames} frames of {seconds} s")
    rows = lines[2 : 2 + num_frames]
    if len(rows) < num_frames:
        raise UserError(f"breaks off: {len(rows)} of {num_frames} frames")
    try:
        values = np.array([[float(word) for word in row.split()] for row in rows])
    except ValueError:
        raise UserError("has frames of different lengths, or other words than numbers") from None
    if values.shape[1] != width or not np.isfinite(values).all():
        raise UserError(f"has {values.shape[1]} values in a frame, its joints have {width}")
    return values, 1 / seconds


def _positions(joints: list[_Joint], values: np.ndarray) -> dict[str, np.ndarray]:
    """Return the places of all joints, each `[T, 3]`: parents turn and carry their children."""
    places: list[np.ndarray] = []
    rotations: list[np.ndarray] = []
    column = 0
    for joint in joints:
        own = values[:, column : column + len(joint.channels)]
        column += len(joint.channels)
        place = np.broadcast_to(joint.offset, (len(values), 3)).copy()
        turned = [index for index, name in enumerate(joint.channels) if name.endswith("rotation")]
        for index, name in enumerate(joint.channels):
            if name.endswith("position"):
                # A joint that is moved has its place in the channels, not in the offset.
                place[:, "XYZ".index(name[0])] = own[:, index]
        axes = [joint.channels[index][0].lower() for index in turned]
        rotation = chained_rotation(axes, own[:, turned])
        if joint.parent >= 0:
            parent = rotations[joint.parent]
            place = places[joint.parent] + (parent @ place[..., None])[..., 0]
            rotation = parent @ rotation
        places.append(place)
        rotations.append(rotation)
    return {joint.name: place for joint, place in zip(joints, places, strict=True)}
