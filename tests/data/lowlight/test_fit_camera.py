"""The fit of camera and codec: recordings whose statistics are met, and limits that are told."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nightcrawler.data.lowlight import fit_camera
from nightcrawler.data.lowlight.camera import (
    PRESETS,
    CameraRanges,
    darken,
    sample_camera,
)
from nightcrawler.data.lowlight.clip_statistics import (
    STATISTICS,
    ClipStatistics,
    measure_clip,
    summarise,
)
from nightcrawler.data.lowlight.compression import Compression, recording_format
from nightcrawler.data.lowlight.fit_camera import fit_cameras, limits_reached
from nightcrawler.synthetic.actions import ACTIONS
from nightcrawler.synthetic.scene import render_clip
from nightcrawler.synthetic.video import write_video
from tests.reading import read_file

LENGTH = 10


def bright_clips(count: int, first_seed: int) -> list[np.ndarray]:
    """Rendered actions in normal light, uint8 `[10, 48, 64, 3]` each."""
    clips = []
    for seed in range(first_seed, first_seed + count):
        rng = np.random.default_rng(seed)
        clips.append(render_clip(rng, list(ACTIONS)[seed % len(ACTIONS)], LENGTH, 20, 48, 64))
    return clips


def recorded(path: Path, bright: np.ndarray, seed: int, cameras: CameraRanges) -> ClipStatistics:
    """Statistics of a file: a clip darkened by a known camera and encoded by FFmpeg's defaults."""
    rng = np.random.default_rng([1, seed])
    write_video(path, darken(bright, sample_camera(rng, cameras), rng), 20)
    frames = read_file(path, lambda num_frames: list(range(num_frames))).frames
    found = measure_clip(frames, recording_format(str(path)).bits_per_pixel)
    assert found is not None
    return found


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_simulated_recordings_show_what_was_measured(tmp_path: Path, preset: str) -> None:
    """Within a fifth, though other scenes were recorded, by an encoder that looks ahead."""
    dark = []
    for number, bright in enumerate(bright_clips(48, 0)):
        dark.append(recorded(tmp_path / f"{number}.mp4", bright, number, PRESETS[preset]))
    fit = fit_cameras(dark, bright_clips(36, 100), Compression(0.0), num_threads=2)
    assert max(abs(error) for error in fit.errors().values()) < 0.2
    assert fit.limits == []
    np.testing.assert_allclose(fit.recorder.cameras.mean, PRESETS[preset].mean, rtol=0.3)
    assert fit.measured == summarise(dark)


def few_and_clean() -> list[ClipStatistics]:
    return [ClipStatistics(12.0 + n, 0.3 + n / 9, 0.5, 0.1, (0.1, 0.0, -0.1)) for n in range(4)]


def test_smooth_cameras_are_searched_only_where_others_are_not_close(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tried = []
    search = fit_camera._Search._search

    def note(self: Any, electrons: Any, smoothing: float) -> Any:
        tried.append(smoothing)
        return search(self, electrons, smoothing)

    monkeypatch.setattr(fit_camera._Search, "_search", note)
    worst = []
    for close in (math.inf, 0.0):
        monkeypatch.setattr(fit_camera, "CLOSE", close)
        fit = fit_cameras(few_and_clean(), bright_clips(3, 0), Compression(0.0))
        worst.append(max(abs(math.log1p(error)) for error in fit.errors().values()))
        if close:
            assert fit.recorder.cameras.smoothing == 0
    assert tried == [0.0, 0.0, fit_camera.SMOOTHING]
    # Figures of a fit have four digits.
    assert worst[1] <= worst[0] + 1e-3


def test_threads_change_nothing() -> None:
    clips = bright_clips(3, 0)
    first, second = (
        fit_cameras(few_and_clean(), clips, Compression(0.0), 48, number) for number in (1, 3)
    )
    assert dataclasses.asdict(first) == dataclasses.asdict(second)
    assert first.recorder.short_side == 48


def test_parameters_at_a_limit_are_named() -> None:
    middle = (fit_camera.LEAST + fit_camera.MOST) / 2
    assert limits_reached(middle) == []
    middle[0] = fit_camera.MOST[0]
    middle[3] = fit_camera.LEAST[3]
    assert limits_reached(middle) == ["electrons", "rate factor"]


def test_recordings_that_no_camera_makes_have_errors() -> None:
    """Less noise and texture than bright clips have when they are only darkened."""
    dark = [ClipStatistics(20.0, 0.002, 0.01, 0.5, (0.0, 0.0, 0.0))] * 3
    fit = fit_cameras(dark, bright_clips(3, 0), Compression(0.0))
    assert set(fit.errors()) == set(STATISTICS)
    assert fit.errors()["spatial_noise"] > 0.2
