"""BatchNorm running statistics of a step that is made of micro-batches on several ranks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nightcrawler.utils import distributed


class BatchNormSync:
    """One update of BatchNorm's running statistics per optimiser step, equal on every rank.

    Each micro-batch i starts from the statistics s_0 before the step and turns them into
    s_i = (1 - m) s_0 + m b_i, with the momentum m and its own batch statistics b_i (Ioffe and
    Szegedy 2015, section 3.1). The step ends with the mean of s_i over all micro-batches of all
    ranks, so the result does not depend on the number of ranks that share them. A micro-batch that
    lost clips, or of a stream of low weight, weighs less in the mean.

    Args:
        model: its BatchNorm layers in train mode that track running statistics are managed.

    Example:
        >>> sync = BatchNormSync(model)
        >>> for clips in micro_batches:
        ...     model(clips)
        ...     sync.collect()
        >>> sync.sync()
    """

    def __init__(self, model: nn.Module) -> None:
        self._values: list[Tensor] = []
        self._counters: list[Tensor] = []
        for module in model.modules():
            # Those of a frozen backbone stay in evaluation mode.
            if not isinstance(module, _BatchNorm) or not module.training:
                continue
            if module.running_mean is None or module.running_var is None:
                continue
            self._values += [module.running_mean, module.running_var]
            if module.num_batches_tracked is not None:
                self._counters.append(module.num_batches_tracked)
        self._before = [value.clone() for value in (*self._values, *self._counters)]
        self._sums = [torch.zeros_like(value) for value in self._values]
        self._weight: float | Tensor = 0.0

    def collect(self, weight: float | Tensor = 1.0) -> None:
        """Add the statistics after a micro-batch to the sums, then reset the layers.

        Args:
            weight: of the micro-batch in the mean.
        """
        for value, total in zip(self._values, self._sums, strict=True):
            total += value * weight
        self.restore()
        self._weight += weight

    def restore(self) -> None:
        """Reset means, variances and counters to their values before the step."""
        for value, old in zip((*self._values, *self._counters), self._before, strict=True):
            value.copy_(old)

    def sync(self, share: float = 1.0) -> None:
        """Set the statistics to their mean over all micro-batches and ranks, count one batch.

        Args:
            share: part of the way to go to the mean, for a step of which only a share is taken.
        """
        if not self._values:
            return
        # One flat tensor: a single collective instead of one per layer.
        weight = torch.as_tensor(self._weight).to(self._sums[0]).reshape(1)
        flat = torch.cat([weight, *(total.flatten() for total in self._sums)])
        weight, flat = distributed.all_reduce_sum(flat).split([1, len(flat) - 1])
        flat = flat / weight
        sizes = [value.numel() for value in self._values]
        for value, part in zip(self._values, flat.split(sizes), strict=True):
            mean = part.view_as(value)
            value.copy_(mean if share == 1 else torch.lerp(value, mean, share))
        for counter in self._counters:
            counter += 1
