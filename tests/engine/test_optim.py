"""Parameter groups of the manifests and properties of the schedule."""

from __future__ import annotations

import math

import pytest
from torch import nn

from nightcrawler.engine.optim import cosine_with_warmup, param_groups


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
