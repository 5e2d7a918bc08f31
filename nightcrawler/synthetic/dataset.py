"""Synthetic dataset in the layout of DATASET.md: plan of its clips, video files, list files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from nightcrawler.data.lowlight.camera import darken, sample_camera
from nightcrawler.synthetic.actions import ACTIONS
from nightcrawler.synthetic.presets import PRESETS
from nightcrawler.synthetic.scene import NEAR, render_clip
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import atomic_write, fsync_folder

# File in the dataset's folder that holds its specification.
SPEC_FILE = "synthetic.json"
# Key in it while clips of an earlier specification may still be there.
UNFINISHED = "unfinished"
# Increased whenever the same specification gives other frames, so that old clips are replaced.
VERSION = 1
# Added to a clip's key for the generator of its rate factor.
CRF_DRAW = 1
# Clips with the same scene number in names like ARID's.
CLIPS_PER_SCENE = 5

# File name in a list, and label (-1 unknown).
Row = tuple[str, int]


@dataclass(frozen=True)
class DatasetSpec:
    """Specification of a synthetic dataset, which determines every frame.

    Attributes:
        seed: seed of all draws, 0 or more.
        train: clips per class in normal light for training.
        val: clips per class in normal light for validation.
        unlabel: dark clips per class with numbers as names.
        arid: dark clips per class with names like ARID's.
        test: dark clips per class for testing.
        height: rows of a frame, even.
        width: columns of a frame, even.
        preset: name of the ranges of dark clips, see `presets.PRESETS`.
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
    """Plan of one clip.

    Attributes:
        path: video file, relative to the dataset's folder.
        action: class name, one of `actions.ACTIONS`.
        dark: recorded by a camera in low light.
        key: seed of the clip's generator: dataset seed, part, label, number.
    """

    path: str
    action: str
    dark: bool
    key: tuple[int, ...]


@dataclass(frozen=True)
class DatasetPlan:
    """Plan of all clips and list files of a dataset.

    Attributes:
        clips: plans of the clips.
        lists: file name to rows and line end.
    """

    clips: list[ClipPlan]
    lists: dict[str, tuple[list[Row], str]]


def make_plan(spec: DatasetSpec) -> DatasetPlan:
    """Plan the clips and list files of a dataset. Nothing is written.

    Example:
        >>> plan = make_plan(DatasetSpec(train=1, val=1, unlabel=1, arid=1, test=1))
        >>> len(plan.clips), plan.clips[0].path
        (55, 'labeled_train/Train/train_drink_000.mp4')

    Args:
        spec: specification of the dataset.
    """
    train, train_rows = _bright_part(spec, 0, spec.train, "labeled_train/Train", "train")
    val, val_rows = _bright_part(spec, 1, spec.val, "dry_run/Validation", "val")
    unlabel, unlabel_rows = _numbered_part(spec, 2, spec.unlabel, "dark_train/Train")
    arid, arid_rows = _arid_part(spec, 3)
    test, test_rows = _numbered_part(spec, 4, spec.test, "Test")
    unlabelled = _without_labels(unlabel_rows)
    lists = {
        # The published lists of bright clips have Windows line ends.
        "train_label+val_dry.csv": (train_rows + val_rows, "\r\n"),
        "val_dry.csv": (val_rows, "\r\n"),
        "dark_unlabel.csv": (unlabelled, "\n"),
        "arid.csv": (arid_rows, "\n"),
        "total_unlabel.csv": (unlabelled + _without_labels(arid_rows), "\n"),
        "test.csv": (_without_labels(test_rows), "\n"),
        "truth/dark_unlabel.csv": (unlabel_rows, "\n"),
        "truth/test.csv": (test_rows, "\n"),
    }
    return DatasetPlan(train + val + unlabel + arid + test, lists)


def _without_labels(rows: Sequence[Row]) -> list[Row]:
    return [(name, -1) for name, _ in rows]


def _bright_part(
    spec: DatasetSpec, part: int, count: int, folder: str, prefix: str
) -> tuple[list[ClipPlan], list[Row]]:
    """Plan clips in normal light, every other one an .avi, as in the published list."""
    clips = []
    rows = []
    for label, action in enumerate(ACTIONS):
        for number in range(count):
            suffix = "avi" if number % 2 else "mp4"
            name = f"{prefix}_{action.lower()}_{number:03d}.{suffix}"
            key = (spec.seed, part, label, number)
            clips.append(ClipPlan(f"{folder}/{name}", action, False, key))
            rows.append((name, label))
    return clips, rows


def _numbered_part(
    spec: DatasetSpec, part: int, count: int, folder: str
) -> tuple[list[ClipPlan], list[Row]]:
    """Plan dark clips whose names are numbers that do not tell the class."""
    order = np.random.default_rng([spec.seed, part]).permutation(count * len(ACTIONS))
    actions = list(ACTIONS)
    clips = []
    rows = []
    for position, index in enumerate(order.tolist()):
        label, number = divmod(index, count)
        name = f"{position}.mp4"
        key = (spec.seed, part, label, number)
        clips.append(ClipPlan(f"{folder}/{name}", actions[label], True, key))
        rows.append((name, label))
    return clips, rows


def _arid_part(spec: DatasetSpec, part: int) -> tuple[list[ClipPlan], list[Row]]:
    """Plan dark clips named like ARID's: `Class/Class_scene_number.mp4`."""
    clips = []
    rows = []
    for label, action in enumerate(ACTIONS):
        for number in range(spec.arid):
            scene = number // CLIPS_PER_SCENE + 1
            name = f"{action}/{action}_{scene}_{number % CLIPS_PER_SCENE + 1}.mp4"
            key = (spec.seed, part, label, number)
            clips.append(ClipPlan(f"dark_train/Train/{name}", action, True, key))
            rows.append((name, label))
    return clips, rows


def clip_frames(plan: ClipPlan, spec: DatasetSpec) -> tuple[np.ndarray, int]:
    """Render one clip, a pure function of its plan and the specification.

    Args:
        plan: plan of the clip.
        spec: specification of the dataset.

    Returns:
        Frames, uint8 `[T, H, W, 3]`, and frames per second.
    """
    rng = np.random.default_rng(plan.key)
    preset = PRESETS[spec.preset]
    ranges = preset.scenes if plan.dark else NEAR
    fps = int(rng.choice(ranges.fps))
    num_frames = round(fps * rng.uniform(*ranges.seconds))
    frames = render_clip(rng, plan.action, num_frames, fps, spec.height, spec.width, ranges)
    if plan.dark:
        frames = darken(frames, sample_camera(rng, preset.cameras), rng)
    return frames, fps


def _crf(plan: ClipPlan, spec: DatasetSpec) -> float | None:
    """Draw the rate factor of a dark clip's recorder, `None` for the usual one of bright clips."""
    if not plan.dark:
        return None
    # A generator of its own: the frames are drawn elsewhere.
    return float(np.random.default_rng([*plan.key, CRF_DRAW]).uniform(*PRESETS[spec.preset].crf))


def _render_to_file(plan: ClipPlan, spec: DatasetSpec, root: Path) -> str:
    frames, fps = clip_frames(plan, spec)
    write_video(root / plan.path, frames, fps, _crf(plan, spec))
    return plan.path


def write_dataset(
    root: Path,
    spec: DatasetSpec,
    jobs: int,
    force: bool = False,
    wrap: Callable[[Iterable[str], int], Iterable[str]] | None = None,
) -> tuple[int, int]:
    """Render the clips that are missing, and write the list files.

    Args:
        root: folder of the dataset.
        spec: specification of the dataset.
        jobs: number of processes.
        force: replace the clips of another specification, and lists that were changed.
        wrap: function of an iterable and its length to an iterable that shows progress.

    Returns:
        Number of clips rendered, and number of clips in the dataset.

    Raises:
        UserError: if the folder holds something else, or other lists.
    """
    plan = make_plan(spec)
    _refuse_links(root, plan)
    if _check_folder(root, spec, force):
        _remove_old(root, spec, plan)
    if not force:
        _refuse_other_lists(root, plan)
    todo = [clip for clip in plan.clips if not (root / clip.path).is_file()]
    for folder in {(root / clip.path).parent for clip in todo}:
        folder.mkdir(parents=True, exist_ok=True)
    if todo:
        # Before the first clip: an interrupted run is continued by the same specification only.
        _write_spec(root, spec)
        finished: Iterable[str] = _rendered(todo, spec, root, jobs)
        if wrap is not None:
            finished = wrap(finished, len(todo))
        for _ in finished:
            pass
    for name, (rows, line_end) in plan.lists.items():
        with atomic_write(root / name) as file:
            file.write(_list_bytes(rows, line_end))
    return len(todo), len(plan.clips)


def _rendered(todo: Sequence[ClipPlan], spec: DatasetSpec, root: Path, jobs: int) -> Iterator[str]:
    """Render clips to files and yield the path of each that is finished."""
    if jobs == 1:
        for plan in todo:
            yield _render_to_file(plan, spec, root)
        return
    with ProcessPoolExecutor(jobs) as pool:
        futures = [pool.submit(_render_to_file, plan, spec, root) for plan in todo]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            # After an error or Ctrl-C, the rest is not rendered first.
            pool.shutdown(cancel_futures=True)


def _list_bytes(rows: Sequence[Row], line_end: str) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator=line_end).writerows(rows)
    return text.getvalue().encode()


def _refuse_other_lists(root: Path, plan: DatasetPlan) -> None:
    """Refuse lists that were changed by hand since they were written.

    Raises:
        UserError: naming them.
    """
    others = []
    for name, (rows, line_end) in plan.lists.items():
        path = root / name
        if path.is_file() and path.read_bytes() != _list_bytes(rows, line_end):
            others.append(str(path))
    if others:
        raise UserError(
            f"{', '.join(others)}: holds other rows than this data set: move it, or give --force "
            "to replace it"
        )


def _refuse_links(root: Path, plan: DatasetPlan) -> None:
    """Refuse a folder of the layout that is a link: clips would be replaced somewhere else.

    Raises:
        UserError: naming the link.
    """
    for path in sorted({clip.path for clip in plan.clips} | set(plan.lists)):
        for folder in Path(path).parents:
            if (root / folder).is_symlink() and folder != Path():
                raise UserError(f"{root / folder}: is a link, expected a folder of its own")


def _remove_old(root: Path, spec: DatasetSpec, plan: DatasetPlan) -> None:
    """Remove the files that another specification may have left in the places of a plan.

    Clips are told apart by nothing but their place. Stopped at any point, the next run goes on
    here, until the specification no longer says that it is unfinished.
    """
    _write_spec(root, spec, unfinished=True)
    # Lists first: labels never stand beside the clips of another specification.
    for name in (*plan.lists, *(clip.path for clip in plan.clips)):
        (root / name).unlink(missing_ok=True)
    for folder in {(root / clip.path).parent for clip in plan.clips}:
        fsync_folder(folder)
    _write_spec(root, spec)


def _spec_values(spec: DatasetSpec) -> dict[str, object]:
    return {"version": VERSION, **asdict(spec)}


def _write_spec(root: Path, spec: DatasetSpec, unfinished: bool = False) -> None:
    values = _spec_values(spec)
    if unfinished:
        values[UNFINISHED] = True
    with atomic_write(root / SPEC_FILE, "w") as file:
        json.dump(values, file, indent=1)


def _check_folder(root: Path, spec: DatasetSpec, force: bool) -> bool:
    """Return true if the folder may hold clips of another specification, to be removed.

    Raises:
        UserError: if it holds something else, or `force` does not allow to replace them.
    """
    if not root.exists() or not any(root.iterdir()):
        return False
    try:
        found = json.loads((root / SPEC_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{root}: is not empty and holds no synthetic data; choose a new folder"
        ) from None
    except (ValueError, RecursionError):
        # A damaged file is that of another specification.
        found = {}
    if found == _spec_values(spec):
        return False
    # An earlier run was allowed to replace them, and was stopped while it did.
    if found == {**_spec_values(spec), UNFINISHED: True}:
        return True
    if not force:
        raise UserError(
            f"{root}: holds clips of other settings ({found}); "
            "choose another folder, or use force to replace them"
        )
    return True
