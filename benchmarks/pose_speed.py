"""Speed of extracting poses, in frames per second and beside decoding alone, in one run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from nightcrawler.data.lists import VideoItem
from nightcrawler.pose.estimators.base import EstimatorOptions
from nightcrawler.pose.layouts import get_layout
from nightcrawler.prepare.extract_poses import ExtractionOptions
from nightcrawler.prepare.pose_files import FAILED, PoseFiles, PoseRecipe
from nightcrawler.utils.errors import UserError
from nightcrawler.utils.registries import ESTIMATORS

TIMEOUT_SEC = 600.0


class BlindEstimator:
    """See nobody, at once: what is left is decoding, lighting and files."""

    layout = "blazepose33"
    source = "blind"

    def reset(self) -> None:
        """Do nothing."""

    def estimate(self, frames: np.ndarray, fps: float) -> np.ndarray:
        """Return one person of NaN."""
        joints = get_layout(self.layout).num_joints
        return np.full((1, len(frames), joints, 3), np.nan, np.float32)


@ESTIMATORS.register("blind")
def build_blind(options: EstimatorOptions) -> BlindEstimator:
    """Build the estimator that sees nobody."""
    return BlindEstimator()


def measure_poses(
    videos: Sequence[Path], estimator: str, model: str, jobs: int, repeats: int
) -> Iterator[str]:
    """Yield a line for decoding, lighting, the estimator, and the estimator with crops.

    Args:
        videos: Videos to measure.
        estimator: Name of the estimator.
        model: File of its model, empty for its own.
        jobs: Number of processes.
        repeats: Runs, of which the fastest counts.

    Raises:
        UserError: If the estimator cannot be built, or fails.
    """
    whole = ExtractionOptions(search_crops=False)
    blind = PoseRecipe("blind", light="none", looking=whole, imports=(__name__,))
    seeing = replace(blind, estimator=estimator, model=EstimatorOptions(model), light="auto_gamma")
    recipes = {
        "decoding": blind,
        "and lighting": replace(blind, light="auto_gamma"),
        f"and {estimator}": seeing,
        "and crops": replace(seeing, looking=ExtractionOptions()),
    }
    seconds_of_decoding = 0.0
    for name, recipe in recipes.items():
        frames, seconds = _time(videos, recipe, jobs, repeats)
        seconds_of_decoding = seconds_of_decoding or seconds
        ratio = seconds / seconds_of_decoding
        yield f"{name:16} {frames / seconds:7.1f} frames/s, {ratio:5.1f} x decoding"


def _time(videos: Sequence[Path], recipe: PoseRecipe, jobs: int, repeats: int) -> tuple[int, float]:
    """Return the frames that are looked at, and the seconds of the fastest run."""
    items = [VideoItem(f"{row}.mp4", -1, path, row) for row, path in enumerate(videos)]
    best = float("inf")
    frames = 0
    with (
        tempfile.TemporaryDirectory() as folder,
        PoseFiles(Path(folder), recipe, jobs, TIMEOUT_SEC) as files,
    ):
        # Until all processes have started and read their models.
        list(files.make(items[:1] * jobs))
        for _ in range(repeats):
            start = time.perf_counter()
            rows = list(files.make(items))
            best = min(best, time.perf_counter() - start)
            failed = [row for row in rows if row.status == FAILED]
            if failed:
                raise UserError(f"{videos[int(failed[0].path[:-4])]}: {failed[0].reason}")
            frames = sum(row.frames for row in rows)
    return frames, best
