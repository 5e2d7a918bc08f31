"""Pose files of the splits of a configuration: those that are missing are made before a run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from fvcore.common.config import CfgNode

from nightcrawler.data.build_items import split_of
from nightcrawler.data.lists import VideoItem, locate_videos
from nightcrawler.data.splits import MOTIONS, get_split
from nightcrawler.pose.files import SUFFIX
from nightcrawler.prepare.pose_files import FAILED, PoseFiles, pose_recipe_from_cfg
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.io import open_own
from nightcrawler.utils.locks import take_record_lock
from nightcrawler.utils.logging import get_logger
from nightcrawler.utils.progress import progress

LOCK_NAME = ".lock"
TIMEOUT_SEC = 120.0

logger = get_logger(__name__)


def build_missing_poses(cfg: CfgNode, splits: Iterable[str], jobs: int) -> None:
    """Make the pose files that a training or test will read and that are not there.

    Nothing is done where the input is frames, or no file is missing. Where poses cannot be made,
    as without the estimator, a warning says so: readers name each file that they miss.

    Args:
        cfg: The configuration.
        splits: Names of the splits.
        jobs: Number of processes.
    """
    splits = [name for name in dict.fromkeys(splits) if name not in MOTIONS]
    if cfg.DATA.INPUT != "pose" or not _missing_of(cfg, splits):
        return
    folder = Path(cfg.DATA.PATH_PREFIX, cfg.POSE.FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    with open_own(folder / LOCK_NAME, "a+") as lock:
        # Several ranks, or trainings on one data folder: one makes them, the others wait.
        take_record_lock(lock, wait=True)
        for out, items in _missing_of(cfg, splits).items():
            _build_poses(cfg, out, items, jobs)


def _missing_of(cfg: CfgNode, splits: Iterable[str]) -> dict[Path, list[VideoItem]]:
    """Return the videos without a pose file, by the folder that it belongs into."""
    found: dict[Path, dict[str, VideoItem]] = defaultdict(dict)
    for name in splits:
        videos = get_split(name, cfg.DATA.PATH_PREFIX)
        posed = split_of(cfg, name)
        if not videos.list_file.is_file():
            continue
        located = locate_videos(videos.list_file, videos.folders)
        for row, (video, path) in enumerate(located, start=1):
            file = video + SUFFIX
            if not path.is_file() or any((folder / file).is_file() for folder in posed.folders):
                continue
            # The folders of poses come first, in the order of those of videos.
            holds = [(folder / video).exists() for folder in videos.folders]
            out = posed.folders[holds.index(True) if any(holds) else 0]
            found[out][video] = VideoItem(video, -1, path, row)
    return {out: list(items.values()) for out, items in found.items()}


def _build_poses(cfg: CfgNode, out: Path, items: list[VideoItem], jobs: int) -> None:
    recipe = pose_recipe_from_cfg(cfg)
    try:
        with PoseFiles(out, recipe, jobs, TIMEOUT_SEC) as files:
            for row in progress(files.make(items), len(items), "poses"):
                if row.status == FAILED:
                    logger.warning("%s: no pose: %s", row.path, row.reason)
    except UserError as error:
        logger.warning("%d pose files are missing in %s: %s", len(items), out, error)
