"""Shapes to frames: orthographic projection, painter's order, anti-aliasing by drawing at twice the size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLING = 2
LIGHT = np.array([0.35, 0.85, 0.4])  # towards the light, in the world
Color = tuple[int, int, int]
CUBE = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
FACES = ((0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3))


@dataclass(frozen=True)
class Capsule:
    """A limb: a thick line with round (or flat) ends.

    Attributes:
        start, end: `[T, 3]`, in body heights.
        radius: in body heights.
        color: RGB.
        round_ends: round, or cut straight (cups, bottles).
        visible: `[T]`, or `None` for always.
    """

    start: np.ndarray
    end: np.ndarray
    radius: float
    color: Color
    round_ends: bool = True
    visible: np.ndarray | None = None


@dataclass(frozen=True)
class Cuboid:
    """A box that stands upright.

    Attributes:
        center: `[T, 3]`, in body heights.
        size: along its own x, y, z.
        yaw: turn around the vertical, in radians.
        color: RGB of a face towards the light.
    """

    center: np.ndarray
    size: tuple[float, float, float]
    yaw: float
    color: Color


Shape = Capsule | Cuboid


@dataclass(frozen=True)
class Camera:
    """Where the picture is taken from.

    Attributes:
        height, width: of a frame, in pixels.
        scale: pixels of a body height.
        pitch: downwards, in radians.
        ground: row of the ground under the figure, in pixels.
        pan: `[T, 2]` columns and rows that the view moves by, in pixels.
        mirrored: left and right swapped.
    """

    height: int
    width: int
    scale: float
    pitch: float
    ground: float
    pan: np.ndarray
    mirrored: bool

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """World `[T, ..., 3]` to supersampled pixels `[T, ..., 2]` and nearness `[T, ...]`."""
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        pan = self.pan.reshape((-1,) + (1,) * (points.ndim - 2) + (2,))
        column = self.width / 2 + self.scale * x * (-1 if self.mirrored else 1) - pan[..., 0]
        row = self.ground - self.scale * (y * cos - z * sin) - pan[..., 1]
        return SUPERSAMPLING * np.stack([column, row], axis=-1), z * cos + y * sin


@dataclass(frozen=True)
class _Drawable:
    """A convex outline or a capsule in pixels: `points[t]`, nearness `[T]`, and how to draw it."""

    points: np.ndarray
    nearness: np.ndarray
    color: Color
    width: float = 0.0
    round_ends: bool = False
    visible: np.ndarray | None = None


def _shaded(color: Color, normal: np.ndarray) -> Color:
    light = 0.55 + 0.45 * max(0.0, float(normal @ LIGHT / np.linalg.norm(LIGHT)))
    return tuple(int(channel * light) for channel in color)  # type: ignore[return-value]


def _drawables(shape: Shape, camera: Camera) -> list[_Drawable]:
    if isinstance(shape, Capsule):
        points, near = camera.project(np.stack([shape.start, shape.end], axis=1))
        width = 2 * shape.radius * camera.scale * SUPERSAMPLING
        return [
            _Drawable(
                points, near.mean(axis=1), shape.color, width, shape.round_ends, shape.visible
            )
        ]
    cos, sin = np.cos(shape.yaw), np.sin(shape.yaw)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    corners = (CUBE * shape.size) @ turn
    towards_camera = np.array([0.0, np.sin(camera.pitch), np.cos(camera.pitch)])
    faces = []
    for face in FACES:
        normal = corners[list(face)].mean(axis=0)
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
    dx, dy = -(y1 - y0) / length * radius, (x1 - x0) / length * radius
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
        shapes: what stands in the scene.
        background: uint8 `[H_b, W_b, 3]` at the supersampled size, larger than a frame: the view moves over it.
        camera: the view.

    Returns:
        uint8 `[T, H, W, 3]`.
    """
    items = [item for shape in shapes for item in _drawables(shape, camera)]
    nearness = np.stack([item.nearness for item in items], axis=1)
    height, width = SUPERSAMPLING * camera.height, SUPERSAMPLING * camera.width
    frames = np.empty((len(camera.pan), camera.height, camera.width, 3), np.uint8)
    top, left = (background.shape[0] - height) // 2, (background.shape[1] - width) // 2
    offsets = np.rint(SUPERSAMPLING * camera.pan).astype(int)
    for t in range(len(frames)):
        x = int(np.clip(left + offsets[t, 0], 0, background.shape[1] - width))
        y = int(np.clip(top + offsets[t, 1], 0, background.shape[0] - height))
        picture = Image.fromarray(background[y : y + height, x : x + width])
        canvas = ImageDraw.Draw(picture)
        for index in np.argsort(nearness[t], kind="stable"):
            item = items[index]
            if item.visible is None or item.visible[t]:
                _draw(canvas, item, t)
        frames[t] = np.asarray(picture.reduce(SUPERSAMPLING))
    return frames
