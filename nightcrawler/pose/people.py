"""People over time: who of a frame is who of the next one, and who is the main person."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from nightcrawler.pose.posture import UPSIDE_DOWN_WEIGHT, is_upside_down

# A person who is not seen for longer is another one when seen again.
LINK_SEC = 2.0
# Shorter gaps are bridged.
BRIDGE_SEC = 0.5
# How far from where a person is expected it may be seen, in its own sizes: at once, and for each
# second that it was not seen.
REACH = 0.6
REACH_PER_SEC = 1.0
# Share of the last step in the speed that a person is expected to go on with.
SPEED_SHARE = 0.5
# A poster: no joint of it moves so far, in its sizes, between the 10th and the 90th percentile of
# its places. Its track counts so much of that of one who moves.
STILL = 0.06
STILL_WEIGHT = 0.1
# Shorter tracks are of no person: a tree that was taken for one, for a frame or two.
LEAST_SEC = 0.2


@dataclass
class _Track:
    """One person, as far as it is known."""

    frames: list[int] = field(default_factory=list)
    points: list[np.ndarray] = field(default_factory=list)
    speed: np.ndarray = field(default_factory=lambda: np.zeros(2))
    size: float = 0.0

    def add(self, frame: int, points: np.ndarray) -> None:
        """Add the person's joints `[V, 3]` in a frame."""
        if self.frames:
            step = (_center(points) - _center(self.points[-1])) / (frame - self.frames[-1])
            self.speed = SPEED_SHARE * step + (1 - SPEED_SHARE) * self.speed
        self.frames.append(frame)
        self.points.append(points)
        self.size = _size(points)

    def distance(self, frame: int, points: np.ndarray) -> float:
        """Return how far joints are from those expected in a frame, in sizes of the person."""
        expected = self.points[-1][:, :2] + self.speed * (frame - self.frames[-1])
        apart = np.linalg.norm(points[:, :2] - expected, axis=1)
        return float(np.nanmean(apart) / max(self.size, 1.0))

    def weight(self, layout: str) -> float:
        """Return length times mean size: the main person's is the largest.

        It is little where nothing moves, or what was seen is upside down.
        """
        weight = float(sum(_size(points) for points in self.points))
        if self.is_still():
            weight *= STILL_WEIGHT
        if is_upside_down(np.stack(self.points), layout):
            weight *= UPSIDE_DOWN_WEIGHT
        return weight

    def is_still(self) -> bool:
        """Return whether no joint moves."""
        places = np.stack(self.points)[..., :2]
        # An estimator may not see some joints in any frame.
        places = places[:, np.isfinite(places).all(axis=2).any(axis=0)]
        first, last = np.nanpercentile(places, (10, 90), axis=0)
        size = np.mean([_size(points) for points in self.points])
        return bool(np.nanmax(last - first) < STILL * size)


def _center(points: np.ndarray) -> np.ndarray:
    return np.nanmean(points[:, :2], axis=0)


def _size(points: np.ndarray) -> float:
    """Return the diagonal of the box around joints `[V, 3]`, in pixels."""
    spread = np.nanmax(points[:, :2], axis=0) - np.nanmin(points[:, :2], axis=0)
    return float(np.hypot(*spread))


def follow_people(points: np.ndarray, fps: float, max_people: int, layout: str) -> np.ndarray:
    """Give each person one index for the whole video, the main person the first.

    A person is looked for near where it would be had it gone on as before. The main person is the
    one whose track is longest and largest; a poster counts little, and so does one who is upside
    down. Gaps of at most `BRIDGE_SEC` are bridged by straight lines, with confidence 0.

    Args:
        points: float32 `[P, T, V, 3]` of an estimator, where the index p of a person may change
            from frame to frame.
        fps: Frames per second.
        max_people: Most people to return.
        layout: Layout of the joints, a name of `pose.layouts.LAYOUTS`.

    Returns:
        float32 `[Q, T, V, 3]` of Q people, at least 1 and at most `max_people`. All is NaN where
        nobody was seen.

    Example:
        >>> follow_people(np.zeros((2, 30, 17, 3), np.float32), 15.0, 1, "coco17").shape
        (1, 30, 17, 3)
    """
    tracks = _link(points, fps)
    least = min(LEAST_SEC * fps, points.shape[1])
    tracks = [track for track in tracks if len(track.frames) >= least]
    tracks = sorted(tracks, key=lambda track: -track.weight(layout))[:max_people]
    found = np.full((max(len(tracks), 1), *points.shape[1:]), np.nan, np.float32)
    for person, track in enumerate(tracks):
        found[person, track.frames] = track.points
    return bridge_gaps(found, int(BRIDGE_SEC * fps))


def _link(points: np.ndarray, fps: float) -> list[_Track]:
    """Follow everybody through all frames, those first who are nearest to where they should be."""
    tracks: list[_Track] = []
    recent: list[_Track] = []
    for frame in range(points.shape[1]):
        seen = [person for person in points[:, frame] if np.isfinite(person[:, :2]).any()]
        recent = [track for track in recent if frame - track.frames[-1] - 1 <= LINK_SEC * fps]
        near = []
        for number, track in enumerate(recent):
            missed_sec = (frame - track.frames[-1] - 1) / fps
            for index, person in enumerate(seen):
                distance = track.distance(frame, person)
                if distance <= REACH + REACH_PER_SEC * missed_sec:
                    near.append((distance, number, index))
        taken: dict[int, int] = {}
        for _, number, index in sorted(near):
            if number not in taken.values() and index not in taken:
                taken[index] = number
        for index, person in enumerate(seen):
            if index not in taken:
                taken[index] = len(recent)
                recent.append(_Track())
                tracks.append(recent[-1])
            recent[taken[index]].add(frame, person)
    return tracks


def bridge_gaps(points: np.ndarray, max_frames: int) -> np.ndarray:
    """Bridge short gaps by straight lines, with confidence 0.

    Args:
        points: float32 `[P, T, V, 3]`, NaN where a person was not seen.
        max_frames: Longest gap that is bridged. The time before a person comes and after it left is
            no gap.

    Returns:
        float32 `[P, T, V, 3]`.
    """
    bridged = points.copy()
    for person in bridged:
        seen = np.flatnonzero(np.isfinite(person[..., :2]).any(axis=(1, 2)))
        for before, after in itertools.pairwise(seen):
            length = after - before
            if 1 < length <= max_frames + 1:
                share = (np.arange(1, length) / length)[:, None, None]
                line = (1 - share) * person[before] + share * person[after]
                line[..., 2] = 0
                person[before + 1 : after] = line
    return bridged


def seen_frames(points: np.ndarray) -> np.ndarray:
    """Return in which frames a person was seen, bridged ones not counted.

    Args:
        points: `[T, V, 3]` of one person.

    Returns:
        bool `[T]`.
    """
    return np.nan_to_num(points[..., 2]).max(axis=-1, initial=0) > 0
