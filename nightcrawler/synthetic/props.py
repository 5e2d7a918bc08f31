"""Shapes of the props that actions use: cup, bottle, table, box, cart, chair."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nightcrawler.synthetic.actions import Prop
from nightcrawler.synthetic.render import Capsule, Color, Cuboid, Shape, scale_color
from nightcrawler.synthetic.skeleton import Joints, to_world

UP = np.array([0.0, 1.0, 0.0])
# Projection of a point to the ground.
ON_GROUND = np.array([1.0, 0.0, 1.0])
# Distance from the hand to the mouth of a bottle, in body heights.
BOTTLE_MOUTH = 0.16
# Tilt from which a bottle pours.
POURING_TILT = np.radians(72)
LIQUIDS: tuple[Color, ...] = ((150, 200, 255), (120, 60, 20), (240, 240, 240), (220, 160, 30))


def random_color(rng: np.random.Generator, low: int = 30, high: int = 240) -> Color:
    """Draw a colour with channels from `low` to `high` - 1."""
    red, green, blue = rng.integers(low, high, 3).tolist()
    return red, green, blue


def darker(color: Color, share: float = 0.75) -> Color:
    """Return a colour with a share of its brightness."""
    return scale_color(color, share)


def _repeated(point: np.ndarray, num_frames: int) -> np.ndarray:
    """Return a fixed point `[3]` in every frame, `[T, 3]`."""
    return np.repeat(point[None], num_frames, axis=0)


def _cup(rng: np.random.Generator, prop: Prop, joints: Joints, facing: float) -> list[Shape]:
    """Return a cup in the hand that tilts towards the drinker."""
    hand = joints["hand"][:, prop.hand]
    forward = to_world((1.0, 0.0, 0.0), facing)
    axis = np.cos(prop.tilt)[:, None] * UP - np.sin(prop.tilt)[:, None] * forward
    color = random_color(rng, 120, 255)
    return [Capsule(hand - 0.03 * axis, hand + 0.075 * axis, 0.038, color, round_ends=False)]


def _bottle_axis(prop: Prop, facing: float) -> np.ndarray:
    """Return the axis of a bottle, `[T, 3]`.

    It tilts forwards and inwards, which is visible from the front and from the side.
    """
    inward = to_world((0.7, 0.0, 0.7 if prop.hand else -0.7), facing)
    return np.cos(prop.tilt)[:, None] * UP + np.sin(prop.tilt)[:, None] * inward


def _bottle(rng: np.random.Generator, prop: Prop, joints: Joints, facing: float) -> list[Shape]:
    """Return a bottle with a neck, in the hand."""
    hand = joints["hand"][:, prop.hand]
    axis = _bottle_axis(prop, facing)
    color = random_color(rng)
    shoulder = hand + 0.07 * axis
    return [
        Capsule(hand - 0.07 * axis, shoulder, 0.042, color, round_ends=False),
        Capsule(shoulder, hand + BOTTLE_MOUTH * axis, 0.018, darker(color), round_ends=False),
    ]


def _table(rng: np.random.Generator, prop: Prop, joints: Joints, facing: float) -> list[Shape]:
    """Return a table, a cup on it below the tilted bottle's mouth, and the stream between them."""
    num_frames = len(prop.tilt)
    mouth = joints["hand"][:, prop.hand] + BOTTLE_MOUTH * _bottle_axis(prop, facing)
    place = mouth[int(np.argmax(prop.tilt))] * ON_GROUND
    height = rng.uniform(0.36, 0.46)
    top = (rng.uniform(0.2, 0.3), 0.03, rng.uniform(0.3, 0.45))
    wood = random_color(rng, 50, 220)
    cup = random_color(rng, 120, 255)
    liquid = LIQUIDS[rng.integers(4)]
    beyond = place + 0.06 * to_world((1.0, 0.0, 0.0), facing)

    def at(point: np.ndarray, y: float) -> np.ndarray:
        return _repeated(point + np.array([0.0, y, 0.0]), num_frames)

    pouring = prop.tilt > POURING_TILT
    return [
        Cuboid(at(beyond, height), top, facing, wood),
        Cuboid(at(beyond, height / 2), (0.05, height, 0.05), facing, darker(wood)),
        Capsule(at(place, height + 0.015), at(place, height + 0.12), 0.042, cup, round_ends=False),
        Capsule(mouth, at(place, height + 0.1), 0.012, liquid, visible=pouring),
    ]


def box(rng: np.random.Generator, prop: Prop, joints: Joints, facing: float) -> list[Shape]:
    """Return a box that lies on the ground until the hand takes it.

    Args:
        rng: generator of size and colour.
        prop: hand, and frames in which it holds the box.
        joints: joint positions of the figure.
        facing: not used; all props have the same arguments.
    """
    width, height, depth = rng.uniform(0.08, 0.15, 3).tolist()
    hand = joints["hand"][:, prop.hand]
    taken = int(np.argmax(prop.held)) if prop.held.any() else len(hand) - 1
    resting = hand[taken] * ON_GROUND + np.array([0.0, height / 2, 0.0])
    carried = hand - np.array([0.0, height / 3, 0.0])
    center = np.where(prop.held[:, None], carried, resting)
    yaw = float(rng.uniform(0, 3.1))
    return [Cuboid(center, (width, height, depth), yaw, random_color(rng, 60, 255))]


def _cart(rng: np.random.Generator, prop: Prop, joints: Joints, facing: float) -> list[Shape]:
    """Return a cart in front of the hands that moves with the figure."""
    depth = rng.uniform(0.25, 0.45)
    height = rng.uniform(0.55, 0.8)
    width = rng.uniform(0.3, 0.45)
    hands = joints["hand"].mean(axis=1)
    start = joints["pelvis"][:1]
    forward = to_world((1.0, 0.0, 0.0), facing)
    # At the farthest reach of the arms: bending them does not pull it back.
    reach = float(((hands - joints["pelvis"]) @ forward).max())
    center = start + (joints["pelvis"] - start) + forward * (reach + 0.03 + depth / 2)
    center = center * ON_GROUND + np.array([0.0, height / 2, 0.0])
    return [Cuboid(center, (depth, height, width), facing, random_color(rng, 60, 230))]


def _chair_below(
    rng: np.random.Generator, prop: Prop, joints: Joints, facing: float
) -> list[Shape]:
    """Return a chair below the lowest position of the pelvis."""
    lowest = int(np.argmin(joints["pelvis"][:, 1]))
    seat_height = float(joints["pelvis"][lowest, 1]) - 0.07
    return chair(rng, joints["pelvis"][lowest], seat_height, facing, len(joints["pelvis"]))


def chair(
    rng: np.random.Generator, place: np.ndarray, seat_height: float, facing: float, num_frames: int
) -> list[Shape]:
    """Return seat, back and four legs of a chair.

    Args:
        rng: generator of the colours.
        place: centre of the seat, `[3]`; its height is not used.
        seat_height: height of the seat, in body heights.
        facing: direction that the chair faces, in radians.
        num_frames: frames of the clip.
    """
    color = random_color(rng, 50, 230)
    wood = random_color(rng, 30, 160)
    base = place * ON_GROUND

    def at(x: float, y: float, z: float) -> np.ndarray:
        return _repeated(base + to_world((x, y, z), facing), num_frames)

    shapes: list[Shape] = [
        Cuboid(at(0.0, seat_height - 0.02, 0.0), (0.26, 0.04, 0.26), facing, color),
        Cuboid(at(-0.14, seat_height + 0.16, 0.0), (0.03, 0.34, 0.26), facing, color),
    ]
    for x in (-0.11, 0.11):
        for z in (-0.11, 0.11):
            shapes.append(Capsule(at(x, seat_height - 0.04, z), at(x, 0.0, z), 0.013, wood))
    return shapes


PropShapes = Callable[[np.random.Generator, Prop, Joints, float], list[Shape]]
PROPS: dict[str, PropShapes] = {
    "cup": _cup,
    "bottle": _bottle,
    "table": _table,
    "box": box,
    "cart": _cart,
    "chair": _chair_below,
}


def prop_shapes(rng: np.random.Generator, prop: Prop, joints: Joints, facing: float) -> list[Shape]:
    """Return the shapes of one prop.

    Args:
        rng: generator of sizes and colours.
        prop: kind and motion of the prop.
        joints: joint positions of the figure.
        facing: direction that the figure faces, in radians.
    """
    return PROPS[prop.kind](rng, prop, joints, facing)
