"""Multiply-adds, against figures worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nightcrawler.models.flops import count_gmacs
from tests import tiny


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(100, 2)
    )


class Attention(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_convolutions_linear_layers_and_attention() -> None:
    assert count_gmacs(net(), (2, 3, 5, 5)) * 1e9 == pytest.approx(2 * (25 * 27 * 4 + 100 * 2))
    # Every token with every token, twice: scores, then the weighted sum. Batch 2, 3 heads, 7 tokens, 8 channels.
    assert count_gmacs(Attention(), (2, 3, 7, 8)) * 1e9 == pytest.approx(2 * 2 * 3 * 7 * 7 * 8)


@pytest.mark.parametrize("training", [True, False])
def test_counting_does_not_change_the_model_nor_draw(training: bool) -> None:
    model = net().train(training)
    before, generator = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    count_gmacs(model, (2, 3, 5, 5))
    assert tiny.differences(before, dict(model.state_dict())) == []
    assert not any(
        isinstance(value, torch._subclasses.FakeTensor) for value in model.state_dict().values()
    )
    assert model.training == training
    assert torch.equal(torch.get_rng_state(), generator)
