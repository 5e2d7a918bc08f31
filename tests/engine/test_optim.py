"""Parameter groups of the manifests and properties of the schedule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from nightcrawler.engine.optim import cosine_with_warmup, param_groups, separate_gradients


def test_groups_of_a_small_model() -> None:
    model = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.LayerNorm(4), nn.Linear(4, 2))
    three = param_groups(model, 0.03, 0.0, zero_wd_1d=True)
    assert [(len(g["params"]), g["weight_decay"]) for g in three] == [(2, 0.0), (2, 0.03), (4, 0.0)]
    two = param_groups(model, 1e-4, 0.0, zero_wd_1d=False)
    assert [(len(g["params"]), g["weight_decay"]) for g in two] == [(2, 0.0), (6, 1e-4)]
    model[0].weight.requires_grad_(False)
    assert len(param_groups(model, 0.03, 0.0, zero_wd_1d=True)[1]["params"]) == 1


@pytest.mark.parametrize("after", [True, False])
@pytest.mark.parametrize("warmup", [0.0, 2.5, 10.0])
def test_schedule_against_the_formula_written_out(after: bool, warmup: float) -> None:
    base, end, start, epochs = 1e-3, 1e-5, 1e-6, 10.0
    schedule = cosine_with_warmup(base, end, start, warmup, epochs, after)

    def cosine(epoch: float) -> float:
        offset = warmup if after else 0.0
        span = max(epochs - offset, 1e-12)
        return end + (base - end) * (1 + math.cos(math.pi * (epoch - offset) / span)) / 2

    def expected(epoch: float) -> float:
        if epoch >= warmup:
            return cosine(epoch)
        return start + (cosine(warmup) - start) * epoch / warmup

    for tenth in range(0, 100, 7):
        epoch = tenth / 10
        assert schedule(epoch / epochs) == pytest.approx(expected(epoch), rel=1e-9)


@pytest.mark.parametrize("after", [True, False])
def test_a_warm_up_longer_than_training_does_not_reach_its_end(after: bool) -> None:
    """Train a quarter of a warm-up to 1e-3 (or to the cosine's end, 1e-5): 10 of 40 epochs."""
    schedule = cosine_with_warmup(1e-3, 1e-5, 1e-6, 40, 10, after)
    for part in (0.0, 0.5, 1.0):
        rise = (1e-3 if after else 1e-5) - 1e-6
        assert schedule(part) == pytest.approx(1e-6 + rise * part / 4, rel=1e-9)


def test_gradients_that_share_memory_are_separated() -> None:
    """Two batches of one clip: a class token before two patches, and the place of each added."""
    token, first, rest = (nn.Parameter(torch.zeros(1, count, 4)) for count in (1, 1, 2))
    weight = torch.arange(12.0).view(1, 3, 4)
    for _ in range(2):
        tokens = torch.cat([token.expand(1, -1, -1), torch.ones(1, 2, 4)], dim=1) + torch.cat(
            [first, rest], dim=1
        )
        (tokens * weight).sum().backward()
        separate_gradients([token, first, rest])
    for parameter, expected in (
        (token, weight[:, :1]),
        (first, weight[:, :1]),
        (rest, weight[:, 1:]),
    ):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, 2 * expected)


def test_gradients_that_lie_side_by_side_stay_where_they_are() -> None:
    """As in the buckets that ranks exchange."""
    bucket, parameters = torch.arange(6.0), [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    for number, parameter in enumerate(parameters):
        parameter.grad = bucket[2 * number : 2 * number + 2]
    separate_gradients([*reversed(parameters), nn.Parameter(torch.zeros(1))])
    bucket.mul_(10)
    assert [parameter.grad.tolist() for parameter in parameters] == [[0, 10], [20, 30], [40, 50]]
