"""How a model of skeletons gets a video: the poses of its people, made when they are asked for."""

from __future__ import annotations

import contextlib
import hashlib
import os
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from fvcore.common.config import CfgNode

from nightcrawler.data.lists import VideoItem
from nightcrawler.data.lowlight.enhance.build import build_enhancement
from nightcrawler.data.skeleton.build import build_pose_test_clips
from nightcrawler.data.skeleton.reader import seen_track
from nightcrawler.data.skeleton.track import RATE
from nightcrawler.data.video.decode import Decoded, VideoReader
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.data.video.remote import video_state
from nightcrawler.data.video.stream import ASSUMED_FPS
from nightcrawler.pose.files import Pose, read_pose
from nightcrawler.pose.second_look import is_confirmed
from nightcrawler.predict.model_input import FrameSpan, ModelInput, Sighting
from nightcrawler.prepare.pose_files import FAILED, PoseFiles, PoseRecipe, pose_recipe_from_cfg
from nightcrawler.synthetic.video import write_video
from nightcrawler.utils.errors import UserError, VideoError
from nightcrawler.utils.temporary_folder import temporary_folder

LEAST_SIDE_PX = 16
# A person must be seen so long: what estimators see in test pictures and machines is shorter.
LEAST_SEEN_SEC = 0.5
# A process that finds no pose for so long is ended.
ESTIMATOR_TIMEOUT_SEC = 120.0
FOLDER_PREFIX = "nightcrawler-poses-"
# Stage of a video's faults that lie with the estimator, not with the file.
STAGE = "pose"


class VideoPoses:
    """Poses of videos, made once each by a process that may crash or hang without harm.

    The files are in a temporary folder that goes with this object, or where the program is killed,
    when the next one starts.

    Args:
        recipe: how poses are made.

    Raises:
        UserError: if poses cannot be made at all: the estimator is not installed.
    """

    def __init__(self, recipe: PoseRecipe) -> None:
        with contextlib.ExitStack() as stack:
            try:
                self._folder = stack.enter_context(temporary_folder(FOLDER_PREFIX))
            except OSError as error:
                raise UserError(
                    f"no temporary folder for poses: {error}; TMPDIR may name another one"
                ) from None
            self._files = PoseFiles(self._folder, recipe, 1, ESTIMATOR_TIMEOUT_SEC)
            # Last in, first out: the process has ended before its files are removed.
            stack.enter_context(self._files)
            kept = stack.pop_all()
        # Name of the video that was asked for last, and its pose or what is wrong with it.
        self._last: tuple[str, Pose | VideoError] = ("", VideoError("", "no video", STAGE))
        # Processes end with this object, or with the program.
        weakref.finalize(self, kept.close)

    @property
    def source(self) -> str:
        """Estimator, its release, light and way of looking."""
        return self._files.source

    def pose_of(self, path: str) -> Pose:
        """Return the pose of a video, made if it is not there.

        Raises:
            VideoError: if it cannot be made, also when it is asked for again.
        """
        state = f"{os.path.realpath(path)} {video_state(path)}"
        name = hashlib.sha256(os.fsencode(state)).hexdigest()[:32]
        # Windows of one video follow one another.
        if name != self._last[0]:
            self._last = (name, self._make(path, name))
        found = self._last[1]
        if isinstance(found, VideoError):
            raise found
        return found

    def _make(self, path: str, name: str) -> Pose | VideoError:
        item = VideoItem(name, -1, Path(path), 1)
        # Taken to its end: whoever leaves it earlier ends the processes.
        (row,) = list(self._files.make([item]))
        if row.status == FAILED:
            return _error_of(path, row.reason)
        target = self._files.path_of(item)
        try:
            return read_pose(target)
        finally:
            target.unlink(missing_ok=True)

    def pose_of_frames(self, frames: Sequence[np.ndarray], fps: float) -> Pose:
        """Return the pose of frames uint8 `[H, W, 3]`.

        Raises:
            VideoError: if it cannot be made.
        """
        # The process reads videos: frames of a camera become a short one.
        path = self._folder / "frames.mp4"
        if min(frames[0].shape[:2]) < LEAST_SIDE_PX:
            raise VideoError(path, f"pictures below {LEAST_SIDE_PX} pixels show nobody", STAGE)
        write_video(path, map(_even, frames), Fraction(fps or ASSUMED_FPS).limit_denominator(1000))
        try:
            return self.pose_of(str(path))
        finally:
            path.unlink(missing_ok=True)


def _error_of(path: str, reason: str) -> VideoError:
    """Return the error of a video whose pose failed: the file's own, or the estimator's."""
    cause, found, where = reason.removesuffix(")").rpartition(" (while ")
    return VideoError(path, cause, where) if found else VideoError(path, reason, STAGE)


def _even(frame: np.ndarray) -> np.ndarray:
    """Return a picture `[H, W, 3]` with even sides: H.264 takes no others."""
    return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]


@dataclass(frozen=True)
class DecodedTrack(Decoded):
    """Steps of a track, and how its person was seen."""

    sighting: Sighting


def measure_person(decoded: Decoded) -> Sighting:
    """Return how the person of a track was seen."""
    assert isinstance(decoded, DecodedTrack)
    return decoded.sighting


@dataclass(frozen=True)
class TrackReader:
    """Read joints of the main person of one pose.

    Attributes:
        pose: the pose.
        least_seconds: time that a person must be seen, in a shorter video all the time.
    """

    pose: Pose
    least_seconds: float

    def probe(self, path: str) -> StreamInfo:
        """Return the number of frames of the track.

        Raises:
            NoPersonError: if nobody was seen long enough.
        """
        return StreamInfo(len(self._track(path)), fps=RATE)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Return the frames of the track with the given numbers."""
        track = self._track(path)
        sighting = Sighting(all(map(is_confirmed, self.pose.seen_again[:1])), self._video_sec)
        return DecodedTrack(track[list(indices)], list(indices), len(track), RATE, sighting)

    @property
    def _video_sec(self) -> float:
        return self.pose.num_frames / self.pose.fps

    def _track(self, path: str) -> np.ndarray:
        return seen_track(self.pose, path, min(self.least_seconds, self._video_sec))


@dataclass(frozen=True)
class PosedVideos:
    """Read joints of the main person of videos, whose poses are made on the way.

    Attributes:
        poses: makes pose files.
        least_seconds: time that a person must be seen.
    """

    poses: VideoPoses
    least_seconds: float

    def probe(self, path: str) -> StreamInfo:
        """Return the number of frames of the track.

        Raises:
            NoPersonError: if nobody was seen long enough.
            VideoError: if the pose cannot be made, or the video is damaged: as a whole it is
                refused as by models of pictures, its sound windows are not.
        """
        pose = self.poses.pose_of(path)
        if pose.damage:
            raise VideoError(path, pose.damage, "decode")
        return self._reader(pose).probe(path)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Return the frames of the track with the given numbers."""
        return self._reader(self.poses.pose_of(path)).decode(path, indices, info)

    def of_span(self, span: FrameSpan) -> VideoReader:
        """Return a reader of the joints in a span of frames.

        Of a file, the pose of the whole is made once and cut.
        """
        try:
            if span.path is None:
                pose = self.poses.pose_of_frames(span.frames, span.fps)
            else:
                whole = self.poses.pose_of(str(span.path))
                pose = cut_pose(whole, span.start_sec, span.end_sec)
        except VideoError as error:
            # Told when it is read, as of a file.
            return _FailedReader(error)
        return self._reader(pose)

    def _reader(self, pose: Pose) -> TrackReader:
        return TrackReader(pose, self.least_seconds)


def cut_pose(pose: Pose, start_sec: float, end_sec: float) -> Pose:
    """Return a part of a pose, whose main person is the one who is seen longest in it.

    Args:
        pose: the pose of a whole video.
        start_sec: start of the part.
        end_sec: its end.
    """
    first = min(round(start_sec * pose.fps), pose.num_frames - 1)
    points = pose.points[:, first : max(round(end_sec * pose.fps), first + 1)]
    seen = np.isfinite(points).all(axis=-1).any(axis=-1).sum(axis=1)
    # Stable: of equals, the main person of the video stays the main one.
    order = np.argsort(-seen, kind="stable")
    seen_again = tuple(pose.seen_again[person] for person in order if pose.seen_again)
    return replace(pose, points=points[order], seen_again=seen_again)


@dataclass(frozen=True)
class _FailedReader:
    """Reader of frames of which no pose could be made.

    Attributes:
        error: the reason.
    """

    error: VideoError

    def probe(self, path: str) -> StreamInfo:
        """Raise the reason."""
        raise self.error

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Raise the reason."""
        raise self.error


def build_pose_input(cfg: CfgNode, pair: tuple[int, int], dark: bool) -> ModelInput:
    """Build the input of a model of skeletons.

    Args:
        cfg: the configuration of its training.
        pair: temporal views and spatial crops. Of skeletons there is one crop.
        dark: light the videos before the estimator.

    Raises:
        UserError: if poses cannot be made: the estimator is not installed.
    """
    recipe = pose_recipe_from_cfg(cfg)
    if not dark:
        recipe = replace(recipe, light="none")
    least_seconds = max(cfg.POSE.LEAST_SECONDS, LEAST_SEEN_SEC)
    videos = PosedVideos(VideoPoses(recipe), least_seconds)
    return ModelInput(
        reader=videos,
        read_span=videos.of_span,
        clip_builder=build_pose_test_clips(cfg, [(pair[0], 1)]),
        enhance=build_enhancement(recipe.light, recipe.light_params),
        about={"poses": videos.poses.source, "seconds": cfg.POSE.SECONDS},
        measure=measure_person,
    )
