"""Read pose files as if they were videos whose frames are joints."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nightcrawler.data.fingerprint import hash_ends
from nightcrawler.data.skeleton.track import RATE, seconds_seen, to_track
from nightcrawler.data.video.decode import Decoded
from nightcrawler.data.video.integrity.file_identity import FileState, settled_state
from nightcrawler.data.video.probe import StreamInfo
from nightcrawler.pose.files import PICTURE, SUFFIX, Pose, read_pose
from nightcrawler.pose.posture import is_animal, is_upside_down
from nightcrawler.utils.errors import NoPersonError, UserError, VideoError
from nightcrawler.utils.lru import LruMapping

# Bytes of all tracks together that a process remembers: some 20,000 of four seconds.
MOST_REMEMBERED_BYTES = 1 << 28

_remembered: LruMapping[tuple[FileState, float], np.ndarray] = LruMapping(MOST_REMEMBERED_BYTES)


@dataclass(frozen=True)
class PoseReader:
    """Read the main person of pose files: frames are joints of the layout `body`.

    A frame is float32 `[13, 3]` of x, y and confidence in a picture, or `[13, 4]` of x, y, z and
    confidence in the world. There are `track.RATE` frames a second.

    A pose of a video is refused where the video has other content now.

    Attributes:
        least_seconds: time that a person must be seen.
        prefix: data folder, below which videos lie.
        folder: folder of pose files below it, laid out as the videos are.

    Example:
        >>> reader = PoseReader()
        >>> info = reader.probe("poses/Run_1.mp4.pose.npz")  # doctest: +SKIP
    """

    least_seconds: float = 0.25
    prefix: str = ""
    folder: str = ""

    def probe(self, path: str) -> StreamInfo:
        """Return the number of frames.

        Raises:
            NoPersonError: if nobody was seen long enough.
            VideoError: if the file cannot be read.
        """
        return StreamInfo(len(self._track(path)), fps=RATE)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        """Return the frames with the given numbers.

        Raises:
            NoPersonError: if nobody was seen long enough.
            VideoError: if the file cannot be read.
        """
        track = self._track(path)
        return Decoded(track[list(indices)], list(indices), len(track), RATE)

    def _track(self, path: str) -> np.ndarray:
        state = settled_state(path)
        if state is not None:
            known = _remembered.get((state, self.least_seconds))
            if known is not None:
                return known
        track = self._read(path)
        if state is not None:
            _remembered.put((state, self.least_seconds), track, track.nbytes)
        return track

    def _read(self, path: str) -> np.ndarray:
        try:
            pose = read_pose(path)
        except UserError as error:
            cause = str(error).removeprefix(f"{path}: ").removeprefix(f"{path} ")
            raise VideoError(path, f"{cause}; nightcrawler pose extract makes it", "open") from None
        video = video_of(path, self.prefix, self.folder)
        if has_other_content(pose, video):
            cause = f"is not of the content that {video} has now"
            raise VideoError(path, f"{cause}; nightcrawler pose extract makes it anew", "open")
        return seen_track(pose, path, self.least_seconds)


def video_of(path: str, prefix: str, folder: str) -> Path:
    """Return where the video of a pose file would lie.

    Args:
        path: the pose file: below the folder of poses as its video below the data folder, or beside
            its video.
        prefix: data folder.
        folder: folder of poses below it.
    """
    # Lists give paths whose links are resolved.
    video = Path(os.path.realpath(path.removesuffix(SUFFIX)))
    poses = os.path.realpath(os.path.join(prefix, folder))
    if folder and video.is_relative_to(poses):
        return Path(prefix) / video.relative_to(poses)
    return video


def has_other_content(pose: Pose, video: Path) -> bool:
    """Return whether a pose was made of another video than lies in its place now.

    Args:
        pose: the pose. One without a fingerprint is of no video.
        video: the place. Where no video can be read there, the pose is all that there is.
    """
    if not pose.fingerprint:
        return False
    try:
        return hash_ends(video) != pose.fingerprint
    except OSError:
        return False


def pose_sources(paths: Iterable[str | Path]) -> list[str]:
    """Return the makers of the poses of videos: estimators, light and way of looking, sorted.

    Args:
        paths: of pose files. Those of motions, and those that cannot be read, do not count.
    """
    sources = set()
    for path in paths:
        try:
            pose = read_pose(path)
        except UserError:
            continue
        if pose.fingerprint:
            sources.add(pose.source)
    return sorted(sources)


def seen_track(pose: Pose, path: str, least_seconds: float) -> np.ndarray:
    """Return the track of the main person of a pose, see `track.to_track`.

    Args:
        pose: the pose.
        path: the file that it is of, for errors.
        least_seconds: time that the person must be seen.

    Raises:
        NoPersonError: if nobody was seen so long, or what was seen is hardly a person.
        VideoError: if its frames are too far apart.
    """
    seconds = seconds_seen(pose)
    if seconds < least_seconds or seconds == 0:
        raise NoPersonError(
            path, f"somebody was seen for {seconds:.2f} s, expected {least_seconds:g} s"
        )
    if pose.space == PICTURE and is_animal(pose.points[0], pose.layout):
        raise NoPersonError(path, "what was seen goes on four legs")
    if pose.space == PICTURE and is_upside_down(pose.points[0], pose.layout):
        raise NoPersonError(path, "what was seen is upside down")
    try:
        return to_track(pose)
    except UserError as error:
        raise VideoError(path, str(error), "open") from None
