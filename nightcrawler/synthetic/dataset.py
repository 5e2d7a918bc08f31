"""A synthetic data set in the layout of DATASET.md: which clips there are, their files, their lists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nightcrawler.data.lowlight.camera import PRESETS, darken, sample_camera
from nightcrawler.synthetic.actions import ACTIONS
from nightcrawler.synthetic.scene import render_clip
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, write_csv_rows

STAMP = "synthetic.json"
# Raised whenever the same settings would give other frames, so that old data is not taken for new.
VERSION = 1
FPS = (15, 20, 25, 30)
SECONDS = (2.0, 3.0)
CLIPS_PER_SCENE = 5


@dataclass(frozen=True)
class DatasetSpec:
    """What decides every frame of the set.

    Attributes:
        seed: of everything.
        train, val, unlabel, arid, test: clips of each class in each part.
        height, width: of a frame, in pixels.
        preset: the night camera's, see `data.darkness.PRESETS`.
    """

    seed: int = 0
    train: int = 80
    val: int = 15
    unlabel: int = 20
    arid: int = 30
    test: int = 20
    height: int = 96
    width: int = 128
    preset: str = "night"


@dataclass(frozen=True)
class ClipPlan:
    """One clip to render.

    Attributes:
        path: of its file, below the set's folder.
        action: what is done in it.
        dark: filmed by a night camera.
        key: whole numbers that its random numbers are a function of.
    """

    path: str
    action: str
    dark: bool
    key: tuple[int, ...]


@dataclass(frozen=True)
class DatasetPlan:
    """All clips and all list files of a set.

    Attributes:
        clips: the clips.
        lists: file name to `(path, label)` rows and line end.
    """

    clips: list[ClipPlan]
    lists: dict[str, tuple[list[tuple[str, int]], str]]


def make_plan(settings: DatasetSpec) -> DatasetPlan:
    """Which clips the set has, and its list files; nothing is written."""
    train, train_rows = _bright(settings, 0, settings.train, "labeled_train/Train", "train")
    val, val_rows = _bright(settings, 1, settings.val, "dry_run/Validation", "val")
    unlabel, unlabel_rows = _numbered(settings, 2, settings.unlabel, "dark_train/Train")
    arid, arid_rows = _arid(settings, 3)
    test, test_rows = _numbered(settings, 4, settings.test, "Test")
    unlabelled = [(name, -1) for name, _ in unlabel_rows]
    total = unlabelled + [(name, -1) for name, _ in arid_rows]
    lists = {
        "train_label+val_dry.csv": (train_rows + val_rows, "\r\n"),
        "val_dry.csv": (val_rows, "\r\n"),
        "dark_unlabel.csv": (unlabelled, "\n"),
        "arid.csv": (arid_rows, "\n"),
        "total_unlabel.csv": (total, "\n"),
        "test.csv": ([(name, -1) for name, _ in test_rows], "\n"),
        "truth/dark_unlabel.csv": (unlabel_rows, "\n"),
        "truth/test.csv": (test_rows, "\n"),
    }
    return DatasetPlan(train + val + unlabel + arid + test, lists)


Part = tuple[list[ClipPlan], list[tuple[str, int]]]


def _bright(settings: DatasetSpec, part: int, count: int, folder: str, prefix: str) -> Part:
    """Clips in normal light; every other one an .avi, as in the published list."""
    clips, rows = [], []
    for label, action in enumerate(ACTIONS):
        for i in range(count):
            name = f"{prefix}_{action.lower()}_{i:03d}.{'avi' if i % 2 else 'mp4'}"
            clips.append(
                ClipPlan(f"{folder}/{name}", action, False, (settings.seed, part, label, i))
            )
            rows.append((name, label))
    return clips, rows


def _numbered(settings: DatasetSpec, part: int, count: int, folder: str) -> Part:
    """Dark clips whose names are numbers that tell nothing of the class."""
    order = np.random.default_rng([settings.seed, part]).permutation(count * len(ACTIONS))
    clips, rows = [], []
    actions = list(ACTIONS)
    for number, place in enumerate(order):
        label, i = divmod(int(place), count)
        clips.append(
            ClipPlan(
                f"{folder}/{number}.mp4", actions[label], True, (settings.seed, part, label, i)
            )
        )
        rows.append((f"{number}.mp4", label))
    return clips, rows


def _arid(settings: DatasetSpec, part: int) -> Part:
    """Dark clips named as ARID's: `Class/Class_scene_number.mp4`."""
    clips, rows = [], []
    for label, action in enumerate(ACTIONS):
        for i in range(settings.arid):
            name = f"{action}/{action}_{i // CLIPS_PER_SCENE + 1}_{i % CLIPS_PER_SCENE + 1}.mp4"
            clips.append(
                ClipPlan(f"dark_train/Train/{name}", action, True, (settings.seed, part, label, i))
            )
            rows.append((name, label))
    return clips, rows


def clip_frames(plan: ClipPlan, settings: DatasetSpec) -> tuple[np.ndarray, int]:
    """Render one clip; a pure function of its plan.

    Returns:
        Frames uint8 `[T, H, W, 3]`, and frames a second.
    """
    rng = np.random.default_rng(plan.key)
    fps = int(rng.choice(FPS))
    num_frames = round(fps * rng.uniform(*SECONDS))
    frames = render_clip(rng, plan.action, num_frames, fps, settings.height, settings.width)
    if plan.dark:
        frames = darken(frames, sample_camera(rng, PRESETS[settings.preset]), rng)
    return frames, fps


def _render_to_file(plan: ClipPlan, settings: DatasetSpec, root: Path) -> str:
    frames, fps = clip_frames(plan, settings)
    write_video(root / plan.path, frames, fps)
    return plan.path


def write_dataset(
    root: Path, settings: DatasetSpec, jobs: int, force: bool = False, wrap: object = None
) -> tuple[int, int]:
    """Render what is not there yet, and write the lists.

    Args:
        root: the set's folder.
        settings: what it holds.
        jobs: processes.
        force: take over a folder that holds a set of other settings.
        wrap: shows progress: called with an iterable and its length.

    Returns:
        Clips rendered, and clips in the set.

    Raises:
        UserError: if the folder holds something else.
    """
    plan = make_plan(settings)
    others = _check_stamp(root, settings, force)
    todo = [clip for clip in plan.clips if others or not (root / clip.path).is_file()]
    for folder in {(root / clip.path).parent for clip in todo}:
        folder.mkdir(parents=True, exist_ok=True)
    if todo:
        _write_stamp(root, settings)
        finished: Iterable[str] = _rendered(todo, settings, root, jobs)
        for _ in wrap(finished, len(todo)) if callable(wrap) else finished:
            pass
    for name, (rows, line_end) in plan.lists.items():
        _write_list(root / name, rows, line_end)
    return len(todo), len(plan.clips)


def _rendered(
    todo: Sequence[ClipPlan], settings: DatasetSpec, root: Path, jobs: int
) -> Iterator[str]:
    if jobs == 1:
        for plan in todo:
            yield _render_to_file(plan, settings, root)
        return
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(_render_to_file, plan, settings, root) for plan in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _write_list(path: Path, rows: list[tuple[str, int]], line_end: str) -> None:
    if line_end == "\n":
        write_csv_rows(path, rows)
        return
    with atomic_write(path, "w") as file:
        file.write("".join(f"{name},{label}{line_end}" for name, label in rows))


def _stamp(settings: DatasetSpec) -> dict[str, object]:
    return {"version": VERSION, **asdict(settings)}


def _write_stamp(root: Path, settings: DatasetSpec) -> None:
    with atomic_write(root / STAMP, "w") as file:
        json.dump(_stamp(settings), file, indent=1)


def _check_stamp(root: Path, settings: DatasetSpec, force: bool) -> bool:
    """Whether the folder holds clips of other settings, which `force` allows to replace."""
    if not root.exists() or not any(root.iterdir()):
        return False
    try:
        found = json.loads((root / STAMP).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{root}: is not empty and holds no synthetic data; take a new folder for --out"
        ) from None
    except ValueError:
        found = {}
    if found == _stamp(settings):
        return False
    if not force:
        raise UserError(
            f"{root}: holds clips of other settings ({found}); take another --out, or --force to replace"
        )
    return True
