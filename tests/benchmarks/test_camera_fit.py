"""Fits of known cameras: what is recorded is measured, and a fit comes back in words."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.camera_fit import CAMERAS, measure_fits, record, render_clips


def test_a_noisier_camera_is_measured_as_one() -> None:
    clips = render_clips(0, 4)
    noise = {
        name: np.median([clip.temporal_noise for clip in record(clips, CAMERAS[name], 0)])
        for name in ("night", "street")
    }
    assert noise["street"] > 10 * noise["night"]


def test_every_fit_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.camera_fit.CAMERAS", {"street": CAMERAS["street"]})
    lines = list(measure_fits(3, 1))
    assert re.match(r"street 0: mean [+-]\d+ %, .* electrons 2 to 12, fitted \S+ to \S+", lines[0])
    assert re.fullmatch(r"largest error \d+ % of 1 fits", lines[1])
