"""Draw skeletons on frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from nightcrawler.pose.files import Pose
from nightcrawler.pose.layouts import BODY_JOINTS, BONES, to_body

# Warm on the left of the person, cold on the right, so that a swap is seen.
LEFT = (255, 170, 60)
RIGHT = (70, 190, 255)
MIDDLE = (240, 240, 240)
# Where a joint was guessed, as in bridged gaps, its bones are dim.
DIM = 0.45
LEAST_CONFIDENCE = 0.3
# Width of a bone as a share of the picture's short side.
BONE_WIDTH = 1 / 120


def _color(first: int, second: int) -> tuple[int, int, int]:
    sides = {BODY_JOINTS[joint].split("_")[0] for joint in (first, second)}
    if "left" in sides and "right" not in sides:
        return LEFT
    if "right" in sides and "left" not in sides:
        return RIGHT
    return MIDDLE


def draw_pose(frames: np.ndarray, seconds: Sequence[float], pose: Pose) -> np.ndarray:
    """Draw the skeletons of a video on some of its frames.

    Args:
        frames: uint8 `[n, H, W, 3]`, of any size.
        seconds: Time of each frame since the first of the video.
        pose: The video's pose, in space `picture`.

    Returns:
        uint8 `[n, H, W, 3]`. Frames after the end of the pose are as they were.
    """
    drawn = frames.copy()
    scale = np.array([frames.shape[2] / pose.width, frames.shape[1] / pose.height, 1], np.float32)
    for number, time in enumerate(seconds):
        # The last look at or before the frame: between two looks, people stay.
        step = int(time * pose.fps + 1e-3)
        if step < pose.num_frames:
            points = pose.points[:, step] * scale
            drawn[number] = draw_skeletons(frames[number], points, pose.layout)
    return drawn


def draw_skeletons(frame: np.ndarray, points: np.ndarray, layout: str) -> np.ndarray:
    """Draw the skeletons of people on a frame.

    Args:
        frame: uint8 `[H, W, 3]`.
        points: float `[P, V, 3]`: x, y in pixels of `frame` and confidence. NaN is left out.
        layout: Layout of the joints, a name of `pose.layouts.LAYOUTS`.

    Returns:
        uint8 `[H, W, 3]`, a new array.
    """
    picture = Image.fromarray(frame)
    pen = ImageDraw.Draw(picture)
    width = max(round(min(picture.size) * BONE_WIDTH), 1)
    # Joints far out of the picture would make the pen draw for ever.
    far = 4 * max(picture.size)
    # The last person first: the main one is on top.
    for person in to_body(points, layout)[::-1]:
        for first, second in BONES:
            ends = person[[first, second]]
            if not np.isfinite(ends).all() or np.abs(ends[:, :2]).max() > far:
                continue
            shade = 1.0 if ends[:, 2].min() >= LEAST_CONFIDENCE else DIM
            red, green, blue = (round(shade * level) for level in _color(first, second))
            pen.line([tuple(end) for end in ends[:, :2].tolist()], (red, green, blue), width)
    return np.asarray(picture)
