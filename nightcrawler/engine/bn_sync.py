"""BatchNorm's running statistics over a step that is made of micro-batches on several ranks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nightcrawler.utils import distributed


class RunningStatistics:
    """One update of running means and variances a step, by the mean over all its micro-batches.

    Every micro-batch starts from the statistics before the step; `settle` gives every rank the mean of what they
    became. So the statistics do not depend on how micro-batches are spread over ranks, and ranks agree at any moment.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [
            m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None
        ]
        self._values: list[Tensor] = [
            value for m in layers for value in (m.running_mean, m.running_var)
        ]
        self._counters: list[Tensor] = [
            m.num_batches_tracked for m in layers if m.num_batches_tracked is not None
        ]
        self._before = [value.clone() for value in (*self._values, *self._counters)]
        self._sums = [torch.zeros_like(value) for value in self._values]
        self._collected = 0

    def collect(self) -> None:
        """Take what a micro-batch made of the statistics, and put them back for the next."""
        for value, total in zip(self._values, self._sums, strict=True):
            total += value
        self.restore()
        self._collected += 1

    def restore(self) -> None:
        """Put everything back as it was before the step."""
        for value, old in zip((*self._values, *self._counters), self._before, strict=True):
            value.copy_(old)

    def settle(self) -> None:
        """Set the statistics to the mean over all ranks' micro-batches; the layers count one batch more."""
        if not self._values:
            return
        flat = torch.cat([total.flatten() for total in self._sums])
        flat = distributed.all_reduce_sum(flat) / (self._collected * distributed.world_size())
        for value, part in zip(
            self._values, flat.split([value.numel() for value in self._values]), strict=True
        ):
            value.copy_(part.view_as(value))
        for counter in self._counters:
            counter += 1
