"""Temporal denoising: noise goes, motion stays sharp, neighbours are the video's and come from one decode."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch

from nightcrawler.data.lowlight.enhance.denoise import (
    LEAST_SIGMA,
    DenoisedReader,
    denoise,
    noise_sigma,
    similarity,
)
from nightcrawler.data.video.decode import Decoded, FileReader, FrameCountError, read_frames
from nightcrawler.data.video.probe import StreamInfo
from tests.conftest import MakeClip
from tests.reading import read_file


def noisy(still: np.ndarray, num_frames: int, sigma: float, seed: int = 0) -> np.ndarray:
    """uint8 `[T, H, W, 3]` of a still picture `[H, W, 3]` and independent noise."""
    drawn = still + sigma * np.random.default_rng(seed).standard_normal((num_frames, *still.shape))
    return np.clip(np.rint(drawn), 0, 255).astype(np.uint8)


def ramp(height: int = 40, width: int = 60) -> np.ndarray:
    return np.repeat(
        (20 + np.add.outer(np.arange(height), np.arange(width)) % 60)[..., None], 3, axis=2
    ).astype(float)


@pytest.mark.parametrize("sigma", [1.0, 3.0, 8.0])
def test_the_noise_of_a_ramp_is_estimated(sigma: float) -> None:
    plane = torch.from_numpy(np.add.outer(np.arange(80.0), 0.5 * np.arange(90.0))).float()
    drawn = plane + sigma * torch.randn(80, 90, generator=torch.Generator().manual_seed(0))
    assert noise_sigma(drawn) == pytest.approx(sigma, rel=0.05)
    assert noise_sigma(plane) == LEAST_SIGMA
    assert noise_sigma(plane[:2]) == LEAST_SIGMA


def test_weights_against_loops() -> None:
    lumas = np.random.default_rng(0).integers(0, 12, (3, 6, 7)).astype(float)
    sigma = noise_sigma(torch.from_numpy(lumas[1]).float())
    expected = np.ones((3, 6, 7))
    for frame in (0, 2):
        for y in range(6):
            for x in range(7):
                patch = np.s_[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
                distance = np.mean((lumas[frame][patch] - lumas[1][patch]) ** 2)
                expected[frame, y, x] = np.exp(-max(distance / (2 * sigma**2) - 1, 0))
    assert expected.min() < 0.9
    np.testing.assert_allclose(
        similarity(torch.from_numpy(lumas).float(), 1).numpy(), expected, rtol=1e-4
    )


def error(frames: np.ndarray, still: np.ndarray) -> float:
    """Root mean square distance from the truth, in levels."""
    return float(np.sqrt(np.mean((frames - still) ** 2)))


def test_noise_goes_as_the_window_grows() -> None:
    """A mean of n has 1 / sqrt(n) of the noise; weights that are not all one cost a part of that."""
    still = ramp()
    frames = noisy(still, 9, 4.0)
    before = error(frames[4], still)
    left = [
        error(denoise(frames, range(9), [4], window)[0], still) / before for window in (1, 3, 5, 9)
    ]
    assert left[0] == 1.0
    assert left == sorted(left, reverse=True)
    assert left[1] < 1.25 / 3**0.5
    assert left[2] < 1.25 / 5**0.5


def test_what_moves_does_not_smear() -> None:
    """A square that moves by its own width: a plain mean would leave ghosts of a third of its height."""
    frames = np.full((5, 40, 60, 3), 20, np.uint8)
    for number in range(5):
        frames[number, 15:25, 5 + 10 * number : 15 + 10 * number] = 80
    made = denoise(frames, range(5), range(5), 3)
    assert np.abs(made.astype(int) - frames).max() <= 1
    assert np.abs(frames[1:4].mean(axis=0) - frames[2]).max() > 19


def test_windows_end_with_the_video_and_count_frame_numbers() -> None:
    """Frames 0, 1, 5, 6: in windows of three, 0 and 1 are each other's, 5 and 6 too; levels one apart count in full."""
    frames = np.stack([np.full((8, 8, 3), level, np.uint8) for level in (10, 10, 90, 90)])
    frames[1] += 1
    frames[3] += 1
    for window, expected in ((1, [10, 91]), (3, [10, 90])):
        made = denoise(frames, [0, 1, 5, 6], [0, 6], window)
        weight = np.exp(-max(1 / (2 * LEAST_SIGMA**2) - 1, 0))
        levels = (
            expected
            if window == 1
            else [(10 + 11 * weight) / (1 + weight), (91 + 90 * weight) / (1 + weight)]
        )
        assert [int(frame[0, 0, 0]) for frame in made] == [round(level) for level in levels]


class FakeReader:
    """Reads a video whose frame i has level 8 i; it promises `promised` frames."""

    def __init__(self, num_frames: int, promised: int) -> None:
        self.num_frames, self.promised = num_frames, promised
        self.asked: list[list[int]] = []

    def probe(self, path: str) -> StreamInfo:
        return StreamInfo(self.promised, fps=25.0)

    def decode(self, path: str, indices: Sequence[int], info: StreamInfo) -> Decoded:
        self.asked.append(list(indices))
        if info.num_frames != self.num_frames:
            raise FrameCountError(path, self.num_frames)
        frames = np.stack([np.full((6, 6, 3), 8 * index, np.uint8) for index in indices])
        return Decoded(frames, list(indices), self.num_frames, 25.0)


def test_neighbours_are_asked_for_and_left_out_again() -> None:
    fake = FakeReader(20, 20)
    reader = DenoisedReader(fake, window=5)
    found = read_frames(reader, "x", lambda num_frames: [0, 9, 10, num_frames - 1])
    assert fake.asked == [[0, 1, 2, 7, 8, 9, 10, 11, 12, 17, 18, 19]]
    assert (found.indices, found.num_frames, found.fps) == ([0, 9, 10, 19], 20, 25.0)
    assert found.frames[:, 0, 0, 0].tolist() == [0, 72, 80, 152]


def test_a_second_choice_replaces_the_first() -> None:
    fake = FakeReader(19, 20)
    found = read_frames(DenoisedReader(fake, window=3), "x", lambda num_frames: [num_frames - 1])
    assert fake.asked == [[18, 19], [17, 18]]
    assert (found.indices, len(found.frames)) == ([18], 1)


def test_a_frame_does_not_depend_on_what_else_is_asked_for(
    make_clip: MakeClip, tmp_path: pytest.TempPathFactory
) -> None:
    path = str(make_clip(tmp_path / "a.mp4", 14, (48, 32)))
    reader = DenoisedReader(FileReader(), window=5)
    alone, among = read_frames(reader, path, lambda _: [6]), read_frames(reader, path, range)
    assert (alone.frames[0] == among.frames[6]).all()
    plain = read_file(path, lambda num_frames: range(num_frames))
    assert (among.frames != plain.frames).any()
    assert (denoise(plain.frames, plain.indices, [6], 5)[0] == alone.frames[0]).all()
