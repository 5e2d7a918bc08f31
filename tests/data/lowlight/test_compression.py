"""Compression in memory: repeatable to the byte, unbiased, and what an H.264 recorder does to noise."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nightcrawler.data.lowlight.camera import PRESETS, darken, sample_camera
from nightcrawler.data.lowlight.compression import (
    Compression,
    compress,
    encode,
    recording_format,
)
from nightcrawler.synthetic.scene import render_clip
from nightcrawler.synthetic.video import write_video
from tests.data.lowlight.test_camera import street
from tests.paths import shared


def night(height: int, width: int, length: int = 20, seed: int = 0) -> np.ndarray:
    """A person who walks in the dark, uint8 `[T, H, W, 3]`."""
    rng = np.random.default_rng(seed)
    frames = render_clip(rng, "Walk", length, 20, height, width)
    return darken(frames, sample_camera(rng, PRESETS["darker"]), rng)


def dirty_memory(rng: np.random.Generator) -> None:
    """Leave freed blocks behind that hold anything."""
    blocks = [
        np.full(int(size), int(rng.integers(256)), np.uint8)
        for size in rng.integers(1000, 300_000, 10)
    ]
    del blocks


@pytest.mark.parametrize("size", [(48, 64), (64, 48), (84, 112), (112, 84), (240, 320)])
def test_ten_runs_give_the_same_bytes(size: tuple[int, int]) -> None:
    """Encoders that look ahead read what they never wrote: `dirty_memory` shows it at most sizes."""
    frames = night(*size, length=40)
    rng = np.random.default_rng()
    found = set()
    for _ in range(10):
        dirty_memory(rng)
        decoded, bits = compress(frames, Compression(crf=24))
        found.add((decoded.tobytes(), bits))
    assert len(found) == 1


def test_another_process_gives_the_same_bytes() -> None:
    code = (
        "import zlib; from tests.data.lowlight.test_compression import *;"
        "print(zlib.crc32(compress(night(84, 112), Compression(24.5))[0]))"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        for _ in range(2)
    ]
    assert runs[0] == runs[1]


def test_brightness_is_kept() -> None:
    """Video range has 219 levels for 255 codes: a level may be rounded to its neighbour, either one."""
    errors = []
    for level in range(0, 60, 4):
        frames = np.full((2, 32, 32, 3), level, np.uint8)
        decoded, _ = compress(frames, Compression(crf=18))
        assert np.abs(decoded.astype(float) - level).max() <= 1
        errors.append(decoded.mean() - level)
    assert abs(np.mean(errors)) < 0.2


def test_a_higher_rate_factor_takes_bits_and_noise() -> None:
    frames = night(84, 112)
    noises, rates = [], []
    for crf in (10, 20, 30, 40):
        decoded, bits = compress(frames, Compression(crf))
        rates.append(bits)
        noises.append(np.diff(decoded.astype(float), axis=0).std())
    assert noises == sorted(noises, reverse=True)
    assert rates == sorted(rates, reverse=True)
    assert noises[0] > 10 * noises[-1]


def test_odd_rows_and_columns_are_left_out_and_sizes_are_scaled() -> None:
    frames = street(0, 3, 36, 48)[:, :35, :47]
    assert compress(frames, Compression(20))[0].shape == (3, 34, 46, 3)
    assert compress(frames, Compression(20), short_side=17)[0].shape == (3, 17, 23, 3)
    assert compress(frames[:1], Compression(20))[0].shape == (1, 34, 46, 3)


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (2, 2), (16, 3)])
def test_tiny_pictures_are_encoded(size: tuple[int, int]) -> None:
    height, width = (max(side - side % 2, 2) for side in size)
    frames = np.full((3, *size, 3), 40, np.uint8)
    assert compress(frames, Compression(20))[0].shape == (3, height, width, 3)


def test_keyframes_and_order_are_those_asked_for() -> None:
    packets = encode(night(48, 64), Compression(24, keyint=8, b_frames=0))
    assert [packet.is_keyframe for packet in packets] == [number % 8 == 0 for number in range(20)]
    assert [packet.pts for packet in packets] == list(range(20))
    packets = encode(night(48, 64), Compression(24, b_frames=3))
    assert sum(packet.is_keyframe for packet in packets) == 1
    assert sorted(packet.pts for packet in packets) == list(range(20))
    assert [packet.pts for packet in packets[:3]] == [0, 4, 2]


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".avi", "mpeg4")])
def test_the_format_of_a_file_is_read(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"clip{suffix}"
    write_video(path, night(48, 64), 20)
    found = recording_format(str(path))
    assert (found.codec, found.width, found.height) == (codec, 64, 48)
    # All but the first frame are at least nothing, and at most the file.
    assert 0 < found.bits_per_pixel < 8 * path.stat().st_size / (19 * 64 * 48)


def test_real_recordings_tell_keyframes_and_order() -> None:
    folder = shared() / "clips/arid"
    found = recording_format(str(folder / "Jump/Jump_11_1.mp4"))
    assert (found.codec, found.keyint, found.b_frames) == ("h264", 0, True)
    assert found.bits_per_pixel == pytest.approx(0.0808, abs=1e-4)
    # 53 frames with keyframes at 0 and 30.
    assert recording_format(str(folder / "Jump/Jump_8_4.mp4")).keyint == 27
