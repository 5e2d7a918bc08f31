"""What a camera on a lamp post sees beside a person: fences, cars, corridors, lamps, others."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from nightcrawler.synthetic.actions import ACTIONS, action_time
from nightcrawler.synthetic.props import darker, random_color
from nightcrawler.synthetic.render import Capsule, Color, Cuboid, Shape
from nightcrawler.synthetic.skeleton import Joints, joint_positions, sample_body

# Probabilities of a lamp in the picture, of something that hides the legs, of a passer-by, and of a
# coat or a bag.
LAMP_PROB = 0.3
LEGS_HIDDEN_PROB = 0.12
PASSER_BY_PROB = 0.2
COAT_PROB = 0.25
BAG_PROB = 0.2
# Size of a passer-by, who is farther away, over that of the person.
PASSER_BY_SIZE = (0.55, 0.9)


def draw_place(rng: np.random.Generator, image: Image.Image, horizon: int) -> None:
    """Draw a fence, parked cars, a corridor or nothing, and sometimes a lamp, in place.

    Args:
        rng: generator of the draws.
        image: background, supersampled.
        horizon: row where the wall meets the ground.
    """
    canvas = ImageDraw.Draw(image)
    place = (_draw_fence, _draw_cars, _draw_corridor, None)[int(rng.integers(4))]
    if place is not None:
        place(rng, canvas, image.size, horizon)
    if rng.random() < LAMP_PROB:
        _draw_lamp(rng, canvas, image.size, horizon)


def _draw_fence(
    rng: np.random.Generator, canvas: ImageDraw.ImageDraw, size: tuple[int, int], horizon: int
) -> None:
    color = random_color(rng)
    step = rng.uniform(0.02, 0.06) * size[0]
    top = horizon - rng.uniform(0.15, 0.4) * size[1]
    bar = max(1, round(rng.uniform(0.1, 0.4) * step))
    for x in np.arange(rng.uniform(0, step), size[0], step):
        canvas.line((x, top, x, horizon), fill=color, width=bar)
    for y in (top, 0.5 * (top + horizon)):
        canvas.line((0, y, size[0], y), fill=color, width=bar)


def _draw_cars(
    rng: np.random.Generator, canvas: ImageDraw.ImageDraw, size: tuple[int, int], horizon: int
) -> None:
    for _ in range(int(rng.integers(1, 4))):
        color = random_color(rng)
        length = rng.uniform(0.25, 0.45) * size[0]
        height = rng.uniform(0.3, 0.4) * length
        x = rng.uniform(-0.2, 0.9) * size[0]
        bottom = horizon + rng.uniform(0.0, 0.3) * height
        body = (x, bottom - 0.6 * height, x + length, bottom - 0.12 * height)
        cabin = (x + 0.2 * length, bottom - height, x + 0.75 * length, bottom - 0.5 * height)
        canvas.rounded_rectangle(cabin, 0.15 * height, fill=darker(color, 0.6))
        canvas.rounded_rectangle(body, 0.15 * height, fill=color)
        for share in (0.22, 0.78):
            middle = x + share * length
            wheel = 0.15 * height
            canvas.ellipse(
                (middle - wheel, bottom - 2 * wheel, middle + wheel, bottom), fill=(25, 25, 25)
            )


def _draw_corridor(
    rng: np.random.Generator, canvas: ImageDraw.ImageDraw, size: tuple[int, int], horizon: int
) -> None:
    """Draw walls that meet far away, with a door at the end."""
    width, height = size
    x = rng.uniform(0.3, 0.7) * width
    half = rng.uniform(0.06, 0.15) * width
    top = horizon - rng.uniform(0.2, 0.35) * height
    wall = random_color(rng, 60, 230)
    canvas.polygon([(0, 0), (x - half, top), (x - half, horizon), (0, height)], fill=wall)
    right = [(width, 0), (x + half, top), (x + half, horizon), (width, height)]
    canvas.polygon(right, fill=darker(wall, rng.uniform(0.6, 0.95)))
    canvas.rectangle((x - half, top, x + half, horizon), fill=random_color(rng))


def _draw_lamp(
    rng: np.random.Generator, canvas: ImageDraw.ImageDraw, size: tuple[int, int], horizon: int
) -> None:
    x = rng.uniform(0.2, 0.8) * size[0]
    y = rng.uniform(0.2, 0.5) * horizon + 0.1 * size[1]
    radius = rng.uniform(0.008, 0.025) * size[0]
    canvas.line((x, y, x, horizon), fill=(60, 60, 60), width=max(1, round(0.5 * radius)))
    for share, color in ((2.2, (200, 190, 160)), (1.0, (255, 252, 240))):
        reach = share * radius
        canvas.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color)


def clothes(rng: np.random.Generator, joints: Joints, thickness: float) -> list[Shape]:
    """Return a coat to the knees and a bag on the back, each for some people.

    Args:
        rng: generator of the draws.
        joints: joint positions of the person.
        thickness: factor on the width of limbs.
    """
    shapes: list[Shape] = []
    if rng.random() < COAT_PROB:
        color = random_color(rng, 15, 160)
        share = rng.uniform(0.5, 0.9)
        for side in (0, 1):
            hip = joints["hip"][:, side]
            hem = hip + share * (joints["knee"][:, side] - hip)
            shapes.append(Capsule(hip, hem, 0.062 * thickness, darker(color, (0.8, 1.0)[side])))
        shapes.append(Capsule(joints["pelvis"], joints["neck"], 0.086 * thickness, color))
    if rng.random() < BAG_PROB:
        back = joints["ankle"].mean(axis=1) - joints["toe"].mean(axis=1)
        back = back / np.maximum(np.linalg.norm(back, axis=1, keepdims=True), 1e-6)
        trunk = joints["neck"] - joints["pelvis"]
        low = joints["pelvis"] + 0.35 * trunk + 0.1 * back
        high = joints["pelvis"] + 0.85 * trunk + 0.1 * back
        shapes.append(Capsule(low, high, float(rng.uniform(0.05, 0.085)), random_color(rng)))
    return shapes


def in_front(rng: np.random.Generator, num_frames: int) -> list[Shape]:
    """Return a wall, a car or a bench that hides the legs, for some people.

    Args:
        rng: generator of the draws.
        num_frames: T.
    """
    if rng.random() >= LEGS_HIDDEN_PROB:
        return []
    height = rng.uniform(0.15, 0.4)
    size = (rng.uniform(0.5, 2.5), height, rng.uniform(0.1, 0.4))
    center = np.array([rng.uniform(-0.6, 0.6), height / 2, rng.uniform(0.7, 1.0)])
    return [Cuboid(np.repeat(center[None], num_frames, axis=0), size, 0.0, random_color(rng))]


def passer_by(rng: np.random.Generator, num_frames: int, fps: float) -> list[Shape]:
    """Return a second person who walks or stands farther away, in some clips.

    Args:
        rng: generator of the draws.
        num_frames: T.
        fps: frames per second.
    """
    if rng.random() >= PASSER_BY_PROB:
        return []
    action = "Walk" if rng.random() < 0.5 else "Turn"
    motion = ACTIONS[action](rng, action_time(rng, num_frames, fps))
    size = float(rng.uniform(*PASSER_BY_SIZE))
    body = sample_body(rng, (0.9 * size, 1.1 * size), (0.85 * size, 1.25 * size))
    facing = float(rng.uniform(0, 2 * np.pi))
    joints = joint_positions(body, motion.pose, facing)
    place = np.array([rng.choice([-1, 1]) * rng.uniform(0.4, 1.0), 0.0, rng.uniform(-2.0, -1.0)])
    moved = {name: points + place for name, points in joints.items()}
    return _plain_figure(rng, moved, body.thickness, body.lengths["head"])


def _plain_figure(
    rng: np.random.Generator, joints: Joints, thickness: float, head: float
) -> list[Shape]:
    """Return a person of few shapes, for one who is far away."""
    coat: Color = random_color(rng, 15, 200)
    trousers = random_color(rng, 15, 160)
    shapes: list[Shape] = [
        Capsule(joints["pelvis"], joints["neck"], 0.08 * thickness, coat),
        Capsule(joints["head"], joints["head"], head, random_color(rng, 60, 220)),
    ]
    for side in (0, 1):
        legs = (("hip", "knee", trousers), ("knee", "ankle", trousers))
        arms = (("shoulder", "elbow", coat), ("elbow", "hand", coat))
        for start, end, color in (*legs, *arms):
            limb = Capsule(joints[start][:, side], joints[end][:, side], 0.036 * thickness, color)
            shapes.append(limb)
    return shapes
