"""What is in the picture: the figure, its props, other things, a background, a moving camera."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from nightcrawler.synthetic.actions import ACTIONS, Motion, Prop
from nightcrawler.synthetic.render import (
    SUPERSAMPLING,
    Camera,
    Capsule,
    Color,
    Cuboid,
    Shape,
    render,
)
from nightcrawler.synthetic.skeleton import (
    SIDES,
    Body,
    Joints,
    joint_positions,
    sample_body,
    to_world,
)

SKINS: tuple[Color, ...] = (
    (244, 208, 177),
    (224, 172, 130),
    (190, 130, 90),
    (141, 85, 54),
    (92, 58, 40),
)
MAX_JITTER_PX = 6.0
MARGIN = 1.6  # background over frame
HOLDS_SOMETHING = 0.25
BLOB_PROB = 0.3


def _color(rng: np.random.Generator, low: int = 30, high: int = 240) -> Color:
    red, green, blue = (int(value) for value in rng.integers(low, high, 3))
    return red, green, blue


def _darker(color: Color, share: float = 0.75) -> Color:
    return tuple(int(channel * share) for channel in color)  # type: ignore[return-value]


def figure_shapes(rng: np.random.Generator, body: Body, joints: Joints) -> list[Shape]:
    """The limbs, dressed: long or short sleeves and trousers in random colours."""
    skin = SKINS[rng.integers(len(SKINS))]
    shirt, trousers, shoes = _color(rng), _color(rng, 20, 200), _color(rng, 10, 120)
    forearm = shirt if rng.random() < 0.5 else skin
    shank = trousers if rng.random() < 0.75 else skin
    hair = _color(rng, 10, 110)
    thick = body.thickness
    shapes: list[Shape] = []
    for side in SIDES:
        # The far side a little darker, so that left and right can be told apart.
        tone = 1.0 if side else 0.8

        def limb(
            start: str, end: str, radius: float, color: Color, side: int = side, tone: float = tone
        ) -> Shape:
            return Capsule(
                joints[start][:, side], joints[end][:, side], radius * thick, _darker(color, tone)
            )

        shapes += [
            limb("hip", "knee", 0.048, trousers),
            limb("knee", "ankle", 0.036, shank),
            limb("ankle", "toe", 0.027, shoes),
            limb("shoulder", "elbow", 0.033, shirt),
            limb("elbow", "hand", 0.026, forearm),
            Capsule(
                joints["hand"][:, side], joints["hand"][:, side], 0.032 * thick, _darker(skin, tone)
            ),
        ]
    chest = joints["neck"] - 0.08 * (joints["neck"] - joints["pelvis"])
    shapes += [
        Capsule(joints["pelvis"], chest, 0.078 * thick, shirt),
        Capsule(joints["shoulder"][:, 0], joints["shoulder"][:, 1], 0.04 * thick, shirt),
        Capsule(joints["hip"][:, 0], joints["hip"][:, 1], 0.055 * thick, trousers),
        Capsule(joints["neck"], joints["head"], 0.03 * thick, skin),
        *_head(body, joints, skin, hair),
    ]
    return shapes


def _head(body: Body, joints: Joints, skin: Color, hair: Color) -> list[Shape]:
    radius = body.lengths["head"]
    up = joints["head"] - joints["neck"]
    up = up / np.linalg.norm(up, axis=1, keepdims=True)
    back = (
        joints["head"] - joints["toe"].mean(axis=1) + joints["ankle"].mean(axis=1) - joints["head"]
    )
    back = back / np.maximum(np.linalg.norm(back, axis=1, keepdims=True), 1e-6)
    crown = joints["head"] + 0.45 * radius * up + 0.3 * radius * back
    return [
        Capsule(
            joints["head"] - 0.2 * radius * up, joints["head"] + 0.2 * radius * up, radius, skin
        ),
        Capsule(crown, crown + 0.25 * radius * up, 0.85 * radius, hair),
    ]


def _cup(rng: np.random.Generator, prop: Prop, joints: Joints, facing: float) -> list[Shape]:
    """A cup in the hand; it tilts towards the drinker."""
    hand = joints["hand"][:, prop.hand]
    forward = to_world((1.0, 0.0, 0.0), facing)
    axis = (
        np.cos(prop.tilt)[:, None] * np.array([0.0, 1.0, 0.0])
        - np.sin(prop.tilt)[:, None] * forward
    )
    return [
        Capsule(
            hand - 0.03 * axis, hand + 0.075 * axis, 0.038, _color(rng, 120, 255), round_ends=False
        )
    ]


def _bottle_axis(prop: Prop, facing: float) -> np.ndarray:
    """`[T, 3]`: a bottle tilts forwards and inwards, which shows from the front and from the side."""
    inward = to_world((0.7, 0.0, 0.7 if prop.hand else -0.7), facing)
    return (
        np.cos(prop.tilt)[:, None] * np.array([0.0, 1.0, 0.0]) + np.sin(prop.tilt)[:, None] * inward
    )


def _bottle(rng: np.random.Generator, prop: Prop, joints: Joints, facing: float) -> list[Shape]:
    """A bottle with a neck, in the hand."""
    hand, axis = joints["hand"][:, prop.hand], _bottle_axis(prop, facing)
    color = _color(rng)
    return [
        Capsule(hand - 0.07 * axis, hand + 0.07 * axis, 0.042, color, round_ends=False),
        Capsule(hand + 0.07 * axis, hand + 0.16 * axis, 0.018, _darker(color), round_ends=False),
    ]


def _table(rng: np.random.Generator, prop: Prop, joints: Joints, facing: float) -> list[Shape]:
    """A table, a cup on it where the tilted bottle's mouth is, and the stream between them."""
    num_frames = len(prop.tilt)
    mouth = joints["hand"][:, prop.hand] + 0.16 * _bottle_axis(prop, facing)
    place = mouth[int(np.argmax(prop.tilt))] * np.array([1.0, 0.0, 1.0])
    height = rng.uniform(0.36, 0.46)
    wide = (rng.uniform(0.2, 0.3), 0.03, rng.uniform(0.3, 0.45))
    wood, cup = _color(rng, 50, 220), _color(rng, 120, 255)
    liquid = ((150, 200, 255), (120, 60, 20), (240, 240, 240), (220, 160, 30))[rng.integers(4)]
    beyond = place + 0.06 * to_world((1.0, 0.0, 0.0), facing)

    def at(point: np.ndarray, y: float) -> np.ndarray:
        return np.repeat((point + np.array([0.0, y, 0.0]))[None], num_frames, axis=0)

    shapes: list[Shape] = [
        Cuboid(at(beyond, height), wide, facing, wood),
        Cuboid(at(beyond, height / 2), (0.05, height, 0.05), facing, _darker(wood)),
        Capsule(at(place, height + 0.015), at(place, height + 0.12), 0.042, cup, round_ends=False),
        Capsule(mouth, at(place, height + 0.1), 0.012, liquid, visible=prop.tilt > np.radians(72)),
    ]
    return shapes


def _box(rng: np.random.Generator, prop: Prop, joints: Joints, facing: float) -> list[Shape]:
    size = tuple(rng.uniform(0.08, 0.15, 3))
    hand = joints["hand"][:, prop.hand]
    taken = int(np.argmax(prop.held)) if prop.held.any() else len(hand) - 1
    resting = hand[taken] * np.array([1.0, 0.0, 1.0]) + np.array([0.0, size[1] / 2, 0.0])
    center = np.where(prop.held[:, None], hand - np.array([0.0, size[1] / 3, 0.0]), resting)
    return [Cuboid(center, size, float(rng.uniform(0, 3.1)), _color(rng, 60, 255))]  # type: ignore[arg-type]


def _cart(rng: np.random.Generator, prop: Prop, joints: Joints, facing: float) -> list[Shape]:
    depth, height, width = rng.uniform(0.25, 0.45), rng.uniform(0.55, 0.8), rng.uniform(0.3, 0.45)
    hands = joints["hand"].mean(axis=1)
    # At the furthest reach of the arms, moving as the figure does.
    way = joints["pelvis"] - joints["pelvis"][:1]
    forward = to_world((1.0, 0.0, 0.0), facing)
    reach = float(((hands - joints["pelvis"]) @ forward).max())
    center = joints["pelvis"][:1] + way + forward * (reach + 0.03 + depth / 2)
    center = center * np.array([1.0, 0.0, 1.0]) + np.array([0.0, height / 2, 0.0])
    return [Cuboid(center, (depth, height, width), facing, _color(rng, 60, 230))]


def _chair(rng: np.random.Generator, joints: Joints, facing: float) -> list[Shape]:
    """A chair where the pelvis is lowest."""
    low = int(np.argmin(joints["pelvis"][:, 1]))
    seat_height = float(joints["pelvis"][low, 1]) - 0.07
    return chair(rng, joints["pelvis"][low], seat_height, facing, len(joints["pelvis"]))


def chair(
    rng: np.random.Generator, place: np.ndarray, seat_height: float, facing: float, num_frames: int
) -> list[Shape]:
    """Seat, back and four legs around `place` `[3]`."""
    color, wood = _color(rng, 50, 230), _color(rng, 30, 160)
    base = place * np.array([1.0, 0.0, 1.0])

    def at(x: float, y: float, z: float) -> np.ndarray:
        return np.repeat((base + to_world((x, y, z), facing))[None], num_frames, axis=0)

    shapes: list[Shape] = [
        Cuboid(at(0.0, seat_height - 0.02, 0.0), (0.26, 0.04, 0.26), facing, color),
        Cuboid(at(-0.14, seat_height + 0.16, 0.0), (0.03, 0.34, 0.26), facing, color),
    ]
    for x in (-0.11, 0.11):
        for z in (-0.11, 0.11):
            shapes.append(Capsule(at(x, seat_height - 0.04, z), at(x, 0.0, z), 0.013, wood))
    return shapes


def prop_shapes(rng: np.random.Generator, prop: Prop, joints: Joints, facing: float) -> list[Shape]:
    """The shapes of one prop."""
    if prop.kind == "chair":
        return _chair(rng, joints, facing)
    makers = {"cup": _cup, "bottle": _bottle, "table": _table, "box": _box, "cart": _cart}
    return makers[prop.kind](rng, prop, joints, facing)


def distractors(
    rng: np.random.Generator, motion: Motion, joints: Joints, facing: float
) -> list[Shape]:
    """Furniture, a thing in the hand of someone who does something else, a blob that passes by."""
    num_frames = len(joints["pelvis"])
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(0, 3))):
        place = np.array(
            [rng.choice([-1, 1]) * rng.uniform(0.35, 0.75), 0.0, rng.uniform(-0.7, -0.2)]
        )
        if rng.random() < 0.5:
            shapes += chair(
                rng, place, rng.uniform(0.22, 0.3), float(rng.uniform(0, 6.3)), num_frames
            )
        else:
            size = (rng.uniform(0.15, 0.5), rng.uniform(0.15, 0.45), rng.uniform(0.15, 0.5))
            center = np.repeat(
                (place + np.array([0.0, size[1] / 2, 0.0]))[None], num_frames, axis=0
            )
            shapes.append(Cuboid(center, size, float(rng.uniform(0, 3.1)), _color(rng)))
    if not motion.props and rng.random() < HOLDS_SOMETHING:
        held = Prop("box", int(rng.integers(2)), held=np.ones(num_frames, bool))
        shapes += _box(rng, held, joints, facing)
    if rng.random() < BLOB_PROB:
        way = np.linspace(rng.uniform(-1.0, 0.0), rng.uniform(0.0, 1.0), num_frames) * rng.choice(
            [-1, 1]
        )
        height = np.full(num_frames, rng.uniform(0.05, 1.0))
        points = np.stack([way, height, np.full(num_frames, -0.8)], axis=1)
        shapes.append(Capsule(points, points, float(rng.uniform(0.03, 0.09)), _color(rng)))
    return shapes


def background(rng: np.random.Generator, height: int, width: int, ground: float) -> np.ndarray:
    """A wall, a floor, texture and clutter: uint8 `[1.6 * 2 H, 1.6 * 2 W, 3]`."""
    high, wide = int(MARGIN * SUPERSAMPLING * height), int(MARGIN * SUPERSAMPLING * width)
    wall, floor = np.array(_color(rng, 60, 230)), np.array(_color(rng, 40, 200))
    horizon = int(
        (high - SUPERSAMPLING * height) / 2
        + SUPERSAMPLING * (ground - rng.uniform(0.1, 0.3) * height)
    )
    picture = np.empty((high, wide, 3))
    picture[:horizon], picture[horizon:] = wall, floor
    picture *= np.linspace(rng.uniform(0.75, 1.1), rng.uniform(0.75, 1.1), wide)[None, :, None]
    grain = rng.normal(0, rng.uniform(4, 14), (high // 6 + 1, wide // 6 + 1))
    texture = Image.fromarray(grain.astype(np.float32)).resize(
        (wide, high), Image.Resampling.BILINEAR
    )
    picture += np.asarray(texture)[..., None]
    canvas_image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    canvas = ImageDraw.Draw(canvas_image)
    for _ in range(int(rng.integers(1, 9))):
        x, y = rng.uniform(0, wide), rng.uniform(0, horizon)
        w, h = rng.uniform(0.03, 0.25) * wide, rng.uniform(0.03, 0.3) * high
        shape = canvas.rectangle if rng.random() < 0.7 else canvas.ellipse
        shape((x - w / 2, y - h / 2, x + w / 2, y + h / 2), fill=_color(rng, 40, 230))
    return np.asarray(canvas_image.filter(ImageFilter.GaussianBlur(1.2)))


def sample_view(rng: np.random.Generator, joints: Joints, height: int, width: int) -> Camera:
    """A camera that follows most of the way and shakes a little."""
    num_frames = len(joints["pelvis"])
    scale = rng.uniform(0.7, 0.92) * height
    mirrored = bool(rng.random() < 0.5)
    walk = np.cumsum(rng.normal(0, 0.25, (num_frames, 2)), axis=0)
    jitter = np.clip(walk, -MAX_JITTER_PX, MAX_JITTER_PX) * rng.uniform(0, 1)
    middle = joints["pelvis"][:, 0] * (-1 if mirrored else 1) * scale
    track = rng.uniform(0.55, 1.0)
    # What is left of the way is spread around the middle of the frame.
    pan = jitter + np.stack(
        [track * (middle - middle.mean()) + middle.mean(), np.zeros(num_frames)], axis=1
    )
    return Camera(
        height, width, scale, float(np.radians(rng.uniform(0, 16))), 0.95 * height, pan, mirrored
    )


def render_clip(
    rng: np.random.Generator, action: str, num_frames: int, fps: float, height: int, width: int
) -> np.ndarray:
    """One clip of someone doing `action`, in normal light; uint8 `[T, H, W, 3]`."""
    motion = ACTIONS[action](rng, np.arange(num_frames) / fps)
    body = sample_body(rng)
    facing = float(np.radians(rng.uniform(0, 85)))
    joints = joint_positions(body, motion.pose, facing)
    shapes = figure_shapes(rng, body, joints)
    for prop in motion.props:
        shapes += prop_shapes(rng, prop, joints, facing)
    shapes += distractors(rng, motion, joints, facing)
    camera = sample_view(rng, joints, height, width)
    return render(shapes, background(rng, height, width, camera.ground), camera)
