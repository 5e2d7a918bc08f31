"""Fit of cameras to recordings whose cameras are known: statistics that the fit should show again.

Recordings are made of other clips than those that the fit darkens, as in `DATA.CAMERA fit`, which
measures up to 256 recordings and darkens up to 96 bright clips.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nightcrawler.data.build_cameras import MOST_BRIGHT
from nightcrawler.data.lowlight.camera import PRESETS, CameraRanges, darken, sample_camera
from nightcrawler.data.lowlight.clip_statistics import ClipStatistics, measure_clip
from nightcrawler.data.lowlight.compression import Compression, compress
from nightcrawler.data.lowlight.fit_camera import fit_cameras
from nightcrawler.synthetic.actions import ACTIONS
from nightcrawler.synthetic.scene import render_clip

# Two presets, a lit street that a poor sensor records, brighter and with more noise, and a camera
# that smooths its pictures.
CAMERAS = {
    **PRESETS,
    "street": CameraRanges(
        mean=(12.0, 40.0), electrons=(2.0, 12.0), read_noise=(2.0, 6.0), cast=0.2
    ),
    "smooth": CameraRanges(
        mean=(9.0, 30.0), electrons=(4.0, 16.0), read_noise=(1.0, 3.0), cast=0.2, smoothing=0.6
    ),
}
COMPRESSION = Compression(crf=26.0, keyint=12)
NUM_FRAMES, HEIGHT, WIDTH = 8, 96, 128
FPS = 10


def render_clips(seed: int, count: int) -> list[np.ndarray]:
    """Render bright clips of all actions in turn, uint8 `[T, H, W, 3]` each.

    Args:
        seed: of all draws.
        count: number of clips.
    """
    clips = []
    for number in range(count):
        action = list(ACTIONS)[number % len(ACTIONS)]
        rng = np.random.default_rng([seed, number])
        clips.append(render_clip(rng, action, NUM_FRAMES, FPS, HEIGHT, WIDTH))
    return clips


def record(clips: list[np.ndarray], cameras: CameraRanges, seed: int) -> list[ClipStatistics]:
    """Darken and compress clips, and measure those that are not black.

    Args:
        clips: bright clips, uint8 `[T, H, W, 3]` each.
        cameras: ranges that the camera of a clip is drawn from.
        seed: of cameras and noise.
    """
    measured = []
    for number, clip in enumerate(clips):
        rng = np.random.default_rng([seed, number])
        dark = darken(clip, sample_camera(rng, cameras), rng)
        found = measure_clip(*compress(dark, COMPRESSION))
        if found is not None:
            measured.append(found)
    return measured


def measure_fits(num_clips: int, num_seeds: int) -> Iterator[str]:
    """Fit each camera with each seed.

    Args:
        num_clips: number of recordings, and of bright clips (at most `MOST_BRIGHT`).
        num_seeds: number of draws of clips, cameras and noise.

    Yields:
        One line for each fit: relative errors of the medians of simulated statistics, true and
        fitted electrons, and limits that were reached.
    """
    worst = 0.0
    for name, cameras in CAMERAS.items():
        for seed in range(num_seeds):
            dark = record(render_clips(2 * seed, num_clips), cameras, seed)
            bright = render_clips(2 * seed + 1, min(num_clips, MOST_BRIGHT))
            fit = fit_cameras(dark, bright, COMPRESSION, num_threads=2)
            errors = fit.errors()
            worst = max(worst, *map(abs, errors.values()))
            shown = ", ".join(f"{key} {100 * error:+.0f} %" for key, error in errors.items())
            low, high = fit.recorder.cameras.electrons
            true = "{:g} to {:g}".format(*cameras.electrons)
            limits = f", limits: {', '.join(fit.limits)}" if fit.limits else ""
            yield f"{name} {seed}: {shown}; electrons {true}, fitted {low:g} to {high:g}{limits}"
    yield f"largest error {100 * worst:.0f} % of {len(CAMERAS) * num_seeds} fits"
