"""Fixtures for tests that need video files; what holds for all tests."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from tests import slurm

MakeClip = Callable[..., Path]


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--run-package`: build the wheel and use it, a stage of its own in CI."""
    parser.addoption("--run-package", action="store_true", help="run the tests of the wheel")
    rehearse = "run the tests of tests/gpu on the CPU where there is no GPU"
    parser.addoption("--rehearse-gpu", action="store_true", help=rehearse)


def pytest_configure() -> None:
    """Forbid downloads; let programs hear signals that are ignored where a script or `nohup` began the tests."""
    # Of the tests of downloads, which serve files themselves, each takes this back.
    os.environ["NIGHTCRAWLER_OFFLINE"] = "1"
    os.environ["NIGHTCRAWLER_CACHE"] = os.path.join(tempfile.gettempdir(), "no-nightcrawler-cache")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _picture(index: int, width: int, height: int, seed: int) -> np.ndarray:
    """uint8 `[H, W, 3]`: a colour ramp and a square that moves, no two frames alike, no symmetry."""
    rows, columns = np.mgrid[:height, :width]
    tint = np.random.default_rng(seed).integers(0, 120, 3)
    ramp = np.stack([rows * 100 // height, columns * 100 // width, (rows + columns) % 100], axis=-1)
    picture = (ramp + tint).astype(np.uint8)
    side, left = max(height // 4, 1), (3 * index + seed) % max(width - height // 4, 1)
    picture[:side, left : left + side] = (250 - index % 40, 30, 60)
    picture[-2:] = (7 * index) % 256
    return picture


def _write_clip(
    path: Path,
    num_frames: int = 12,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    *,
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    seed: int = 0,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
) -> Path:
    """Write a short video of `size` (width, height) at 25 frames a second; the suffix picks the container."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", container_options=container or {}) as output:
        stream = output.add_stream(codec, rate=25, options={"threads": "1", **(options or {})})
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(_picture(index, *size, seed), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def make_clip() -> MakeClip:
    """Writer of small videos: `make_clip(path, num_frames, size, codec, ...)` returns the path."""
    return _write_clip


@pytest.fixture(scope="session")
def slurm_files() -> Iterator[Path]:
    """Folder of a Slurm that runs on this machine; tests are skipped where its packages are absent."""
    reason = slurm.why_not()
    if reason:
        pytest.skip(reason)
    with slurm.running() as folder:
        yield folder


@pytest.fixture
def real_slurm(slurm_files: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, for the commands of one test, whose jobs end with it."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_files / "slurm.conf"))
    yield slurm_files
    slurm.cancel_all()
