"""BatchNorm statistics of the dark domain (AdaBN, Li et al. 2016; precise BN, Wu and Johnson 2021, section 3)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nightcrawler.adapt.base import AdaptReport
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError


def batchnorm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """Layers whose running statistics can be re-estimated, by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    }


class _Moments:
    """float64 sums over batches of one layer's inputs: count, count x mean, count x (mean^2 + variance)."""

    def __init__(self, layer: _BatchNorm) -> None:
        zeros = torch.zeros(
            layer.num_features, dtype=torch.float64, device=layer.running_mean.device
        )
        self.count = torch.zeros(1, dtype=torch.float64, device=zeros.device)
        self.first, self.second = zeros.clone(), zeros.clone()

    def add(self, values: Tensor) -> None:
        """Count in one batch, `[B, C, ...]`."""
        dims = [dim for dim in range(values.ndim) if dim != 1]
        variance, mean = torch.var_mean(values.detach(), dim=dims, correction=0)
        mean, variance = mean.double(), variance.double()
        count = values.numel() // values.shape[1]
        self.count += count
        self.first += count * mean
        self.second += count * (mean.square() + variance)

    def reduced(self) -> tuple[Tensor, Tensor]:
        """Population mean and biased variance over every rank's batches, float64 `[C]`."""
        count, first, second = (
            distributed.all_reduce_sum(value) for value in (self.count, self.first, self.second)
        )
        mean = first / count
        return mean, (second / count - mean.square()).clamp_min(0)


@contextlib.contextmanager
def _observed(model: nn.Module, layers: dict[str, _BatchNorm]) -> Iterator[dict[str, _Moments]]:
    """Everything in eval mode but BatchNorm, which normalises by its batch; its inputs are counted."""
    modes = {module: module.training for module in model.modules()}
    kept = {layer: (layer.momentum, layer.num_batches_tracked) for layer in layers.values()}
    moments = {name: _Moments(layer) for name, layer in layers.items()}
    hooks = [
        layer.register_forward_pre_hook(lambda _, inputs, seen=moments[name]: seen.add(inputs[0]))
        for name, layer in layers.items()
    ]
    model.eval()
    for layer in layers.values():
        layer.train()
        layer.momentum = 0.0
        layer.num_batches_tracked = None
    try:
        yield moments
    finally:
        for hook in hooks:
            hook.remove()
        for layer, (momentum, tracked) in kept.items():
            layer.momentum, layer.num_batches_tracked = momentum, tracked
        for module, training in modes.items():
            module.training = training


class BatchNormAdapter:
    """Replaces running means and variances by population statistics of unlabelled clips.

    Each layer's statistics are taken with the layers before it normalising by their batch, weights fixed, dropout
    and drop-path off; batches are weighted by their number of elements and combined over ranks.

    Args:
        blend: share of the new statistics (1 replaces the old ones).
        allow_no_batchnorm: a model without BatchNorm is left alone with a note; otherwise it is an error.
    """

    name = "batchnorm"
    changes_weights = False

    def __init__(self, blend: float = 1.0, allow_no_batchnorm: bool = False) -> None:
        self.blend = blend
        self.allow_no_batchnorm = allow_no_batchnorm

    @torch.no_grad()
    def run(self, model: nn.Module, clips: Iterable[Tensor]) -> AdaptReport:
        """Adapt `model` in place.

        Raises:
            UserError: if there is no BatchNorm and that was not allowed, or no clip came.
        """
        layers = batchnorm_layers(model)
        if not layers:
            name = type(model).__name__
            note = f"batchnorm: {name} has no BatchNorm layer: nothing is adapted (ADAPT.NAME tent would)"
            if self.allow_no_batchnorm:
                return AdaptReport(self.name, note=note)
            raise UserError(f"{note}; set ADAPT.ALLOW_NO_BATCHNORM True, or ADAPT.NAME none")
        num_clips = 0
        with _observed(model, layers) as moments:
            for clip in clips:
                num_clips += len(clip)
                model(clip)
        device = next(model.parameters()).device
        num_clips = int(distributed.all_reduce_sum(torch.tensor(num_clips, device=device)).item())
        if num_clips == 0:
            raise UserError(
                "batchnorm: no dark clip to take statistics from: is ADAPT.SPLIT's list empty?"
            )
        report = [self._update(name, layer, moments[name]) for name, layer in layers.items()]
        return AdaptReport(self.name, num_clips=num_clips, layers=report)

    def _update(self, name: str, layer: _BatchNorm, moments: _Moments) -> dict[str, float | str]:
        mean, variance = moments.reduced()
        old_mean, old_variance = layer.running_mean.double(), layer.running_var.double()
        shift = ((mean - old_mean).square() / (old_variance + layer.eps)).mean().sqrt()
        ratio = ((variance + layer.eps) / (old_variance + layer.eps)).log().mean().exp()
        layer.running_mean.copy_(torch.lerp(old_mean, mean, self.blend))
        layer.running_var.copy_(torch.lerp(old_variance, variance, self.blend))
        return {"name": name, "shift": shift.item(), "var_ratio": ratio.item()}
