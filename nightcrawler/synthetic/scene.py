"""Scenes: a figure with its props, distractors, a background, and a moving camera."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from nightcrawler.pose.layouts import MIRRORED
from nightcrawler.synthetic.actions import ACTIONS, Motion, Prop, action_time
from nightcrawler.synthetic.motions import body_joints
from nightcrawler.synthetic.props import box, chair, darker, prop_shapes, random_color
from nightcrawler.synthetic.render import (
    SUPERSAMPLING,
    Camera,
    Capsule,
    Color,
    Cuboid,
    Shape,
    render,
)
from nightcrawler.synthetic.skeleton import SIDES, Body, Joints, joint_positions, sample_body
from nightcrawler.synthetic.street import clothes, draw_place, in_front, passer_by

SKINS: tuple[Color, ...] = (
    (244, 208, 177),
    (224, 172, 130),
    (190, 130, 90),
    (141, 85, 54),
    (92, 58, 40),
)
# Brightness of the left and the right limbs: the sides can then be told apart.
SIDE_TONES = (0.8, 1.0)
# Largest shake of the camera, in pixels.
MAX_JITTER_PX = 6.0
# Size of the background over that of a frame: the view moves over it.
MARGIN = 1.6
# Probability that a figure holds a box in an action that needs no prop.
HELD_BOX_PROB = 0.25
# Probability of a blob that passes in front.
BLOB_PROB = 0.3


@dataclass(frozen=True)
class SceneRanges:
    """Ranges that a person, a camera and a place are drawn from, each least and largest.

    Attributes:
        fps: frame rates that a clip may have.
        seconds: duration.
        height: body height over the height of a frame.
        ground: row of the ground under the person over the height of a frame.
        shift: columns from the middle of the frame over its width, at most, to either side.
        pitch: downward tilt of the camera, in degrees.
        facing: direction that the person faces, in degrees: 0 is the right of the picture, 90 the
            camera.
        lengths: length of a part of the body over its mean.
        thickness: factor on the width of limbs.
        street: people wait, hurry or dawdle, wear coats and bags, and are hidden in part; there are
            fences, cars, corridors, lamps and passers-by.
    """

    fps: tuple[int, ...] = (15, 20, 25, 30)
    seconds: tuple[float, float] = (2.0, 3.0)
    height: tuple[float, float] = (0.7, 0.92)
    ground: tuple[float, float] = (0.95, 0.95)
    shift: float = 0.0
    pitch: tuple[float, float] = (0.0, 16.0)
    facing: tuple[float, float] = (0.0, 85.0)
    lengths: tuple[float, float] = (0.9, 1.1)
    thickness: tuple[float, float] = (0.85, 1.25)
    street: bool = False


# A camera in front of the person, as people film each other in light.
NEAR = SceneRanges()
# A camera on a lamp post: it looks down on people, who differ more, from any distance it has.
STREET = SceneRanges(
    fps=(12, 15, 20),
    seconds=(2.5, 3.5),
    height=(0.7, 0.95),
    ground=(0.92, 1.0),
    shift=0.03,
    pitch=(30.0, 48.0),
    facing=(-15.0, 85.0),
    lengths=(0.88, 1.12),
    thickness=(0.8, 1.4),
    street=True,
)


@dataclass(frozen=True)
class Scene:
    """A figure in its surroundings, ready to be rendered.

    Attributes:
        shapes: objects, the figure among them.
        background: supersampled picture, see `render.render`.
        camera: view of the T frames.
        joints: of the figure in the world, see `skeleton.joint_positions`.
    """

    shapes: list[Shape]
    background: np.ndarray
    camera: Camera
    joints: Joints

    def frames(self) -> np.ndarray:
        """Render the scene, uint8 `[T, H, W, 3]`."""
        return render(self.shapes, self.background, self.camera)

    def joints_in_picture(self) -> np.ndarray:
        """Return the joints of layout `body` in pixels (column, row), `[T, 13, 2]`.

        In a mirrored picture the left hand is seen as a right one, and has its name.
        """
        points = self.camera.project(body_joints(self.joints))[0] / SUPERSAMPLING
        return points[:, MIRRORED] if self.camera.mirrored else points


def figure_shapes(rng: np.random.Generator, body: Body, joints: Joints) -> list[Shape]:
    """Return the limbs, dressed in random colours with long or short sleeves and trousers.

    Args:
        rng: generator of the clothes.
        body: proportions.
        joints: joint positions, see `joint_positions`.
    """
    skin = SKINS[rng.integers(len(SKINS))]
    shirt = random_color(rng)
    trousers = random_color(rng, 20, 200)
    shoes = random_color(rng, 10, 120)
    forearm = shirt if rng.random() < 0.5 else skin
    shank = trousers if rng.random() < 0.75 else skin
    hair = random_color(rng, 10, 110)
    thick = body.thickness
    limbs = (
        ("hip", "knee", 0.048, trousers),
        ("knee", "ankle", 0.036, shank),
        ("ankle", "toe", 0.027, shoes),
        ("shoulder", "elbow", 0.033, shirt),
        ("elbow", "hand", 0.026, forearm),
        ("hand", "hand", 0.032, skin),
    )
    shapes: list[Shape] = []
    for side in SIDES:
        for start, end, radius, color in limbs:
            tone = darker(color, SIDE_TONES[side])
            shapes.append(
                Capsule(joints[start][:, side], joints[end][:, side], radius * thick, tone)
            )
    # The trunk ends below the neck, which is thinner.
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
    """Return a head with hair on the side away from the toes."""
    radius = body.lengths["head"]
    head = joints["head"]
    up = head - joints["neck"]
    up = up / np.linalg.norm(up, axis=1, keepdims=True)
    # The feet point where the figure faces.
    back = head - joints["toe"].mean(axis=1) + joints["ankle"].mean(axis=1) - head
    back = back / np.maximum(np.linalg.norm(back, axis=1, keepdims=True), 1e-6)
    crown = head + 0.45 * radius * up + 0.3 * radius * back
    return [
        Capsule(head - 0.2 * radius * up, head + 0.2 * radius * up, radius, skin),
        Capsule(crown, crown + 0.25 * radius * up, 0.85 * radius, hair),
    ]


def distractors(
    rng: np.random.Generator, motion: Motion, joints: Joints, facing: float
) -> list[Shape]:
    """Return objects that say nothing of the action.

    Up to two pieces of furniture, sometimes a box in the hand in an action without props, and
    sometimes a blob that passes by: props alone do not tell the class.

    Args:
        rng: generator of the draws.
        motion: action of the figure.
        joints: joint positions of the figure.
        facing: direction that the figure faces, in radians.
    """
    num_frames = len(joints["pelvis"])
    shapes: list[Shape] = []
    for _ in range(int(rng.integers(0, 3))):
        shapes += _furniture(rng, num_frames)
    if not motion.props and rng.random() < HELD_BOX_PROB:
        held = Prop("box", int(rng.integers(2)), held=np.ones(num_frames, bool))
        shapes += box(rng, held, joints, facing)
    if rng.random() < BLOB_PROB:
        path = np.linspace(rng.uniform(-1.0, 0.0), rng.uniform(0.0, 1.0), num_frames)
        path = path * rng.choice([-1, 1])
        height = np.full(num_frames, rng.uniform(0.05, 1.0))
        points = np.stack([path, height, np.full(num_frames, -0.8)], axis=1)
        radius = float(rng.uniform(0.03, 0.09))
        shapes.append(Capsule(points, points, radius, random_color(rng)))
    return shapes


def _furniture(rng: np.random.Generator, num_frames: int) -> list[Shape]:
    """Draw a chair or a box that stands behind the figure, to its left or right."""
    x = rng.choice([-1, 1]) * rng.uniform(0.35, 0.75)
    place = np.array([x, 0.0, rng.uniform(-0.7, -0.2)])
    if rng.random() < 0.5:
        seat_height = rng.uniform(0.22, 0.3)
        return chair(rng, place, seat_height, float(rng.uniform(0, 6.3)), num_frames)
    size = (rng.uniform(0.15, 0.5), rng.uniform(0.15, 0.45), rng.uniform(0.15, 0.5))
    center = place + np.array([0.0, size[1] / 2, 0.0])
    yaw = float(rng.uniform(0, 3.1))
    return [Cuboid(np.repeat(center[None], num_frames, axis=0), size, yaw, random_color(rng))]


def background(
    rng: np.random.Generator, height: int, width: int, ground: float, street: bool = False
) -> np.ndarray:
    """Draw a background: wall, floor, texture and clutter.

    Args:
        rng: generator of the draws.
        height: rows of a frame.
        width: columns of a frame.
        ground: row of the ground under the figure.
        street: draw a place behind the clutter, see `street.draw_place`.

    Returns:
        uint8 `[1.6 * 2 H, 1.6 * 2 W, 3]`, supersampled and with a margin.
    """
    rows = int(MARGIN * SUPERSAMPLING * height)
    columns = int(MARGIN * SUPERSAMPLING * width)
    wall = np.array(random_color(rng, 60, 230))
    floor = np.array(random_color(rng, 40, 200))
    margin = (rows - SUPERSAMPLING * height) / 2
    horizon = int(margin + SUPERSAMPLING * (ground - rng.uniform(0.1, 0.3) * height))
    picture = np.empty((rows, columns, 3))
    picture[:horizon] = wall
    picture[horizon:] = floor
    # Light falls off from one side to the other.
    shading = np.linspace(rng.uniform(0.75, 1.1), rng.uniform(0.75, 1.1), columns)
    picture *= shading[None, :, None]
    grain = rng.normal(0, rng.uniform(4, 14), (rows // 6 + 1, columns // 6 + 1))
    texture = Image.fromarray(grain.astype(np.float32))
    texture = texture.resize((columns, rows), Image.Resampling.BILINEAR)
    picture += np.asarray(texture)[..., None]
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    if street:
        draw_place(rng, image, horizon)
    _draw_clutter(rng, image, horizon)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(1.2)))


def _draw_clutter(rng: np.random.Generator, image: Image.Image, horizon: int) -> None:
    """Draw one to eight rectangles and ellipses on the wall, in place."""
    canvas = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(1, 9))):
        x = rng.uniform(0, image.width)
        y = rng.uniform(0, horizon)
        w = rng.uniform(0.03, 0.25) * image.width
        h = rng.uniform(0.03, 0.3) * image.height
        draw = canvas.rectangle if rng.random() < 0.7 else canvas.ellipse
        draw((x - w / 2, y - h / 2, x + w / 2, y + h / 2), fill=random_color(rng, 40, 230))


def sample_view(
    rng: np.random.Generator, joints: Joints, height: int, width: int, ranges: SceneRanges = NEAR
) -> Camera:
    """Draw a camera that follows most of the figure's movement and shakes a little.

    Args:
        rng: generator of the draws.
        joints: joint positions of the figure.
        height: rows of a frame.
        width: columns of a frame.
        ranges: of distance, place and tilt.
    """
    num_frames = len(joints["pelvis"])
    scale = rng.uniform(*ranges.height) * height
    mirrored = bool(rng.random() < 0.5)
    walk = np.cumsum(rng.normal(0, 0.25, (num_frames, 2)), axis=0)
    jitter = np.clip(walk, -MAX_JITTER_PX, MAX_JITTER_PX) * rng.uniform(0, 1)
    middle = joints["pelvis"][:, 0] * (-1 if mirrored else 1) * scale
    track = rng.uniform(0.55, 1.0)
    # The rest of the movement is spread around the middle of the frame.
    followed = track * (middle - middle.mean()) + middle.mean()
    pitch = float(np.radians(rng.uniform(*ranges.pitch)))
    ground = ranges.ground[0]
    pan = np.stack([followed, np.zeros(num_frames)], axis=1)
    if ranges.street:
        pan[:, 0] += rng.uniform(-ranges.shift, ranges.shift) * width
        ground = rng.uniform(*ranges.ground)
        # From above, who comes nearer moves down the picture, which is not as high as wide.
        depth = joints["pelvis"][:, 2] * np.sin(pitch) * scale
        pan[:, 1] = (0.7 + 0.3 * track) * (depth - depth.mean()) + depth.mean()
    return Camera(
        height=height,
        width=width,
        scale=scale,
        pitch=pitch,
        ground=ground * height,
        pan=jitter + pan,
        mirrored=mirrored,
    )


def sample_scene(
    rng: np.random.Generator,
    action: str,
    num_frames: int,
    fps: float,
    height: int,
    width: int,
    ranges: SceneRanges = NEAR,
) -> Scene:
    """Draw the scene of a clip, see `render_clip`."""
    # The order of the draws is fixed: a seed gives the same clip in every version.
    street = ranges.street
    time = action_time(rng, num_frames, fps) if street else np.arange(num_frames) / fps
    motion = ACTIONS[action](rng, time)
    body = sample_body(rng, ranges.lengths, ranges.thickness)
    facing = float(np.radians(rng.uniform(*ranges.facing)))
    joints = joint_positions(body, motion.pose, facing)
    shapes = figure_shapes(rng, body, joints)
    for prop in motion.props:
        shapes += prop_shapes(rng, prop, joints, facing)
    shapes += distractors(rng, motion, joints, facing)
    if street:
        shapes += clothes(rng, joints, body.thickness)
        shapes += in_front(rng, num_frames)
        shapes += passer_by(rng, num_frames, fps)
    camera = sample_view(rng, joints, height, width, ranges)
    place = background(rng, height, width, camera.ground, street)
    return Scene(shapes, place, camera, joints)


def render_clip(
    rng: np.random.Generator,
    action: str,
    num_frames: int,
    fps: float,
    height: int,
    width: int,
    ranges: SceneRanges = NEAR,
) -> np.ndarray:
    """Render one clip of a figure that performs an action, in normal light.

    Example:
        >>> import numpy as np
        >>> render_clip(np.random.default_rng(0), "Wave", 4, 10, 48, 64).shape
        (4, 48, 64, 3)

    Args:
        rng: generator of everything in the clip.
        action: one of `ACTIONS`.
        num_frames: T.
        fps: frames per second.
        height: rows of a frame.
        width: columns of a frame.
        ranges: of person, camera and place.

    Returns:
        uint8 `[T, H, W, 3]`.
    """
    return sample_scene(rng, action, num_frames, fps, height, width, ranges).frames()
