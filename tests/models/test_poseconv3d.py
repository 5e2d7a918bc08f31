"""Heatmaps of joints against the formula of the paper, and the network behind them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nightcrawler.adapt.batchnorm import BatchNormAdapter, batchnorm_layers
from nightcrawler.models.build import create_model
from nightcrawler.models.poseconv3d import MARGIN, crop_of, heatmaps
from nightcrawler.utils.errors import UserError


def clip_of(steps: int = 3, batch: int = 2) -> torch.Tensor:
    rng = np.random.default_rng(0)
    clip = rng.uniform(-1, 1, (batch, 3, steps, 13))
    clip[:, 2] = rng.integers(0, 2, clip[:, 2].shape)
    clip[:, 2, 0, 0] = 1
    return torch.from_numpy(clip)


def test_heatmaps_are_those_of_the_formula() -> None:
    clip = clip_of()
    found = heatmaps(clip, size=12, sigma=0.8).numpy()
    assert found.shape == (2, 13, 3, 12, 12)
    for number, one in enumerate(clip.numpy()):
        seen = one[2] > 0
        low = np.array([one[axis][seen].min() for axis in (0, 1)])
        high = np.array([one[axis][seen].max() for axis in (0, 1)])
        corner, side = (low + high) / 2, MARGIN * (high - low).max()
        for joint, step in [(0, 0), (5, 1), (12, 2)]:
            # Cell i covers [i, i + 1] of 12 equal parts of the side.
            x, y = ((one[:2, step, joint] - corner) / side + 0.5) * 12 - 0.5
            rows, columns = np.mgrid[:12, :12]
            expected = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 0.8**2))
            expected = expected * one[2, step, joint]
            np.testing.assert_allclose(found[number, joint, step], expected, atol=1e-12)


def test_the_crop_holds_all_joints_that_are_seen_and_no_other() -> None:
    clip = clip_of()
    clip[0, :, 1, 4] = torch.tensor([50.0, 50.0, 0.0])
    centre, side = crop_of(clip)
    for number in range(2):
        seen = clip[number, 2] > 0
        offsets = (clip[number, :2][:, seen] - centre[number][:, None]).abs().amax()
        assert float(offsets) == pytest.approx(float(side[number]) / 2 / MARGIN)
    clip[:, 2] = 0
    centre, side = crop_of(clip)
    assert (centre == 0).all()
    assert not heatmaps(clip).any()


def test_place_and_size_of_the_whole_clip_do_not_matter() -> None:
    clip = clip_of()
    moved = clip.clone()
    moved[:, :2] = 3 * moved[:, :2] + 7
    torch.testing.assert_close(heatmaps(moved), heatmaps(clip))


def test_its_statistics_are_adapted_and_it_learns() -> None:
    torch.manual_seed(0)
    model = create_model("poseconv3d", 3, width=4)
    clips = clip_of(4, 6).float()
    before = model.network.s1.pathway0_stem.bn.running_mean.clone()
    report = BatchNormAdapter().run(model, [clips])
    assert report.num_clips == 6
    assert len(report.layers) == len(batchnorm_layers(model)) > 20
    assert not torch.equal(model.network.s1.pathway0_stem.bn.running_mean, before)
    model.train()(clips).square().sum().backward()
    gradient = model.network.s1.pathway0_stem.conv.weight.grad
    assert gradient.shape[1] == 13
    assert gradient.abs().sum() > 0


def test_only_joints_have_heatmaps() -> None:
    with pytest.raises(UserError, match=r"streams \['joint', 'bone'\]: heatmaps are of joints"):
        create_model("poseconv3d", 3, width=4, streams=["joint", "bone"])
