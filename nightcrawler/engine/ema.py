"""Exponential moving average (EMA) of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from timm.utils import ModelEmaV3


def averaged_copy(model: nn.Module, decay: float) -> ModelEmaV3:
    """Return an exponential moving average of a model's weights.

    After step t (counted from 0), each parameter and running statistic a of the copy becomes
    d_t a + (1 - d_t) w with the model's value w and d_t = min(decay, 1 - max(t, 1)^(-2/3)).
    So d is 0 at the first two steps, and the initial weights drop out of the average. Integer
    counters are copied. The averaging is that of Polyak and Juditsky (1992), the warm-up of the
    decay is timm's (`ModelEmaV3` with `use_warmup`).

    Args:
        model: the model, before it is wrapped for several ranks.
        decay: final decay, in [0, 1).

    Returns:
        The average: `update(model, step=t)` after a step, `module` is the averaged model.

    Example:
        >>> average = averaged_copy(model, decay=0.999)
        >>> average.update(model, step=0)
        >>> average.module(clips)
    """
    # Imported here: timm takes seconds to load, and most runs keep no average.
    from timm.utils import ModelEmaV3

    # The warm-up keeps the random or pretrained start from dominating short runs.
    return ModelEmaV3(model, decay=decay, use_warmup=True)
