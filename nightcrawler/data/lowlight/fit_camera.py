"""Fit of cameras and compression to unlabelled dark recordings.

Compression hides the noise of a sensor, so noise cannot be read from a recording. Instead, bright
clips are recorded by simulated cameras and encoders whose parameters are searched until the
simulated recordings show the brightness, the noise and the bits per pixel of the dark ones. Only
pixels and sizes of packets are used, no label.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from nightcrawler.data.lowlight.camera import (
    CameraRanges,
    DarkCamera,
    darken,
    sample_camera,
)
from nightcrawler.data.lowlight.clip_statistics import (
    LEAST_MEAN,
    QUANTILES,
    STATISTICS,
    ClipStatistics,
    cast_std,
    measure_clip,
    statistics_logs,
    summarise,
)
from nightcrawler.data.lowlight.compression import Compression, compress
from nightcrawler.data.lowlight.recorder import Recorder

# Weight of each of `QUANTILES`: noise survives compression where there is most of it.
QUANTILE_WEIGHTS = (0.4, 1.0, 0.7)
# Largest mean code of a camera.
MOST_MEAN = 200.0
# Largest error of a simulated statistic that is not warned of.
TOLERANCE = 0.2


# Parameters of the search, and their limits.


@dataclass(frozen=True)
class Parameter:
    """One dimension of the search.

    Attributes:
        name: name for people.
        least: lower limit.
        most: upper limit.
        step: difference that changes the recordings visibly.
    """

    name: str
    least: float
    most: float
    step: float


PARAMETERS = (
    # Logarithms: a camera with twice the electrons is as different at 10 as at 1000.
    # Above 10,000 electrons, noise is less than a tenth of a level.
    Parameter("electrons", math.log(0.3), math.log(1e4), 0.4),
    Parameter("range of electrons", 0.0, 3.0, 0.5),
    Parameter("read noise", math.log(0.2), math.log(20.0), 0.5),
    Parameter("rate factor", 1.0, 50.0, 1.5),
    # Pixels. Cameras smooth noise, and what is left of it is harder to compress away.
    Parameter("smoothing", 0.0, 2.0, 0.2),
)
LEAST = np.array([parameter.least for parameter in PARAMETERS])
MOST = np.array([parameter.most for parameter in PARAMETERS])
STEP = np.array([parameter.step for parameter in PARAMETERS])
# Where recordings do not tell: 2 electrons of read noise, a range of electrons from 1 to 4, no
# smoothing.
PRIOR = np.array([0.0, math.log(4.0), math.log(2.0), 0.0, 0.0])
PRIOR_WEIGHTS = np.array([0.0, 0.1, 0.15, 0.0, 0.1])
# Electrons that a search begins with, of cameras that smooth nothing and of those that do. Few
# electrons and a smooth picture have as much noise as many, so the second are searched only where
# the first leave a median this far off.
START_ELECTRONS = (2.0, 8.0, 32.0, 128.0, 1000.0)
SMOOTH_ELECTRONS = (2.0, 8.0, 32.0)
SMOOTHING = 0.6
CLOSE = 0.1
# Halvings of the range of rate factors for each, with every second clip: fewer clips or halvings
# leave the search where bits per pixel are a fifth off.
NUM_HALVINGS = 7
START_SHARE = 2
# Most points that the search looks at from the best start, and what ends it earlier: moves below
# this share of a step, and costs that differ by less.
NUM_EVALUATIONS = 40
LEAST_MOVE = 0.05
LEAST_GAIN = 1e-3


@dataclass(frozen=True)
class CameraFit:
    """Cameras and compression whose recordings are most like the measured ones.

    Attributes:
        recorder: the cameras and their compression.
        measured: see `summarise`.
        simulated: the same of simulated recordings.
        limits: names of the parameters that stopped at a limit.
    """

    recorder: Recorder
    measured: dict[str, list[float]]
    simulated: dict[str, list[float]]
    limits: list[str]

    def errors(self) -> dict[str, float]:
        """Return the relative error of the median of each simulated statistic."""
        middle = len(QUANTILES) // 2
        found = {}
        for name in STATISTICS:
            found[name] = self.simulated[name][middle] / self.measured[name][middle] - 1
        return found


@dataclass(frozen=True)
class _State:
    """A point of the search, with its simulated recordings."""

    values: np.ndarray
    mean: np.ndarray
    cast: float
    clips: list[ClipStatistics]
    residuals: np.ndarray

    @property
    def cost(self) -> float:
        return float((self.residuals**2).sum())


class _Search:
    """Search for the parameters of a recorder.

    Args:
        dark: statistics of the recordings.
        bright: bright clips that recordings are simulated from, uint8 `[T, H, W, 3]` each.
        compression: settings of the encoder, but for the rate factor.
        num_threads: clips that are simulated at a time.
    """

    def __init__(
        self,
        dark: Sequence[ClipStatistics],
        bright: Sequence[np.ndarray],
        compression: Compression,
        num_threads: int,
    ) -> None:
        self.dark_logs = statistics_logs(dark)
        self.dark_cast = cast_std([clip.cast for clip in dark])
        self.bright = bright
        self.compression = compression
        self.num_threads = num_threads
        # Positions in the ranges of brightness, electrons and read noise: evenly spread, so that
        # few clips show the whole of a range.
        rng = np.random.default_rng(0)
        orders = [rng.permutation(len(bright)) for _ in range(3)]
        self.positions = (np.stack(orders, axis=1) + 0.5) / len(bright)

    def run(self) -> _State:
        """Return the best point that is found."""
        sharp = self._search(START_ELECTRONS, 0.0)
        if self._error(sharp) <= CLOSE:
            return sharp
        return min(sharp, self._search(SMOOTH_ELECTRONS, SMOOTHING), key=self._error)

    def _error(self, state: _State) -> float:
        """Return how far the worst median is off that of the recordings, as a logarithm."""
        if not state.clips:
            return math.inf
        simulated = statistics_logs(state.clips)
        difference = np.median(simulated, axis=0) - np.median(self.dark_logs, axis=0)
        return float(np.abs(difference).max())

    def _search(self, start_electrons: Sequence[float], smoothing: float) -> _State:
        """Return the best point that is found from some starts, without smoothing if it is 0."""
        mean = _uniform_ends(self.dark_logs[:, 0])
        starts = [self._start(electrons, smoothing, mean) for electrons in start_electrons]
        best = self._with_brightness(min(starts, key=lambda state: state.cost))
        # Smoothing is the last of the parameters.
        return self._refined(best, len(PARAMETERS) if smoothing else len(PARAMETERS) - 1)

    def _start(self, electrons: float, smoothing: float, mean: np.ndarray) -> _State:
        """Find the rate factor that gives recordings of so many electrons their bits per pixel."""
        values = PRIOR.copy()
        values[0] = math.log(electrons)
        values[4] = smoothing
        low, high = LEAST[3], MOST[3]
        wanted = np.median(self.dark_logs[:, 3])
        for _ in range(NUM_HALVINGS):
            values[3] = (low + high) / 2
            clips = self._simulate(values, mean, self.dark_cast, START_SHARE)
            if clips and np.median(statistics_logs(clips)[:, 3]) > wanted:
                low = values[3]
            else:
                high = values[3]
        values[3] = (low + high) / 2
        return self._evaluate(values, mean, self.dark_cast)

    def _refined(self, start: _State, num_free: int) -> _State:
        """Return the best point that the simplex search of Nelder and Mead (1965) meets.

        It needs no slopes, which quantiles of some dozens of clips are too rough for.

        Args:
            start: where it begins.
            num_free: parameters that are searched, the first ones.
        """
        # Commands that fit nothing start without it.
        from scipy.optimize import Bounds, minimize

        best = start

        def cost(position: np.ndarray) -> float:
            nonlocal best
            values = np.concatenate([position * STEP[:num_free], start.values[num_free:]])
            moved = self._evaluate(values, best.mean, best.cast)
            if moved.cost < best.cost:
                moved = self._with_brightness(moved)
            if moved.cost < best.cost:
                best = moved
            return moved.cost

        least, most, step = (ends[:num_free] for ends in (LEAST, MOST, STEP))
        first = start.values[:num_free] / step
        # A step along each parameter, away from its limit.
        steps = np.diag(np.where(start.values[:num_free] + step > most, -1.0, 1.0))
        minimize(
            cost,
            first,
            method="Nelder-Mead",
            bounds=Bounds(least / step, most / step),
            options={
                "initial_simplex": np.vstack([first, first + steps]),
                "maxfev": NUM_EVALUATIONS,
                "xatol": LEAST_MOVE,
                "fatol": LEAST_GAIN,
            },
        )
        return best

    def _with_brightness(self, state: _State) -> _State:
        """Correct brightness and cast, which noise and compression change, by their errors."""
        simulated = statistics_logs(state.clips)[:, 0]
        mean = state.mean + _uniform_ends(self.dark_logs[:, 0]) - _uniform_ends(simulated)
        if mean[0] > mean[1]:
            # Recordings that are all alike: their scenes differ more than cameras can make up for.
            mean[:] = mean.mean()
        mean = np.clip(mean, math.log(LEAST_MEAN), math.log(MOST_MEAN))
        found = cast_std([clip.cast for clip in state.clips])
        cast = math.sqrt(max(state.cast**2 + self.dark_cast**2 - found**2, 0.0))
        return self._evaluate(state.values, mean, cast)

    def _evaluate(self, values: np.ndarray, mean: np.ndarray, cast: float) -> _State:
        clips = self._simulate(values, mean, cast)
        if not clips:
            # Black recordings: as far from any as can be.
            far = np.full(len(QUANTILES) * (len(STATISTICS) - 1) + len(PARAMETERS), 1e3)
            return _State(values, mean, cast, clips, far)
        difference = _noise_quantiles(statistics_logs(clips)) - _noise_quantiles(self.dark_logs)
        weighted = difference * np.asarray(QUANTILE_WEIGHTS)[:, None]
        prior = PRIOR_WEIGHTS * (values - PRIOR)
        return _State(values, mean, cast, clips, np.concatenate([weighted.reshape(-1), prior]))

    def _simulate(
        self, values: np.ndarray, mean: np.ndarray, cast: float, share: int = 1
    ) -> list[ClipStatistics]:
        """Simulate the recordings of every `share`-th bright clip, and measure them."""

        def simulate(number: int) -> ClipStatistics | None:
            # A clip has the same noise at every point of the search, so that points compare.
            rng = np.random.default_rng(number)
            camera = self._camera(number, values, mean, cast, rng)
            dark = darken(self.bright[number], camera, rng)
            compression = replace(self.compression, crf=float(values[3]))
            return measure_clip(*compress(dark, compression))

        with ThreadPoolExecutor(self.num_threads) as pool:
            clips = list(pool.map(simulate, range(0, len(self.bright), share)))
        return [clip for clip in clips if clip is not None]

    def _camera(
        self,
        number: int,
        values: np.ndarray,
        mean: np.ndarray,
        cast: float,
        rng: np.random.Generator,
    ) -> DarkCamera:
        """Return the camera of a bright clip, at its own position in the ranges."""
        ranges = _ranges(values, mean, cast)
        bright, electrons, read_noise = self.positions[number].tolist()
        return replace(
            sample_camera(rng, ranges),
            mean=_between(ranges.mean, bright),
            electrons=_between(ranges.electrons, electrons),
            read_noise=ranges.read_noise[0] * (1 - read_noise) + ranges.read_noise[1] * read_noise,
        )


def _noise_quantiles(logs: np.ndarray) -> np.ndarray:
    """Return the quantiles of all statistics but brightness, `[quantiles, statistics - 1]`."""
    return np.quantile(logs[:, 1:], QUANTILES, axis=0)


def _between(ends: tuple[float, float], position: float) -> float:
    """Return the value at a position, 0 to 1, of a range with logarithmic scale."""
    return math.exp(math.log(ends[0]) * (1 - position) + math.log(ends[1]) * position)


def _uniform_ends(values: np.ndarray) -> np.ndarray:
    """Return the ends of the uniform distribution with the values' median and inner spread."""
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9))
    # The outer percentiles are 8 tenths of the range apart. The median is met in any case: most
    # clips are near it, however long the tail of brighter ones.
    half = (high - low) / 0.8 / 2
    return np.array([middle - half, middle + half])


def _ranges(values: np.ndarray, mean: np.ndarray, cast: float) -> CameraRanges:
    """Return the camera ranges of a point of the search, in four digits."""
    center, width, log_read_noise, _, smoothing = values.tolist()
    read_noise = math.exp(log_read_noise)
    ends = [math.exp(center - width / 2), math.exp(center + width / 2)]
    return CameraRanges(
        mean=_rounded(np.exp(mean).tolist()),
        electrons=_rounded(ends),
        read_noise=_rounded([0.5 * read_noise, 1.5 * read_noise]),
        cast=round(cast, 4),
        smoothing=round(smoothing, 3),
    )


def _rounded(ends: Sequence[float]) -> tuple[float, float]:
    low, high = (float(f"{end:.4g}") for end in ends)
    return low, high


def limits_reached(values: np.ndarray) -> list[str]:
    """Return the names of the parameters that are at a limit of the search.

    A lower limit of 0 is none: a camera may smooth nothing.

    Args:
        values: a value of each of `PARAMETERS`.
    """
    names = []
    for parameter, value in zip(PARAMETERS, values.tolist(), strict=True):
        if value <= parameter.least != 0 or value >= parameter.most:
            names.append(parameter.name)
    return names


def fit_cameras(
    dark: Sequence[ClipStatistics],
    bright: Sequence[np.ndarray],
    compression: Compression,
    short_side: int = 0,
    num_threads: int = 1,
) -> CameraFit:
    """Fit cameras and the rate factor of the encoder to dark recordings.

    Args:
        dark: statistics of the recordings, at least one.
        bright: bright clips that recordings are simulated from, at least one, uint8 `[T, H, W, 3]`
            each. Sizes and lengths are best those of the recordings that were measured.
        compression: settings of the encoder, but for the rate factor.
        short_side: short side of a recorded picture, for the result (0 for that of bright videos).
        num_threads: clips that are simulated at a time, which changes no result.
    """
    state = _Search(dark, bright, compression, num_threads).run()
    compression = replace(compression, crf=round(float(state.values[3]), 3))
    return CameraFit(
        recorder=Recorder(_ranges(state.values, state.mean, state.cast), compression, short_side),
        measured=summarise(dark),
        simulated=summarise(state.clips),
        limits=limits_reached(state.values),
    )
