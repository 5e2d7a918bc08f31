"""Pose files of many videos, each made in a process that may crash or hang without harm."""

from __future__ import annotations

import functools
import os
import queue
import sys
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import astuple, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from fvcore.common.config import CfgNode

from nightcrawler.config.node import get_cfg
from nightcrawler.data.fingerprint import hash_ends
from nightcrawler.data.lists import VideoItem
from nightcrawler.data.lowlight.enhance.build import (
    Enhance,
    EnhanceParams,
    build_enhancement,
    enhance_params_from_cfg,
)
from nightcrawler.data.lowlight.enhance.denoise import denoise
from nightcrawler.download.addresses import is_address
from nightcrawler.pose.estimators.base import EstimatorOptions, build_estimator
from nightcrawler.pose.files import SUFFIX, Pose, read_pose, write_pose
from nightcrawler.pose.people import seen_frames
from nightcrawler.prepare.extract_poses import (
    EXTRACTION_RULES,
    ExtractionOptions,
    extract_pose,
)
from nightcrawler.utils.clip_worker import Answer, Question, Worker, report_alive
from nightcrawler.utils.errors import UserError, describe_error
from nightcrawler.utils.io import write_spreadsheet_rows
from nightcrawler.utils.plugins import import_user_module, load_plugins

# Measured on 150 dark clips, see docs/pose.md.
DENOISE_FRAMES = 3
LIGHT_DEFAULTS = {"GAMMA": 0.4, "TARGET_MEAN": 64.0, "DENOISE_FRAMES": DENOISE_FRAMES}
TABLE_NAME = "poses.csv"
# The parameter of an enhancement that people change.
USED_PARAM = {"gamma": "gamma", "auto_gamma": "target_mean"}
OK = "ok"
NO_PERSON = "no person"
FAILED = "failed"


def default_light() -> EnhanceParams:
    """Return the parameters of enhancements that estimators see most people with."""
    params = enhance_params_from_cfg(get_cfg())
    gamma, mean = LIGHT_DEFAULTS["GAMMA"], LIGHT_DEFAULTS["TARGET_MEAN"]
    return replace(params, gamma=gamma, target_mean=mean)


@dataclass(frozen=True)
class PoseRecipe:
    """All that the poses of a video depend on, and what the process needs to make them.

    Attributes:
        estimator: Name of the estimator.
        model: Its options.
        light: Name of the enhancement before it.
        light_params: Parameters of all enhancements.
        denoise_frames: Frames that each is averaged over before it is lit, where they show the
            same: an odd number, 1 for none. Where `light` is `none`, frames stay as they are.
        looking: How a video is looked at.
        imports: Modules of the user's own, which register estimators and enhancements.
    """

    estimator: str = "mediapipe"
    model: EstimatorOptions = field(default_factory=EstimatorOptions)
    light: str = "auto_gamma"
    light_params: EnhanceParams = field(default_factory=default_light)
    denoise_frames: int = DENOISE_FRAMES
    looking: ExtractionOptions = field(default_factory=ExtractionOptions)
    imports: tuple[str, ...] = ()


def pose_recipe_from_cfg(cfg: CfgNode) -> PoseRecipe:
    """Return how the pose files of a configuration are made."""
    return PoseRecipe(
        cfg.POSE.ESTIMATOR,
        EstimatorOptions(cfg.POSE.ESTIMATOR_MODEL),
        cfg.POSE.LIGHT,
        denoise_frames=cfg.POSE.DENOISE_FRAMES,
        imports=tuple(cfg.IMPORTS),
    )


@dataclass(frozen=True)
class PoseRow:
    """A row of the table.

    Attributes:
        path: Name of the video.
        status: `ok`, `no person` or `failed`.
        frames: Frames that were looked at.
        seen: Those in which the main person was seen.
        people: People that are kept.
        reason: Why it failed, or the lost parts of a damaged video.
    """

    path: str
    status: str
    frames: int = 0
    seen: int = 0
    people: int = 0
    reason: str = ""


TABLE_HEADER = tuple(column.name for column in fields(PoseRow))


def is_denoised(recipe: PoseRecipe) -> bool:
    """Return whether frames are averaged with their neighbours before the estimator.

    Args:
        recipe: The recipe.
    """
    return recipe.light != "none" and recipe.denoise_frames > 1


def source_of(recipe: PoseRecipe, release: str) -> str:
    """Return `Pose.source`: poses of another source are made anew.

    Args:
        recipe: The recipe.
        release: `PoseEstimator.source`.
    """
    light = recipe.light
    if light in USED_PARAM:
        light += f" {getattr(recipe.light_params, USED_PARAM[light]):g}"
    if is_denoised(recipe):
        light += f", means of {recipe.denoise_frames} frames"
    crops = ", crops" if recipe.looking.search_crops else ""
    looking = f"{recipe.looking.max_fps:g} fps, {recipe.looking.max_people} people{crops}"
    return f"{release}; {light}; {looking}; rules {EXTRACTION_RULES}"


def build_worker(recipe: PoseRecipe) -> tuple[Callable[[Question], Answer], dict[str, Any]]:
    """Build the answers of a worker: the pose file of a video.

    Args:
        recipe: How poses are made.

    Returns:
        Function of `{"video": path, "out": path}`, and the estimator's release.

    Raises:
        UserError: If the estimator or the enhancement cannot be built.
    """
    _keep_libraries_silent()
    load_plugins()
    for module in recipe.imports:
        import_user_module(module)
    enhance = build_light(recipe)
    estimator = build_estimator(recipe.estimator, recipe.model)
    source = source_of(recipe, estimator.source)

    def answer(question: Question) -> Answer:
        video = question["video"]
        try:
            pose = extract_pose(video, estimator, enhance, recipe.looking, report_alive)
        except UserError:
            raise
        except Exception as error:
            # Estimators are other people's programs: one odd clip is a row with the reason.
            reason = f"estimator '{recipe.estimator}' failed ({describe_error(error)})"
            raise UserError(reason) from error
        write_pose(question["out"], replace(pose, source=source))
        return {}

    return answer, {"source": source}


def build_light(recipe: PoseRecipe) -> Enhance:
    """Build what is done to frames before the estimator: denoising, and an enhancement.

    Args:
        recipe: How poses are made.

    Returns:
        Function of neighbouring frames uint8 `[T, H, W, 3]`.

    Raises:
        UserError: If the enhancement cannot be built.
    """
    enhance = build_enhancement(recipe.light, recipe.light_params)
    if not is_denoised(recipe):
        return enhance

    def light(frames: np.ndarray) -> np.ndarray:
        every = range(len(frames))
        return enhance(denoise(frames, every, every, recipe.denoise_frames))

    return light


def _keep_libraries_silent() -> None:
    """Send what libraries write to standard error nowhere, and keep Python's own stream."""
    sys.stderr.flush()
    kept = os.dup(2)
    sys.stderr = os.fdopen(kept, "w", encoding="utf-8", errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


class PoseFiles:
    """Makes the pose files of videos that lack them. Use it as a context: it ends its processes.

    Args:
        out: Folder of the files, each named as its video with the suffix `.pose.npz`.
        recipe: How poses are made.
        jobs: Number of processes.
        timeout_sec: A process that does not go on for so long is ended.

    Raises:
        UserError: On entering, if poses cannot be made at all (the estimator is not installed).

    Example:
        >>> with PoseFiles(Path("poses"), PoseRecipe(), 2, 120.0) as files:  # doctest: +SKIP
        ...     rows = list(files.make(read_videos(Path("clips"), 11)))
    """

    def __init__(self, out: Path, recipe: PoseRecipe, jobs: int, timeout_sec: float) -> None:
        self.out = out
        self.recipe = recipe
        self.jobs = jobs
        self.timeout_sec = timeout_sec
        self._workers: list[Worker] = []
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        self._source = ""

    def __enter__(self) -> PoseFiles:
        """Start the first process, to know that poses can be made, and of which source."""
        self._add_worker()
        try:
            self._workers[0].start()
        except BaseException:
            self.close()
            raise
        self._source = self._workers[0].about["source"]
        return self

    @property
    def source(self) -> str:
        """The makers of the poses: estimator, light and way of looking."""
        return self._source

    @property
    def pids(self) -> list[int]:
        """Ids of the processes that were started."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all processes at once."""
        for worker in self._workers:
            worker.stop()

    def _add_worker(self) -> None:
        worker = Worker(functools.partial(build_worker, self.recipe), self.timeout_sec)
        self._workers.append(worker)
        self._free.put(worker)

    def path_of(self, item: VideoItem) -> Path:
        """Return the pose file of a video."""
        return self.out / (item.name + SUFFIX)

    def made(self, item: VideoItem) -> PoseRow | None:
        """Return the row of a video whose pose file is there, of this source and content."""
        try:
            pose = read_pose(self.path_of(item))
            same = pose.source == self._source and _is_of(pose, item.path)
        except (UserError, OSError):
            return None
        return row_of(item.name, pose) if same else None

    def make(self, items: Sequence[VideoItem]) -> Generator[PoseRow, None, None]:
        """Make the pose files of videos, and yield their rows in the order of completion.

        Args:
            items: The videos, whose files are made anew.
        """
        for _ in range(min(self.jobs, len(items)) - len(self._workers)):
            self._add_worker()
        pool = ThreadPoolExecutor(self.jobs)
        try:
            for done in as_completed([pool.submit(self._make, item) for item in items]):
                yield done.result()
        except BaseException:
            # Such as Ctrl-C. Open questions fail, so that no thread is waited for; in a notebook,
            # others will be asked later.
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in self._workers:
                worker.interrupt()
            raise
        finally:
            pool.shutdown(cancel_futures=True)

    def _make(self, item: VideoItem) -> PoseRow:
        worker = self._free.get()
        try:
            worker.ask({"video": str(item.path), "out": str(self.path_of(item))})
            return row_of(item.name, read_pose(self.path_of(item)))
        except UserError as error:
            return PoseRow(item.name, FAILED, reason=str(error))
        finally:
            self._free.put(worker)


def _is_of(pose: Pose, video: Path) -> bool:
    """Return whether a pose was made of the content of a video.

    Raises:
        OSError: If the video cannot be read.
    """
    try:
        return pose.fingerprint == hash_ends(video)
    except OSError:
        if is_address(str(video)):
            # It has made room for others, and is not fetched again: a changed one has a new name.
            return True
        raise


def row_of(name: str, pose: Pose) -> PoseRow:
    """Return the row of a video's pose.

    Args:
        name: Name of the video.
        pose: Its pose.
    """
    seen = int(seen_frames(pose.points[0]).sum()) if len(pose.points) else 0
    people = int(np.isfinite(pose.points).any(axis=(1, 2, 3)).sum())
    status = OK if seen else NO_PERSON
    return PoseRow(name, status, pose.num_frames, seen, people, pose.damage)


def write_table(out: Path, rows: Sequence[PoseRow]) -> Path:
    """Write the rows of all videos, and return the table's path.

    Args:
        out: Folder of the pose files.
        rows: The rows.
    """
    write_spreadsheet_rows(out / TABLE_NAME, [TABLE_HEADER, *map(astuple, rows)])
    return out / TABLE_NAME
