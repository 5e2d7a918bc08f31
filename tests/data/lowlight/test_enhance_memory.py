"""Memory of enhancements: that of some copies of the frames, not of indices or scraps of them."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from nightcrawler.data.lowlight.enhance.build import enhance
from nightcrawler.data.lowlight.enhance.gamma import count_levels, gamma_lut
from nightcrawler.data.lowlight.enhance.luma import luminance

# Frames of 8 MiB are denoised by a fresh process, whose memory is in one piece.
DENOISE = """
import os
import numpy as np
from nightcrawler.data.lowlight.enhance.denoise import denoise

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

frames = np.random.default_rng(0).integers(0, 60, (150, 120, 160, 3)).astype(np.uint8)
denoise(frames[:9], range(9), range(9), 3)
before = resident()
denoised = denoise(frames, range(150), range(150), 3)
print((resident() - before) / frames.nbytes)
"""


def many_frames() -> np.ndarray:
    """uint8 `[80, 120, 160, 3]`, 4.4 MiB."""
    return np.random.default_rng(0).integers(0, 60, (80, 120, 160, 3)).astype(np.uint8)


def peak_bytes(function: Callable[..., object], *given: object) -> int:
    tracemalloc.start()
    function(*given)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    ("name", "copies"), [("gamma", 1.8), ("auto_gamma", 1.8), ("clahe", 2.5), ("retinex", 3.4)]
)
def test_an_enhancement_takes_the_memory_of_some_copies(name: str, copies: float) -> None:
    frames = many_frames()
    enhance(frames[:2], name)
    assert peak_bytes(enhance, frames, name) < copies * frames.nbytes


def test_luminance_takes_the_memory_of_its_result_and_a_little() -> None:
    frames = many_frames()
    assert peak_bytes(luminance, frames) < frames.nbytes


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
def test_denoising_leaves_no_scraps_of_memory_behind() -> None:
    """Frames that are kept between larger floats that are not keep these from being given back."""
    told = subprocess.run([sys.executable, "-c", DENOISE], capture_output=True, check=True)
    assert float(told.stdout) < 4


@pytest.mark.parametrize("frames", [many_frames(), many_frames()[:3, ::2, ::-1]])
def test_pieces_make_the_whole(frames: np.ndarray) -> None:
    """Of frames that are longer than a piece, and of a view of them."""
    np.testing.assert_array_equal(enhance(frames, "gamma", gamma=0.4), gamma_lut(0.4)[frames])
    weighted = frames.astype(int) * (77, 150, 29)
    np.testing.assert_array_equal(luminance(frames), (weighted.sum(axis=-1) + 128) >> 8)
    counts = np.bincount(frames.reshape(-1), minlength=256)
    np.testing.assert_array_equal(count_levels(frames), counts)
