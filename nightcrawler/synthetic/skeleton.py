"""Kinematic model of a human figure: proportions, joint angles over time, joint positions.

Lengths are in body heights. Body frame: x forward, y up, z to the figure's left. World frame: x
right in the picture, y up, z towards the camera, ground at y = 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

LEFT = 0
RIGHT = 1
SIDES = (LEFT, RIGHT)
# Sign of z of the left and the right side.
OUTWARD = np.array([1.0, -1.0])
# Outward angle of the thighs, so that the knees are wider apart than the hips.
THIGH_OUTWARD = 0.03

# Mean proportions of an adult, in body heights.
LENGTHS = {
    "hip": 0.055,
    "thigh": 0.245,
    "shank": 0.24,
    "foot": 0.09,
    "torso": 0.29,
    "neck": 0.06,
    "head": 0.068,
    "shoulder": 0.1,
    "upper_arm": 0.165,
    "forearm": 0.17,
}


@dataclass(frozen=True)
class Body:
    """Proportions of one person.

    Attributes:
        lengths: lengths of the parts of `LENGTHS`, in body heights. `hip` and `shoulder` are half
            widths, `head` is a radius.
        thickness: factor on the width of limbs.
    """

    lengths: dict[str, float]
    thickness: float


def sample_body(
    rng: np.random.Generator,
    lengths: tuple[float, float] = (0.9, 1.1),
    thickness: tuple[float, float] = (0.85, 1.25),
) -> Body:
    """Draw a person.

    Args:
        rng: generator of the draws.
        lengths: least and largest length of a part, over its mean.
        thickness: least and largest factor on the width of limbs.
    """
    parts = {part: float(mean * rng.uniform(*lengths)) for part, mean in LENGTHS.items()}
    return Body(parts, float(rng.uniform(*thickness)))


@dataclass
class Pose:
    """Joint angles of T frames, in radians. Zero is upright with hanging arms.

    Attributes:
        num_frames: T.
        planted: the feet keep their place and the pelvis moves over them.
        lean: angle of the torso, forwards, `[T]`.
        roll: angle of the torso, to the figure's left, `[T]`.
        head: angle of the head, backwards, `[T]`.
        yaw: rotation of the whole figure around the vertical, `[T]`.
        travel: distance moved forwards, in body heights, `[T]`.
        hop: height of the lower foot over the ground, in body heights, `[T]`.
        hip: flexion of the hips, forwards, `[T, 2]` (left, right).
        knee: flexion of the knees, backwards, `[T, 2]`.
        shoulder: angle of the upper arms, forwards, `[T, 2]`.
        side: angle of the upper arms, outwards, `[T, 2]`.
        elbow: angle of the forearms against the upper arms, forwards, `[T, 2]`.
        swing: angle of the forearms against the upper arms, outwards, `[T, 2]`.
    """

    num_frames: int
    planted: bool = False
    lean: np.ndarray = field(init=False)
    roll: np.ndarray = field(init=False)
    head: np.ndarray = field(init=False)
    yaw: np.ndarray = field(init=False)
    travel: np.ndarray = field(init=False)
    hop: np.ndarray = field(init=False)
    hip: np.ndarray = field(init=False)
    knee: np.ndarray = field(init=False)
    shoulder: np.ndarray = field(init=False)
    side: np.ndarray = field(init=False)
    elbow: np.ndarray = field(init=False)
    swing: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        for name in ("lean", "roll", "head", "yaw", "travel", "hop"):
            setattr(self, name, np.zeros(self.num_frames))
        for name in ("hip", "knee", "shoulder", "side", "elbow", "swing"):
            setattr(self, name, np.zeros((self.num_frames, 2)))

    def reversed(self) -> Pose:
        """Return the same movement backwards in time."""
        backwards = Pose(self.num_frames, self.planted)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(backwards, name, value[::-1].copy())
        return backwards


Joints = dict[str, np.ndarray]


def _direction(forward: np.ndarray, outward: np.ndarray) -> np.ndarray:
    """Return unit vectors of limbs that hang down at angle 0.

    Args:
        forward: angles forwards, `[T, 2]`.
        outward: angles outwards, `[T, 2]`.

    Returns:
        `[T, 2, 3]` in the body frame.
    """
    return np.stack(
        [
            np.sin(forward) * np.cos(outward),
            -np.cos(forward) * np.cos(outward),
            np.sin(outward) * OUTWARD,
        ],
        axis=-1,
    )


def _legs(body: Body, pose: Pose) -> Joints:
    """Return the leg joints around a pelvis at the origin, each `[T, 2, 3]`."""
    size = body.lengths
    flat = np.zeros_like(pose.hip)
    hip = np.zeros((pose.num_frames, 2, 3))
    hip[..., 2] = size["hip"] * OUTWARD
    knee = hip + size["thigh"] * _direction(pose.hip, flat + THIGH_OUTWARD)
    ankle = knee + size["shank"] * _direction(pose.hip - pose.knee, flat)
    # The heel rises when the foot is behind the body.
    tilt = 0.5 * np.clip(pose.knee - pose.hip, 0.0, 1.2)
    toe = ankle + size["foot"] * np.stack([np.cos(tilt), -np.sin(tilt), flat], axis=-1)
    return {"hip": hip, "knee": knee, "ankle": ankle, "toe": toe}


def _upper_body(body: Body, pose: Pose) -> Joints:
    """Return trunk `[T, 3]` and arm joints `[T, 2, 3]` over a pelvis at the origin."""
    size = body.lengths
    up = np.stack(
        [np.sin(pose.lean), np.cos(pose.lean) * np.cos(pose.roll), np.sin(pose.roll)], axis=-1
    )
    neck = size["torso"] * up
    nod = pose.lean - pose.head
    head = neck + (size["neck"] + size["head"]) * np.stack(
        [np.sin(nod), np.cos(nod), np.sin(pose.roll)], axis=-1
    )
    shoulder = np.repeat(neck[:, None], 2, axis=1) - 0.02 * up[:, None]
    shoulder[..., 2] += size["shoulder"] * OUTWARD
    elbow = shoulder + size["upper_arm"] * _direction(pose.shoulder, pose.side)
    hand = elbow + size["forearm"] * _direction(pose.shoulder + pose.elbow, pose.side + pose.swing)
    return {"neck": neck, "head": head, "shoulder": shoulder, "elbow": elbow, "hand": hand}


def joint_positions(body: Body, pose: Pose, facing: float) -> Joints:
    """Compute the joint positions in the world (forward kinematics).

    Args:
        body: proportions.
        pose: joint angles of T frames.
        facing: direction that the figure faces at `yaw` 0, in radians: 0 is the right of the
            picture, pi / 2 the camera.

    Returns:
        Positions in body heights: `pelvis`, `neck` and `head` `[T, 3]`, and `hip`, `knee`,
        `ankle`, `toe`, `shoulder`, `elbow` and `hand` `[T, 2, 3]`.
    """
    legs = _legs(body, pose)
    upper = _upper_body(body, pose)
    # The pelvis is as high as the lowest foot needs.
    lowest = np.minimum(legs["ankle"][..., 1], legs["toe"][..., 1]).min(axis=1)
    pelvis = np.zeros((pose.num_frames, 3))
    pelvis[:, 0] = -legs["ankle"][..., 0].mean(axis=1) if pose.planted else 0.0
    pelvis[:, 1] = pose.hop - lowest
    joints = {"pelvis": pelvis, **legs, **upper}
    for name in (*legs, *upper):
        joints[name] = joints[name] + (pelvis if joints[name].ndim == 2 else pelvis[:, None])
    # All joints turn about the vertical through the origin, then travel along the facing direction.
    for name in joints:
        joints[name] = _turned(joints[name], pose.yaw + facing)
        shape = (-1,) + (1,) * (joints[name].ndim - 2)
        joints[name][..., 0] += (pose.travel * np.cos(facing)).reshape(shape)
        joints[name][..., 2] += (pose.travel * np.sin(facing)).reshape(shape)
    return joints


def _turned(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotate body-frame points to world axes.

    Args:
        points: `[T, ..., 3]`.
        angle: direction of forward, which becomes (cos, 0, sin), in radians, `[T]`.

    Returns:
        `[T, ..., 3]`.
    """
    angle = angle.reshape((-1,) + (1,) * (points.ndim - 2))
    x = points[..., 0]
    y = points[..., 1]
    z = points[..., 2]
    cos = np.cos(angle)
    sin = np.sin(angle)
    return np.stack([x * cos + z * sin, y, x * sin - z * cos], axis=-1)


def to_world(point: tuple[float, float, float], facing: float) -> np.ndarray:
    """Return a point of the body frame (at yaw 0, before any travel) in the world, `[3]`."""
    return _turned(np.array([point]), np.array([facing]))[0]
