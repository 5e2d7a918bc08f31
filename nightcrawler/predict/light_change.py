"""Changes of the light in a stream: night falls, lamps are switched on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nightcrawler.data.footage import LOOKED_AT
from nightcrawler.data.lowlight.noise import noise_sigma

# Stops (factors of two) in mean level or noise that are another light. Dusk takes half an hour for
# a stop, and people in front of a camera change its mean level by a fraction of one.
CHANGE_STOPS = 1.0
# Once a change is suspected, only a light as near as this is the old one: a light near the limit
# does not switch to and fro.
SAME_STOPS = 0.5
# A new light must last: headlights of a car pass faster.
HOLD_SEC = 2.0
# The level that is compared with follows slow changes with this half-life.
FOLLOW_SEC = 30.0
# Levels of 256 added to mean and noise: 8 bits say nothing about smaller ones.
LEAST_LEVEL = 1.0
LEAST_NOISE = 0.5
# Side of the middle of a picture whose noise is estimated, in pixels.
NOISE_SIDE = 128

STEADY = "steady"
DOUBTFUL = "doubtful"
CHANGED = "changed"


def measure_light(frames: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean level and the noise of the newest frames, in stops, float64 `[2]`.

    Args:
        frames: uint8 `[H, W, 3]` each, in order, at least one.
    """
    newest = frames[-LOOKED_AT:]
    mean = np.mean([picture.mean(dtype=np.float64) for picture in newest])
    height, width = newest[0].shape[:2]
    top = max(height - NOISE_SIDE, 0) // 2
    left = max(width - NOISE_SIDE, 0) // 2
    middle = np.stack(
        [picture[top : top + NOISE_SIDE, left : left + NOISE_SIDE] for picture in newest]
    )
    noise = noise_sigma(middle, range(len(middle)))
    return np.log2([mean + LEAST_LEVEL, noise + LEAST_NOISE])


class LightChange:
    """Detector of changes that last.

    Example:
        >>> detector = LightChange()
        >>> dark, lit = np.array([3.0, 1.0]), np.array([5.0, 1.0])
        >>> [detector.see(light, time) for time, light in enumerate((dark, lit, lit, lit, lit))]
        ['steady', 'doubtful', 'doubtful', 'changed', 'steady']
    """

    def __init__(self) -> None:
        self._level: np.ndarray | None = None
        self._last_sec = 0.0
        self._other_since_sec = math.inf

    def see(self, light: np.ndarray, time_sec: float) -> str:
        """Return `steady`, `doubtful` (not yet decided), or `changed`, once for each change.

        Args:
            light: of a window, see `measure_light`.
            time_sec: end of the window, later than that of the window before.
        """
        if self._level is None:
            self._level = light
        passed_sec = time_sec - self._last_sec
        self._last_sec = time_sec
        distance = float(np.abs(light - self._level).max())
        is_waiting = self._other_since_sec < math.inf
        if distance < (SAME_STOPS if is_waiting else CHANGE_STOPS):
            self._other_since_sec = math.inf
            share = 1.0 - 0.5 ** (passed_sec / FOLLOW_SEC)
            self._level = self._level + share * (light - self._level)
            return STEADY
        self._other_since_sec = min(self._other_since_sec, time_sec)
        if time_sec - self._other_since_sec < HOLD_SEC:
            return DOUBTFUL
        self._level = light
        self._other_since_sec = math.inf
        return CHANGED
