"""BlazePose (Bazarevsky et al. 2020) through mediapipe: 33 joints of one person, or of several."""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np

from nightcrawler.pose.estimators.base import (
    UNRELATED,
    EstimatorOptions,
    check_model_file,
)
from nightcrawler.utils.errors import UserError, install_command, missing_extra
from nightcrawler.utils.io import sha256_file

NAME = "mediapipe"
LAYOUT = "blazepose33"
NUM_JOINTS = 33
# Dark clips: at the usual 0.5, people are lost in half as many frames again.
LEAST_CONFIDENCE = 0.3
# Releases by what they are made of:
#   release              Python         model of the wheel   with a .task file
#   0.10.14 to 0.10.21   3.9 to 3.12    yes, one person      several people
#   0.10.30 and later    3.9 and later  none                 several people
# Of the first row, 0.10.14 alone allows numpy 2, so an installer chooses it.
FIRST_RELEASE = (0, 10, 14)
LAST_WITH_MODEL = (0, 10, 21)

# Joints of all people in one picture: `[P, 33, 3]`.
FindPeople = Callable[[np.ndarray], np.ndarray]


def brings_model() -> bool:
    """Return whether an installed release of mediapipe finds people without a file of the user."""
    try:
        release = metadata.version("mediapipe")
    except metadata.PackageNotFoundError:
        return False
    return FIRST_RELEASE <= _parse(release) <= LAST_WITH_MODEL


def build_mediapipe(options: EstimatorOptions) -> BlazePose:
    """Build BlazePose from the models of an installed mediapipe, or from a `.task` file.

    Raises:
        UserError: If mediapipe is missing, of a release that is not known to work or that needs a
            model, or the model cannot be used.
    """
    if importlib.util.find_spec("mediapipe") is None:
        raise missing_extra(f"estimator '{NAME}'", "pose")
    release = metadata.version("mediapipe")
    number = _parse(release)
    if number < FIRST_RELEASE:
        raise UserError(f"mediapipe {release} is too old: {install_command('pose')}")
    if options.model:
        path = check_model_file(NAME, options.model, ".task")
        # By content, as a name says nothing: the lite and the heavy model see other poses.
        source = f"mediapipe {release} {path.name} {sha256_file(path)[:12]}"
        return BlazePose(source, _TaskRunner(options))
    if number > LAST_WITH_MODEL:
        raise UserError(
            f"mediapipe {release} brings no model: give a .task file of its pose landmarker "
            "(--model), or install 0.10.14 to 0.10.21, which do (Python 3.12 or older)"
        )
    return BlazePose(f"mediapipe {release}", _SolutionRunner())


def _parse(release: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", release)[:3])


class BlazePose:
    """Estimator of 33 joints.

    Args:
        source: Name and release, and name and content of a `.task` file.
        runner: Runs the model on single pictures.
    """

    layout = LAYOUT

    def __init__(self, source: str, runner: _SolutionRunner | _TaskRunner) -> None:
        self.source = source
        self._runner = runner

    def reset(self) -> None:
        """Forget the person of the frames before."""
        self._runner.reset()

    def estimate(self, frames: np.ndarray, fps: float) -> np.ndarray:
        """Find joints, see `PoseEstimator.estimate`."""
        seen = []
        for frame in frames:
            picture = np.ascontiguousarray(frame)
            landmarks = self._runner.find(picture, fps)
            height, width = picture.shape[:2]
            seen.append(_to_points(landmarks, width, height))
        num_people = max((len(people) for people in seen), default=0)
        points = np.full((num_people, len(frames), NUM_JOINTS, 3), np.nan, np.float32)
        for number, people in enumerate(seen):
            points[: len(people), number] = people
        return points


def _to_points(people: list[Any], width: int, height: int) -> np.ndarray:
    """Return landmarks in shares of the picture as float32 `[P, 33, 3]` in pixels."""
    points = np.zeros((len(people), NUM_JOINTS, 3), np.float32)
    for person, landmarks in enumerate(people):
        for joint, mark in enumerate(landmarks):
            points[person, joint] = mark.x * width, mark.y * height, mark.visibility
    return points


class _SolutionRunner:
    """The API of releases that hold their models."""

    def __init__(self) -> None:
        self._graphs: dict[bool, Any] = {}
        self._graph(are_unrelated=False)

    def _graph(self, are_unrelated: bool) -> Any:
        if are_unrelated not in self._graphs:
            pose = importlib.import_module("mediapipe").solutions.pose
            self._graphs[are_unrelated] = pose.Pose(
                static_image_mode=are_unrelated,
                model_complexity=1,
                min_detection_confidence=LEAST_CONFIDENCE,
                min_tracking_confidence=LEAST_CONFIDENCE,
            )
        return self._graphs[are_unrelated]

    def reset(self) -> None:
        """Forget the person of the frames before."""
        self._graph(are_unrelated=False).reset()

    def find(self, picture: np.ndarray, fps: float) -> list[Any]:
        """Return the landmarks of at most one person."""
        seen = self._graph(fps == UNRELATED).process(picture).pose_landmarks
        return [seen.landmark] if seen else []


class _TaskRunner:
    """The API that reads a `.task` file."""

    def __init__(self, options: EstimatorOptions) -> None:
        self._options = options
        self._mediapipe = importlib.import_module("mediapipe")
        self._vision = importlib.import_module("mediapipe.tasks.python.vision")
        self._landmarkers: dict[bool, Any] = {}
        self._time_ms = 0.0
        try:
            self._landmarker(are_unrelated=False)
        except (RuntimeError, ValueError, OSError):
            raise UserError(
                f"{options.model}: cannot be read as the pose landmarker of mediapipe"
            ) from None

    def _landmarker(self, are_unrelated: bool) -> Any:
        if are_unrelated not in self._landmarkers:
            python = importlib.import_module("mediapipe.tasks.python")
            modes = self._vision.RunningMode
            options = self._vision.PoseLandmarkerOptions(
                base_options=python.BaseOptions(model_asset_path=self._options.model),
                running_mode=modes.IMAGE if are_unrelated else modes.VIDEO,
                num_poses=self._options.max_people,
                min_pose_detection_confidence=LEAST_CONFIDENCE,
                min_pose_presence_confidence=LEAST_CONFIDENCE,
                min_tracking_confidence=LEAST_CONFIDENCE,
            )
            made = self._vision.PoseLandmarker.create_from_options(options)
            self._landmarkers[are_unrelated] = made
        return self._landmarkers[are_unrelated]

    def reset(self) -> None:
        """Forget the people of the frames before."""
        landmarker = self._landmarkers.pop(False, None)
        if landmarker is not None:
            landmarker.close()
        self._time_ms = 0.0

    def find(self, picture: np.ndarray, fps: float) -> list[Any]:
        """Return the landmarks of each person."""
        image = self._mediapipe.Image(image_format=self._mediapipe.ImageFormat.SRGB, data=picture)
        if fps == UNRELATED:
            return self._landmarker(are_unrelated=True).detect(image).pose_landmarks
        # Times must increase by at least a millisecond.
        self._time_ms += max(1000 / fps, 1.0)
        landmarker = self._landmarker(are_unrelated=False)
        return landmarker.detect_for_video(image, int(self._time_ms)).pose_landmarks
