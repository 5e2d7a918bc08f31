"""Shares of optimiser steps: nothing at 0, everything at 1, between them in between."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from nightcrawler.engine.partial_step import partial_step

OPTIMIZERS: list[Callable[..., torch.optim.Optimizer]] = [
    lambda parameters: torch.optim.AdamW(parameters, lr=0.1, weight_decay=0.3),
    lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
]


def taken(make: Callable[..., torch.optim.Optimizer], shares: list[float]) -> dict[str, Any]:
    """Weights and optimiser state after a step for each share, on the same gradients."""
    generator = torch.Generator().manual_seed(1)
    weight = torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    optimizer = make([weight])
    for share in shares:
        weight.grad = torch.randn(5, generator=generator, dtype=torch.float64)
        with partial_step(optimizer, share):
            optimizer.step()
    state = copy.deepcopy(optimizer.state_dict()["state"][0])
    return {"weight": weight.detach().clone(), **{k: v for k, v in state.items() if v is not None}}


@pytest.mark.parametrize("make", OPTIMIZERS)
@pytest.mark.parametrize("before", [[], [1.0, 1.0]])
def test_a_share_lies_between_no_step_and_a_whole_one(
    make: Callable[..., torch.optim.Optimizer], before: list[float]
) -> None:
    none, part, whole = (taken(make, [*before, share]) for share in (0.0, 0.25, 1.0))
    for name, value in whole.items():
        torch.testing.assert_close(part[name], 0.75 * none[name] + 0.25 * value)
    assert none["weight"].tolist() == taken(make, [*before, 0.0, 0.0])["weight"].tolist()
    if before:
        without = taken(make, before)
        assert all(torch.equal(none[name], value) for name, value in without.items())


def test_steps_of_almost_no_weight_leave_adam_as_it_was() -> None:
    """The case of the reading: between labelled steps, steps of weight 0 moved it 46 % further."""

    def movement(between: float | None) -> float:
        weight = torch.nn.Parameter(torch.ones(1000))
        optimizer = torch.optim.AdamW([weight], lr=1e-3, weight_decay=0.03)
        generator = torch.Generator().manual_seed(1)
        for _ in range(50):
            weight.grad = torch.randn(1000, generator=generator) + 0.5
            optimizer.step()
            if between is not None:
                weight.grad = torch.randn(1000, generator=torch.Generator().manual_seed(2))
                with partial_step(optimizer, between):
                    optimizer.step()
        return float((1 - weight).mean().detach())

    alone = movement(None)
    assert movement(0.0) == alone
    assert movement(1e-6) == pytest.approx(alone, rel=1e-4)
