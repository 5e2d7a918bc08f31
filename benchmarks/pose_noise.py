"""How an estimator errs on figures whose joints are known, by light and size.

Figures are rendered, recorded in four lights, and looked at as `nightcrawler pose extract` looks at
videos. The tables have percent: of frames, of joints, and of the height of the figure.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.pose_errors import Errors, measure_errors
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.lowlight.camera import PRESETS, CameraRanges, darken, sample_camera
from nightcrawler.pose.files import read_pose
from nightcrawler.pose.layouts import (
    ANKLES,
    ELBOWS,
    HANDS,
    HEAD,
    HIPS,
    KNEES,
    SHOULDERS,
    to_body,
)
from nightcrawler.prepare.pose_files import FAILED, PoseFiles, PoseRecipe
from nightcrawler.synthetic.actions import ACTIONS
from nightcrawler.synthetic.scene import NEAR, sample_scene
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils.errors import UserError

HEIGHT, WIDTH, FPS, NUM_FRAMES = 240, 320, 15, 30
# Heights of people in pixels. They face anywhere, as the figures do that models learn from.
SIZES = (40, 80, 160)
FACING = (0.0, 360.0)
TIMEOUT_SEC = 600.0
COLUMNS = (
    "a person in",
    "of them not the figure",
    "lost",
    "s at a time",
    "recordings with the figure",
    "jitter",
    "slow error",
    "joints misplaced",
    "sides swapped",
)
# Errors of joints are of recordings that show the figure for half a second, as predictions need it,
# and of lights and sizes with five of them.
LEAST_FRAMES = 8
LEAST_RECORDINGS = 5
GROUPS: dict[str, Sequence[int]] = {
    "head": (HEAD,),
    "shoulders": SHOULDERS,
    "elbows": ELBOWS,
    "hands": HANDS,
    "hips": HIPS,
    "knees": KNEES,
    "ankles": ANKLES,
}


@dataclass(frozen=True)
class Light:
    """A camera, `None` for daylight, and the rate factor of its recorder."""

    cameras: CameraRanges | None
    crf: float = 24.0


LIGHTS = {
    "bright": Light(None),
    "night": Light(PRESETS["night"]),
    "darker": Light(PRESETS["darker"]),
    # Fitted to 150 real dark clips, see docs/label_free.md.
    "like ARID": Light(
        CameraRanges(
            mean=(9.5, 30.4),
            electrons=(3.7, 16.8),
            read_noise=(0.9, 2.8),
            cast=0.0,
            smoothing=0.6,
        ),
        crf=25.7,
    ),
}


@dataclass(frozen=True)
class Recording:
    """A video of a figure, and its joints in the picture.

    Attributes:
        path: the video.
        light: name of `LIGHTS`.
        size: height of the person in pixels.
        action: name of `ACTIONS`.
        joints: of layout `body`, in pixels, `[T, 13, 2]`.
    """

    path: Path
    light: str
    size: int
    action: str
    joints: np.ndarray


def record_figures(
    folder: Path, count: int, seed: int, sizes: Sequence[int] = SIZES
) -> Iterator[Recording]:
    """Record the same figures of each size in each light, where the video is not there.

    Args:
        folder: of the videos.
        count: figures of each size. The actions take turns.
        seed: of all draws.
        sizes: heights of people in pixels.
    """
    for size in sizes:
        for number in range(count):
            action = list(ACTIONS)[number % len(ACTIONS)]
            ranges = replace(NEAR, height=(size / HEIGHT, size / HEIGHT), facing=FACING)
            rng = np.random.default_rng([seed, size, number])
            scene = sample_scene(rng, action, NUM_FRAMES, FPS, HEIGHT, WIDTH, ranges)
            for place, light in enumerate(LIGHTS):
                path = folder / f"{seed}_{size}_{number}_{place}.mp4"
                # Encoded again, it may be another file (see `lowlight.compression`).
                if not path.is_file():
                    noise = np.random.default_rng([seed, size, number, place])
                    _record(path, scene.frames(), LIGHTS[light], noise)
                yield Recording(path, light, size, action, scene.joints_in_picture())


def _record(path: Path, frames: np.ndarray, light: Light, rng: np.random.Generator) -> None:
    if light.cameras is not None:
        frames = darken(frames, sample_camera(rng, light.cameras), rng)
    write_video(path, frames, FPS, light.crf)


def estimate(
    recordings: Sequence[Recording], folder: Path, recipe: PoseRecipe, jobs: int
) -> Iterator[tuple[Recording, Errors]]:
    """Make the poses that are missing, as `pose extract` does, and yield errors in any order.

    Args:
        recordings: the videos, in one folder.
        folder: of the pose files.
        recipe: how poses are made.
        jobs: number of processes.

    Raises:
        UserError: if the estimator cannot be built, or fails.
    """
    items = [VideoItem(one.path.name, -1, one.path, row) for row, one in enumerate(recordings)]
    by_name = {one.path.name: (one, item) for one, item in zip(recordings, items, strict=True)}
    with PoseFiles(folder, recipe, jobs, TIMEOUT_SEC) as files:
        made = [files.made(item) for item in items]
        missing = [item for item, row in zip(items, made, strict=True) if row is None]
        for row in itertools.chain(filter(None, made), files.make(missing)):
            if row.status == FAILED:
                raise UserError(f"{row.path}: {row.reason}")
            recording, item = by_name[row.path]
            pose = read_pose(files.path_of(item))
            body = to_body(pose.points[0], pose.layout)
            yield recording, measure_errors(body, recording.joints)


def measure_noise(
    folder: Path, count: int, seed: int, recipe: PoseRecipe, jobs: int
) -> Iterator[str]:
    """Yield the rows of two tables: errors by light and size, and constant errors of joints.

    Args:
        folder: of the videos and their poses.
        count: figures of each size, each in all lights.
        seed: of all draws.
        recipe: how poses are made.
        jobs: number of processes.
    """
    cells: dict[tuple[str, int], list[Errors]] = {}
    for light in LIGHTS:
        for size in SIZES:
            cells[light, size] = []
    recordings = list(record_figures(folder, count, seed))
    for recording, errors in estimate(recordings, folder, recipe, jobs):
        cells[recording.light, recording.size].append(errors)
    yield from _table(COLUMNS, cells, describe)
    yield ""
    yield from _table(tuple(GROUPS), cells, describe_constant)


def _table(
    columns: Sequence[str],
    cells: Mapping[tuple[str, int], Sequence[Errors]],
    describe_cell: Callable[[Sequence[Errors]], list[str]],
) -> Iterator[str]:
    yield f"| light | px | {' | '.join(columns)} |"
    yield "|" + "---|" * (2 + len(columns))
    for (light, size), errors in cells.items():
        yield f"| {light} | {size} | {' | '.join(describe_cell(errors))} |"


def describe(errors: Sequence[Errors]) -> list[str]:
    """Return the cells of `COLUMNS`: shares in percent, medians over recordings.

    Args:
        errors: of the recordings of one light and size.
    """
    seen = np.concatenate([one.seen for one in errors])
    on_figure = np.concatenate([one.on_figure for one in errors])
    lost = np.array([length for one in errors for length in one.lost])
    counted = _with_figure(errors)
    row = [
        _percent(seen.sum(), len(seen)),
        _percent((seen & ~on_figure).sum(), seen.sum()),
        _percent(lost.sum(), lost.sum() + seen.sum()),
        f"{lost.mean() / FPS:.2f}" if len(lost) else "-",
        str(len(counted)),
    ]
    if len(counted) < LEAST_RECORDINGS:
        return row + ["-"] * (len(COLUMNS) - len(row))
    swapped = np.concatenate([one.swapped[one.on_figure] for one in counted])
    misplaced = np.concatenate([one.misplaced for one in counted])
    return [
        *row,
        _spread([one.jitter for one in counted]),
        _spread([one.slow for one in counted]),
        _percent(misplaced.sum(), misplaced.size),
        _percent(swapped.sum(), len(swapped)),
    ]


def describe_constant(errors: Sequence[Errors]) -> list[str]:
    """Return the cells of `GROUPS`: median lengths over recordings and joints, in percent.

    Args:
        errors: of the recordings of one light and size.
    """
    counted = _with_figure(errors)
    if len(counted) < LEAST_RECORDINGS:
        return ["-"] * len(GROUPS)
    lengths = np.linalg.norm([one.constant for one in counted], axis=-1)
    return [f"{100 * np.median(lengths[:, joints]):.1f}" for joints in GROUPS.values()]


def _with_figure(errors: Sequence[Errors]) -> list[Errors]:
    return [one for one in errors if len(one.joints) >= LEAST_FRAMES]


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def _spread(values: Sequence[float]) -> str:
    """Return the median of recordings, and their 20th and 80th percentile, in percent."""
    low, middle, high = 100 * np.nanquantile(values, (0.2, 0.5, 0.8))
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"
