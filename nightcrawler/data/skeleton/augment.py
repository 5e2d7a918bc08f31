"""Training augmentation of skeletons.

What cameras and estimators do to joints is in `pose.disturb`, the side a motion is seen from in
`pose.filming`. Here are the ways of people: they are faster or slower, begin elsewhere, are wider.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nightcrawler.data.skeleton.clips import (
    WORLD_CHANNELS,
    film_if_world,
    normalise,
    resample,
    to_clip,
)
from nightcrawler.data.skeleton.track import bridge
from nightcrawler.pose.disturb import disturb
from nightcrawler.pose.layouts import MIRRORED


def keep(frames: np.ndarray) -> np.ndarray:
    """Return joints as they are: nothing of them is dark."""
    return frames


def draw_factor(most: float, rng: np.random.Generator) -> float:
    """Draw a factor between 1 / (1 + most) and 1 + most, log-uniformly."""
    reach = math.log1p(most)
    return math.exp(rng.uniform(-reach, reach))


def crop_time(frames: np.ndarray, least_share: float, rng: np.random.Generator) -> np.ndarray:
    """Return a part of the frames `[N, ...]`, at least a share of them and one."""
    length = max(round(rng.uniform(least_share, 1) * len(frames)), 1)
    start = int(rng.integers(len(frames) - length, endpoint=True))
    return frames[start : start + length]


def mirror(steps: np.ndarray) -> np.ndarray:
    """Return normalised steps `[T, 13, 3]` as in a mirror, with left and right joints exchanged."""
    return steps[:, MIRRORED] * [-1, 1, 1]


def drop_joints(steps: np.ndarray, prob: float, rng: np.random.Generator) -> np.ndarray:
    """Lose joints for a stretch of time that is drawn, and bridge it without confidence.

    Args:
        steps: `[T, 13, 3]`.
        prob: probability of each joint to be lost. One joint at least is kept.
        rng: generator of the draws.
    """
    count, joints = steps.shape[:2]
    lost = np.flatnonzero(rng.random(joints) < prob)[: joints - 1]
    if len(lost) == 0:
        return steps
    found = np.ones((count, joints), bool)
    for joint in lost:
        start = int(rng.integers(-count // 2, count))
        found[max(start, 0) : start + int(rng.integers(1, 2 * count)), joint] = False
    places = bridge(steps[..., :2], found, np.arange(count, dtype=float))
    return np.concatenate([places, steps[..., 2:] * found[..., None]], axis=2)


class PoseTransform:
    """Training augmentation of the frames of a track into normalised clips.

    A motion in the world is filmed by a new camera for each copy, from any side.

    Args:
        num_steps: T.
        length: frames that a clip lasts.
        disturb_prob: probability that joints of a motion in the world are disturbed.
        disturb_estimates_prob: probability that joints of a picture are.
        warp: a person becomes faster or slower by up to the factor 1 + `warp`.
        least_share: least share of the frames that is kept.
        stretch: a figure becomes wider or narrower by up to the factor 1 + `stretch`.
        flip_prob: probability that left and right are exchanged.
        joint_drop: probability that a joint is lost for a while.
    """

    def __init__(
        self,
        *,
        num_steps: int,
        length: int,
        disturb_prob: float = 0.0,
        disturb_estimates_prob: float = 0.0,
        warp: float = 0.0,
        least_share: float = 1.0,
        stretch: float = 0.0,
        flip_prob: float = 0.0,
        joint_drop: float = 0.0,
    ) -> None:
        self.num_steps = num_steps
        self.length = length
        self.disturb_prob = disturb_prob
        self.disturb_estimates_prob = disturb_estimates_prob
        self.warp = warp
        self.least_share = least_share
        self.stretch = stretch
        self.flip_prob = flip_prob
        self.joint_drop = joint_drop

    def __call__(self, frames: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        """Augment the same frames several times.

        Args:
            frames: float32 `[N, 13, 3]` in the picture, or `[N, 13, 4]` in the world.
            rngs: generators, one for each of S copies.

        Returns:
            float32 `[S, 3, T, 13]`.
        """
        track = frames.numpy()
        return torch.stack([self._clip(track, rng) for rng in rngs])

    def _clip(self, frames: np.ndarray, rng: np.random.Generator) -> Tensor:
        is_motion = frames.shape[-1] == WORLD_CHANNELS
        prob = self.disturb_prob if is_motion else self.disturb_estimates_prob
        picture = film_if_world(crop_time(frames, self.least_share, rng), rng)
        if rng.random() < prob:
            picture = disturb(picture, rng)
        steps = normalise(self._place(picture, rng))
        steps[..., 0] *= draw_factor(self.stretch, rng)
        if rng.random() < self.flip_prob:
            steps = mirror(steps)
        return to_clip(drop_joints(steps, self.joint_drop, rng))

    def _place(self, picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Place frames `[N, 13, 3]` in the time of a clip, at a pace that is drawn."""
        pace = draw_factor(self.warp, rng)
        # Of frames that last longer than the clip, the clip begins within them.
        slack = self.length - len(picture) / pace
        offset = rng.uniform(min(slack, 0), max(slack, 0))
        return resample(picture, self.num_steps, self.length, offset, pace)
