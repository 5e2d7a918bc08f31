"""Motions of figures as joints alone, from which skeleton models learn without any rendering.

The actions are those that are rendered, widened by what people do around them: they wait before and
after, are slow or fast, walk a bend, turn towards a chair before they sit on it.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from nightcrawler.pose.files import SUFFIX, WORLD, Pose, write_pose
from nightcrawler.pose.layouts import HEAD
from nightcrawler.synthetic.actions import ACTIONS, action_time, ease
from nightcrawler.synthetic.skeleton import Joints, joint_positions, sample_body

# Frames per second of the motions.
FPS = 15.0
# Motions that a process writes before it reports.
PART = 250
SECONDS = (1.0, 4.5)
# Actions that move along a way, which can bend.
ON_THE_WAY = ("Walk", "Run", "Push")
BEND = np.radians(100)
# Actions before which people turn their back to something.
AFTER_A_TURN = ("Sit",)
SIDED = ("shoulder", "elbow", "hand", "hip", "knee", "ankle")


def sample_motion(action: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a motion of a person who does one of the eleven actions.

    Args:
        action: A name of `ACTIONS`.
        rng: Generator of the draws.

    Returns:
        float64 `[T, 13, 3]` of layout `body`, in body heights, at `FPS` frames per second. Space
        `world`: x to the right, y up, z to the camera.

    Example:
        >>> sample_motion("Walk", np.random.default_rng(0)).shape[1:]
        (13, 3)
    """
    seconds = rng.uniform(*SECONDS)
    joints = _act(action, rng, action_time(rng, int(seconds * FPS), FPS))
    points = body_joints(joints)
    if action in ON_THE_WAY:
        return _bend_way(points, rng)
    if action in AFTER_A_TURN and rng.random() < 0.4:
        return _turn_before(points, rng)
    return points


def _act(action: str, rng: np.random.Generator, time: np.ndarray) -> Joints:
    motion = ACTIONS[action](rng, time)
    return joint_positions(sample_body(rng), motion.pose, float(rng.uniform(0, 2 * np.pi)))


def body_joints(joints: Joints) -> np.ndarray:
    """Return the joints of a figure in the order of layout `body`, `[T, 13, 3]`."""
    sides = [joints[name][:, side] for name in SIDED for side in (0, 1)]
    return np.stack([joints["head"], *sides], axis=1)


def _turned(points: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Turn each frame of points about the vertical, `[T, V, 3]` by `[T]` radians."""
    cos = np.cos(angle)[:, None]
    sin = np.sin(angle)[:, None]
    x = points[..., 0] * cos - points[..., 2] * sin
    z = points[..., 0] * sin + points[..., 2] * cos
    return np.stack([x, points[..., 1], z], axis=-1)


def _bend_way(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bend the way of a figure, which keeps looking where it goes."""
    angle = rng.uniform(-BEND, BEND) * ease(np.linspace(0, 1, len(points)), 0, 1)
    way = points[:, HEAD] * [1, 0, 1]
    steps = np.diff(way, axis=0, prepend=way[:1])
    bent = np.cumsum(_turned(steps[:, None], angle)[:, 0], axis=0)
    return _turned(points - way[:, None], angle) + bent[:, None]


def _turn_before(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Turn a figure on its place, ending at the place and time where the action begins."""
    angle = rng.uniform(0.4, 1.0) * np.pi * rng.choice([-1, 1])
    time = np.linspace(0, 1, len(points))
    return _turned(points, angle * (1 - ease(time, 0, rng.uniform(0.2, 0.5))))


def write_motions(
    folder: Path, classes: Sequence[str], count: int, seed: int, jobs: int
) -> Iterator[list[tuple[str, int]]]:
    """Write motions, a pure function of the arguments but `jobs`, and yield them in order.

    The set counts once the caller has written its list: the files are not synced one by one, and
    all together before the last are yielded.

    Args:
        folder: Folder of the motions.
        classes: Names of `ACTIONS`, which take turns.
        count: Number of motions.
        seed: Seed of all draws.
        jobs: Number of processes.

    Yields:
        Names below the folder with class indices, of a part of the motions.
    """
    for action in classes:
        (folder / action).mkdir(parents=True, exist_ok=True)
    write = functools.partial(_write_part, folder, list(classes), seed)
    parts = [range(first, min(first + PART, count)) for first in range(0, count, PART)]
    with ProcessPoolExecutor(jobs) as pool:
        yield from pool.map(write, parts[:-1])
    last = write(parts[-1])
    os.sync()
    yield last


def _write_part(
    folder: Path, classes: list[str], seed: int, numbers: range
) -> list[tuple[str, int]]:
    rows = []
    for number in numbers:
        label = number % len(classes)
        points = sample_motion(classes[label], np.random.default_rng([seed, number]))
        name = f"{classes[label]}/{number:06d}{SUFFIX}"
        pose = Pose(points[None].astype(np.float32), FPS, "body", WORLD, source=f"figure {seed}")
        write_pose(folder / name, pose, durable=False)
        rows.append((name, label))
    return rows
