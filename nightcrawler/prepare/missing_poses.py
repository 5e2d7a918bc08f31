"""Pose files of the splits of a configuration: missing and outdated ones are made before a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from fvcore.common.config import CfgNode

from nightcrawler.data.build_items import split_of
from nightcrawler.data.lists import VideoItem, locate_videos
from nightcrawler.data.skeleton.reader import has_other_content
from nightcrawler.data.splits import MOTIONS, get_split
from nightcrawler.download.addresses import is_elsewhere
from nightcrawler.pose.files import SUFFIX, read_pose
from nightcrawler.prepare.pose_files import (
    FAILED,
    PoseFiles,
    PoseRecipe,
    pose_recipe_from_cfg,
    source_of,
)
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import open_own
from nightcrawler.utils.locks import take_record_lock
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.progress import progress

LOCK_NAME = ".lock"
TIMEOUT_SEC = 120.0

# Why a pose file is to be made, and what comes of it where it cannot be.
MISSING = "are missing"
CHANGED = "are of other content than their videos have now, and are not used"
OTHER = "are not of POSE.ESTIMATOR, ESTIMATOR_MODEL, LIGHT and DENOISE_FRAMES, and are used"

logger = get_logger(__name__)

# Videos by the folder that their pose files are in, or belong into.
PosedVideos = Mapping[Path, list[VideoItem]]


def build_missing_poses(cfg: CfgNode, splits: Iterable[str], jobs: int) -> None:
    """Make the pose files that a training or test will read and that are missing or outdated.

    A file is outdated if its video has other content now, or if it is of another estimator or
    light than `POSE` names. Nothing is done where the input is frames. Where poses cannot be made,
    as without the estimator, warnings say so: readers name each file that they miss.

    Args:
        cfg: The configuration.
        splits: Names of the splits.
        jobs: Number of processes.
    """
    splits = [name for name in dict.fromkeys(splits) if name not in MOTIONS]
    if cfg.DATA.INPUT != "pose":
        return
    videos = _videos_of(cfg, splits)
    if not videos:
        return
    recipe = pose_recipe_from_cfg(cfg)
    folder = Path(cfg.DATA.PATH_PREFIX, cfg.POSE.FOLDER)
    try:
        with PoseFiles(folder, recipe, 1, TIMEOUT_SEC) as files:
            source = files.source
    except UserError as error:
        _warn(recipe, videos, error)
        return

    def is_wanted(found: str) -> bool:
        return found == source

    if not _outdated(videos, is_wanted):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with open_own(folder / LOCK_NAME, "a+") as lock:
        # Several ranks, or trainings on one data folder: one makes them, the others wait.
        take_record_lock(lock, wait=True)
        wanted: dict[Path, list[VideoItem]] = defaultdict(list)
        for files_of_reason in _outdated(videos, is_wanted).values():
            for out, item in files_of_reason:
                wanted[out].append(item)
        for out, items in wanted.items():
            _build_poses(recipe, out, items, jobs)


def _videos_of(cfg: CfgNode, splits: Iterable[str]) -> PosedVideos:
    """Return the videos that are there, by the folder that their pose files are in or belong into.

    Pose files of which no video is there are left out: they are used as they are.
    """
    found: dict[Path, dict[str, VideoItem]] = defaultdict(dict)
    for name in splits:
        videos = get_split(name, cfg.DATA.PATH_PREFIX)
        posed = split_of(cfg, name)
        if not videos.list_file.is_file():
            continue
        located = locate_videos(videos.list_file, videos.folders)
        for row, (video, path) in enumerate(located, start=1):
            # A list may name poses themselves, such as motions of figures.
            if video.endswith(SUFFIX):
                continue
            if not is_elsewhere(str(path)) and not path.is_file():
                continue
            # The folders of poses come first, in the order of those of videos.
            holds = [(folder / video).exists() for folder in videos.folders]
            out = posed.folders[holds.index(True) if any(holds) else 0]
            for folder in reversed(posed.folders):
                if (folder / (video + SUFFIX)).is_file():
                    out = folder
            found[out][video] = VideoItem(video, -1, path, row)
    return {out: list(items.values()) for out, items in found.items()}


def _outdated(
    videos: PosedVideos, is_wanted: Callable[[str], bool]
) -> dict[str, list[tuple[Path, VideoItem]]]:
    """Return the pose files that are to be made, as folder and video, by the reason.

    Args:
        videos: The videos.
        is_wanted: Whether `Pose.source` is the one that the configuration asks for.
    """
    found: dict[str, list[tuple[Path, VideoItem]]] = defaultdict(list)
    for out, items in videos.items():
        for item in items:
            reason = _fault(out / (item.name + SUFFIX), item.path, is_wanted)
            if reason:
                found[reason].append((out, item))
    return found


def _fault(file: Path, video: Path, is_wanted: Callable[[str], bool]) -> str:
    """Return why a pose file is to be made, or an empty text."""
    if not file.is_file():
        return MISSING
    try:
        pose = read_pose(file)
    except UserError:
        # Readers say what is wrong with it, and it may be somebody else's.
        return ""
    if has_other_content(pose, video):
        return CHANGED
    # Files without a fingerprint were made by other programs, and are theirs.
    return OTHER if pose.fingerprint and not is_wanted(pose.source) else ""


def _warn(recipe: PoseRecipe, videos: PosedVideos, error: UserError) -> None:
    """Say which pose files cannot be made."""
    # Without the estimator its release is not known, all else is.
    ending = source_of(recipe, "")

    def is_wanted(source: str) -> bool:
        return source.startswith(recipe.estimator) and source.endswith(ending)

    for reason, files in _outdated(videos, is_wanted).items():
        out, item = files[0]
        first = out / (item.name + SUFFIX)
        logger.warning("%d pose files %s, first %s: %s", len(files), reason, first, error)


def _build_poses(recipe: PoseRecipe, out: Path, items: list[VideoItem], jobs: int) -> None:
    try:
        with PoseFiles(out, recipe, jobs, TIMEOUT_SEC) as files:
            for row in progress(files.make(items), len(items), "poses"):
                if row.status == FAILED:
                    logger.warning("%s: no pose: %s", row.path, row.reason)
    except UserError as error:
        logger.warning("%d pose files cannot be made in %s: %s", len(items), out, error)
