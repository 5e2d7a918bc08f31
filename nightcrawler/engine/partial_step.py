"""Share of an optimiser step, for a stream of low weight that has steps of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def partial_step(optimizer: torch.optim.Optimizer, share: float) -> Iterator[None]:
    """Reduce the optimiser step that the block takes to a share of it.

    Parameters and optimiser state end between their values before and after the step: at 0 as
    before, at 1 as after. To scale the loss does not do that. An optimiser that divides by the size
    of gradients (AdamW) takes a whole step for any scale, along the momentum of earlier steps.

    Args:
        optimizer: takes at most one step in the block.
        share: in [0, 1].

    Example:
        >>> with partial_step(optimizer, 0.5):
        ...     optimizer.step()
    """
    if share == 1:
        # Neither copies nor rounding for whole steps.
        yield
        return
    before: list[tuple[nn.Parameter, Tensor, dict[str, Tensor]]] = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            if parameter.grad is not None:
                state = _tensors_of(optimizer, parameter)
                copies = {name: value.clone() for name, value in state.items()}
                before.append((parameter, parameter.detach().clone(), copies))
    yield
    with torch.no_grad():
        for parameter, old, copies in before:
            parameter.copy_(torch.lerp(old, parameter, share))
            for name, value in _tensors_of(optimizer, parameter).items():
                # State that the first step creates starts from 0.
                earlier = copies.get(name, torch.zeros_like(value))
                value.copy_(torch.lerp(earlier, value, share))


def _tensors_of(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    """Return the tensors of a parameter's state: moments, and the count of steps."""
    state = optimizer.state.get(parameter, {})
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}
