"""Pose files of figures that wave, walk and stand, and a data folder of them: what tests share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nightcrawler.pose.files import PICTURE, WORLD, Pose, write_pose
from nightcrawler.pose.layouts import BODY_JOINTS
from tests.tiny import write_rows

# Places of the joints of a standing figure, x to its left and y up, in body heights.
STANDING = {
    "head": (0.0, 0.95),
    "shoulder": (0.12, 0.8),
    "elbow": (0.2, 0.6),
    "hand": (0.22, 0.4),
    "hip": (0.08, 0.5),
    "knee": (0.09, 0.25),
    "ankle": (0.09, 0.02),
}
CLASSES = ("stand", "walk", "wave")
FPS = 15.0


def standing() -> np.ndarray:
    """[13, 3] in the world, of one who looks at the camera."""
    places = []
    for joint in BODY_JOINTS:
        side = -1 if joint.startswith("right") else 1
        x, y = STANDING[joint.split("_")[-1]]
        places.append((side * x, y, 0.0))
    return np.array(places)


def motion(label: int, num_frames: int = 30, seed: int = 0) -> np.ndarray:
    """[T, 13, 3] in the world: one who stands still, walks to the side, or waves the left hand."""
    rng = np.random.default_rng([seed, label])
    time = np.arange(num_frames) / FPS
    points = np.repeat(standing()[None], num_frames, axis=0)
    phase = rng.uniform(0, 2 * np.pi)
    if label == 1:
        points[..., 0] += (0.8 + 0.4 * rng.random()) * time[:, None]
        points[:, 9:, 0] += 0.1 * np.sin(6 * time + phase)[:, None] * [1, -1, 1, -1]
    if label == 2:
        points[:, 5, 1] += 0.5 + 0.15 * np.sin(9 * time + phase)
        points[:, 5, 0] += 0.15 * np.cos(9 * time + phase)
    return points + rng.normal(0, 0.004, points.shape)


def pictured(points: np.ndarray, height: float = 120.0) -> np.ndarray:
    """[T, 13, 3] of pixels and confidence, of a motion seen from the front and far away."""
    picture = np.stack([200 + height * points[..., 0], 220 - height * points[..., 1]], axis=-1)
    confidence = np.full((*points.shape[:2], 1), 0.9)
    return np.concatenate([picture, confidence], axis=-1)


def picture_pose(label: int, seed: int = 0, **options: Any) -> Pose:
    """A pose file's content as an estimator gives it."""
    points = pictured(motion(label, seed=seed))[None].astype(np.float32)
    values: dict[str, Any] = {"points": points, "fps": FPS, "layout": "body", "space": PICTURE}
    return Pose(**{**values, "width": 400, "height": 240, **options})


def world_pose(label: int, seed: int = 0) -> Pose:
    """A pose file's content as a recording of motions gives it."""
    points = motion(label, seed=seed)[None].astype(np.float32)
    return Pose(points, FPS, "body", WORLD)


def nobody() -> Pose:
    """A pose file's content where nobody was seen."""
    return Pose(np.full((1, 30, 13, 3), np.nan, np.float32), FPS, "body", PICTURE)


def build_poses(folder: Path) -> Path:
    """A data folder of pose files without any video, in the layout of DATASET.md; returns it."""
    places = {
        "train_label+val_dry": ("labeled_train/Train", 24, 0),
        "val_dry": ("dry_run/Validation", 6, 100),
        "arid": ("dark_train/Train", 9, 200),
        "total_unlabel": ("dark_train/Train", 9, 200),
    }
    for name, (place, count, seed) in places.items():
        rows = []
        for number in range(count):
            label = number % len(CLASSES)
            video = f"{name[:3]}_{number}.mp4"
            if name == "total_unlabel":
                video = f"ari_{number}.mp4"
            path = folder / "poses" / place / f"{video}.pose.npz"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_pose(path, picture_pose(label, seed + number))
            rows.append((video, -1 if name == "total_unlabel" else label))
        write_rows(folder / f"{name}.csv", rows)
    return folder
