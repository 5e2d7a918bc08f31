"""A moving average of the weights, kept beside them."""

from __future__ import annotations

from torch import nn


def averaged_copy(model: nn.Module, decay: float) -> nn.Module:
    """A copy of a model that follows it: `copy.update(model, step)` after a step, the averaged model is `copy.module`.

    Parameters and running statistics are averaged, counters are copied. The decay rises from 0 at the first two steps
    to `decay`, by 1 - step^(-2/3), steps counted from 0: what training starts from does not weigh on the average.

    Args:
        model: the model, before it is wrapped for several ranks.
        decay: share of the average that a step keeps in the end, below 1.
    """
    from timm.utils import ModelEmaV3

    return ModelEmaV3(model, decay=decay, use_warmup=True)
