"""Training augmentation of skeletons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from nightcrawler.data.skeleton.clips import film_if_world, normalise, resample, to_clip


def keep(frames: np.ndarray) -> np.ndarray:
    """Return joints as they are: nothing of them is dark."""
    return frames


class PoseTransform:
    """Training augmentation of the frames of a track into normalised clips.

    A motion in the world is filmed by a new camera for each copy, from any side. A track that is
    shorter than a clip begins at a time that is drawn.

    Args:
        num_steps: T.
        length: frames that a clip lasts.
    """

    def __init__(self, *, num_steps: int, length: int) -> None:
        self.num_steps = num_steps
        self.length = length

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
        picture = film_if_world(frames, rng)
        offset = rng.uniform(0, max(self.length - len(frames), 0))
        steps = resample(picture, self.num_steps, self.length, offset)
        return to_clip(normalise(steps))
