"""Protocol of estimators of poses, and their building by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from nightcrawler.utils.errors import UserError
from nightcrawler.utils.registries import ESTIMATORS

# In the place of a frame rate: the frames are unrelated pictures, and nobody is tracked.
UNRELATED = 0.0


class PoseEstimator(Protocol):
    """Find the joints of people in the frames of a video.

    Attributes:
        layout: Layout of the joints, a name of `pose.layouts.LAYOUTS`.
        source: Name and release, such as `mediapipe 0.10.14`. Poses of another source are not the
            same.
    """

    layout: str
    source: str

    def reset(self) -> None:
        """Forget the people of the frames before: the next ones are of another video or part."""

    def estimate(self, frames: np.ndarray, fps: float) -> np.ndarray:
        """Find joints.

        Args:
            frames: uint8 `[T, H, W, 3]`, the next frames of a video.
            fps: Frames per second, or `UNRELATED`.

        Returns:
            float32 `[P, T, V, 3]`: x and y in pixels and a confidence from 0 to 1, NaN where nobody
            was seen. A person need not keep the index p (see `pose.people`).
        """


@dataclass(frozen=True)
class EstimatorOptions:
    """Options of an estimator.

    Attributes:
        model: File of the model, empty for the one that the estimator brings.
        max_people: Most people in a picture, for estimators that see several.
    """

    model: str = ""
    max_people: int = 2


def build_estimator(name: str, options: EstimatorOptions) -> PoseEstimator:
    """Build an estimator by name.

    Args:
        name: One of `ESTIMATORS.names()`.
        options: Its parts.

    Raises:
        UserError: If the name is unknown, what the estimator needs is not installed, or its model
            cannot be used.

    Example:
        >>> estimator = build_estimator("mediapipe", EstimatorOptions())  # doctest: +SKIP
        >>> estimator.estimate(frames, fps=15.0).shape  # doctest: +SKIP
        (1, 60, 33, 3)
    """
    return ESTIMATORS.get(name)(options)


def check_model_file(name: str, model: str, suffix: str) -> Path:
    """Return the file of a model.

    Args:
        name: Name of the estimator, for messages.
        model: Its path.
        suffix: Suffix that it must have.

    Raises:
        UserError: If no file is given, it does not exist, or it is of another kind.
    """
    if not model:
        raise UserError(f"estimator '{name}' needs a model: give a {suffix} file (--model)")
    path = Path(model)
    if not path.is_file():
        raise UserError(f"{path}: no such model file of estimator '{name}'")
    if path.suffix.lower() != suffix:
        raise UserError(f"{path}: estimator '{name}' reads {suffix} files")
    return path
