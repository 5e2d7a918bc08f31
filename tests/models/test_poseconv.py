"""PoseConv: its size, and what its features keep and leave out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nightcrawler.models.build import create_model
from nightcrawler.models.poseconv import PoseConv, posture, speed


def person(steps: int = 6) -> torch.Tensor:
    points = np.random.default_rng(0).normal(size=(1, 3, steps, 13)).astype(np.float32)
    points[:, 2] = 1
    return torch.from_numpy(points)


def test_it_is_small() -> None:
    model = create_model("poseconv", 11, streams=["joint", "velocity"])
    assert 150_000 < sum(parameter.numel() for parameter in model.parameters()) < 180_000


def test_posture_is_about_the_hips_and_their_way_is_kept() -> None:
    clip = person()
    moved = clip.clone()
    moved[:, 0] += 0.5
    before, after = posture(clip), posture(moved)
    assert before.shape == (1, 30, 6)
    torch.testing.assert_close(after[:, :26], before[:, :26])
    torch.testing.assert_close(after[:, 26], before[:, 26] + 0.5)
    torch.testing.assert_close(after[:, 27:], before[:, 27:])
    np.testing.assert_allclose(before[:, 29], np.ptp(clip[:, 1].numpy(), axis=-1), rtol=1e-6)


def test_speed_is_the_central_difference() -> None:
    values = np.random.default_rng(1).normal(size=(2, 3, 7))
    inner = np.gradient(values, axis=-1)[..., 1:-1]
    np.testing.assert_allclose(speed(torch.from_numpy(values))[..., 1:-1], inner)


def test_streams_choose_features() -> None:
    widths = {"joint": 43, "bone": 26, "velocity": 30}
    for stream, width in widths.items():
        assert PoseConv(5, streams=[stream]).features(person()).shape == (1, width, 6)
    assert PoseConv(5, streams=list(widths)).features(person()).shape == (1, 99, 6)


def test_far_points_are_bounded() -> None:
    clip = person()
    clip[0, 0, 2, 5] = 1e6
    assert PoseConv(5).features(clip).abs().max() == 4


@pytest.mark.parametrize("steps", [1, 2, 5, 48])
def test_clips_of_any_length_are_classified(steps: int) -> None:
    model = create_model("poseconv", 5, streams=["joint", "bone", "velocity"]).eval()
    assert model(person(steps)).shape == (1, 5)
