"""Rendering of shapes to frames.

Orthographic projection, painter's algorithm, and anti-aliasing by drawing at twice the size.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLING = 2
# Direction towards the light, in the world.
LIGHT = np.array([0.35, 0.85, 0.4])
Color = tuple[int, int, int]
# Corners of a unit cube, and the corners of its faces in drawing order.
CUBE = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))


def scale_color(color: Color, factor: float) -> Color:
    """Return a colour with each channel times `factor`, truncated."""
    red, green, blue = color
    return int(red * factor), int(green * factor), int(blue * factor)


@dataclass(frozen=True)
class Capsule:
    """Limb or similar: a thick line with round or flat ends.

    Attributes:
        start: positions of one end, in body heights, `[T, 3]`.
        end: positions of the other end, `[T, 3]`.
        radius: half the thickness, in body heights.
        color: RGB, 0 to 255.
        round_ends: round ends, or flat ones (cups, bottles).
        visible: frames that show it, bool `[T]`, or `None` for all.
    """

    start: np.ndarray
    end: np.ndarray
    radius: float
    color: Color
    round_ends: bool = True
    visible: np.ndarray | None = None


@dataclass(frozen=True)
class Cuboid:
    """Upright box.

    Attributes:
        center: positions, in body heights, `[T, 3]`.
        size: lengths along its own x, y and z.
        yaw: rotation around the vertical, in radians.
        color: RGB of a face towards the light.
    """

    center: np.ndarray
    size: tuple[float, float, float]
    yaw: float
    color: Color


Shape = Capsule | Cuboid


@dataclass(frozen=True)
class Camera:
    """Orthographic camera.

    Attributes:
        height: rows of a frame, in pixels.
        width: columns of a frame, in pixels.
        scale: pixels per body height.
        pitch: downward tilt, in radians.
        ground: row of the ground under the figure, in pixels.
        pan: columns and rows that the view is shifted by, in pixels, `[T, 2]`.
        mirrored: left and right are swapped.
    """

    height: int
    width: int
    scale: float
    pitch: float
    ground: float
    pan: np.ndarray
    mirrored: bool

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Project points to the picture.

        Args:
            points: world coordinates, `[T, ..., 3]`.

        Returns:
            Supersampled pixels (column, row), `[T, ..., 2]`, and nearness to the camera,
            `[T, ...]`.
        """
        cos = np.cos(self.pitch)
        sin = np.sin(self.pitch)
        x = points[..., 0]
        y = points[..., 1]
        z = points[..., 2]
        pan = self.pan.reshape((-1,) + (1,) * (points.ndim - 2) + (2,))
        column = self.width / 2 + self.scale * x * (-1 if self.mirrored else 1) - pan[..., 0]
        row = self.ground - self.scale * (y * cos - z * sin) - pan[..., 1]
        return SUPERSAMPLING * np.stack([column, row], axis=-1), z * cos + y * sin


@dataclass(frozen=True)
class _Drawable:
    """Convex polygon or capsule in supersampled pixels.

    Attributes:
        points: corners of the polygon, or the ends of the capsule, `[T, n, 2]`.
        nearness: order of drawing, the farthest first, `[T]`.
        color: RGB.
        width: thickness of a capsule, 0 for a polygon.
        round_ends: see `Capsule`.
        visible: see `Capsule`.
    """

    points: np.ndarray
    nearness: np.ndarray
    color: Color
    width: float = 0.0
    round_ends: bool = False
    visible: np.ndarray | None = None


def _shaded(color: Color, normal: np.ndarray) -> Color:
    """Return the colour of a face by its normal `[3]`: ambient light plus Lambert's cosine law."""
    light = 0.55 + 0.45 * max(0.0, float(normal @ LIGHT / np.linalg.norm(LIGHT)))
    return scale_color(color, light)


def _drawables(shape: Shape, camera: Camera) -> list[_Drawable]:
    """Return a capsule, or the faces of a cuboid that the camera sees, in pixels."""
    if isinstance(shape, Capsule):
        points, near = camera.project(np.stack([shape.start, shape.end], axis=1))
        width = 2 * shape.radius * camera.scale * SUPERSAMPLING
        return [
            _Drawable(
                points, near.mean(axis=1), shape.color, width, shape.round_ends, shape.visible
            )
        ]
    cos = np.cos(shape.yaw)
    sin = np.sin(shape.yaw)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    corners = (CUBE * shape.size) @ turn
    towards_camera = np.array([0.0, np.sin(camera.pitch), np.cos(camera.pitch)])
    faces = []
    for face in FACES:
        normal = corners[list(face)].mean(axis=0)
        # The cuboid is centred at the origin, so the centre of a face is its normal.
        normal = normal / max(float(np.linalg.norm(normal)), 1e-9)
        if normal @ towards_camera <= 0:
            continue
        points, near = camera.project(shape.center[:, None] + corners[list(face)])
        faces.append(_Drawable(points, near.mean(axis=1), _shaded(shape.color, normal)))
    return faces


def _draw(canvas: ImageDraw.ImageDraw, item: _Drawable, frame: int) -> None:
    points = item.points[frame]
    if item.width == 0:
        canvas.polygon([tuple(point) for point in points], fill=item.color)
        return
    (x0, y0), (x1, y1) = points
    radius = item.width / 2
    length = max(float(np.hypot(x1 - x0, y1 - y0)), 1e-6)
    # Half the thickness, across the line.
    dx = -(y1 - y0) / length * radius
    dy = (x1 - x0) / length * radius
    canvas.polygon(
        [(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)],
        fill=item.color,
    )
    if item.round_ends:
        canvas.ellipse((x0 - radius, y0 - radius, x0 + radius, y0 + radius), fill=item.color)
        canvas.ellipse((x1 - radius, y1 - radius, x1 + radius, y1 + radius), fill=item.color)


def render(shapes: list[Shape], background: np.ndarray, camera: Camera) -> np.ndarray:
    """Draw the shapes of every frame over the background.

    Args:
        shapes: objects of the scene.
        background: supersampled picture, uint8 `[H_b, W_b, 3]`, larger than a frame: the view
            moves over it.
        camera: view of the T frames.

    Returns:
        uint8 `[T, H, W, 3]`.
    """
    items: list[_Drawable] = []
    for shape in shapes:
        items += _drawables(shape, camera)
    nearness = np.stack([item.nearness for item in items], axis=1)
    height = SUPERSAMPLING * camera.height
    width = SUPERSAMPLING * camera.width
    frames = np.empty((len(camera.pan), camera.height, camera.width, 3), np.uint8)
    top = (background.shape[0] - height) // 2
    left = (background.shape[1] - width) // 2
    offsets = np.rint(SUPERSAMPLING * camera.pan).astype(int)
    for t in range(len(frames)):
        x = int(np.clip(left + offsets[t, 0], 0, background.shape[1] - width))
        y = int(np.clip(top + offsets[t, 1], 0, background.shape[0] - height))
        picture = Image.fromarray(background[y : y + height, x : x + width])
        canvas = ImageDraw.Draw(picture)
        # Painter's algorithm: the farthest first.
        for index in np.argsort(nearness[t], kind="stable"):
            item = items[index]
            if item.visible is None or item.visible[t]:
                _draw(canvas, item, t)
        frames[t] = np.asarray(picture.reduce(SUPERSAMPLING))
    return frames
