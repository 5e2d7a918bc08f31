"""Re-estimation of BatchNorm statistics on the target domain.

AdaBN (Li et al., "Revisiting batch normalization for practical domain adaptation", 2016) replaces
a model's running statistics by those of unlabelled target clips. They are computed as population
statistics over all clips ("precise BN", Wu and Johnson, "Rethinking 'batch' in BatchNorm", 2021,
section 3) rather than as a moving average.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nightcrawler.adapt.base import AdaptReport, with_hint
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError, single_value_as_error


def batchnorm_layers(model: nn.Module) -> dict[str, _BatchNorm]:
    """Return the BatchNorm layers that have running statistics, by name."""
    layers = {}
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is not None:
            layers[name] = module
    return layers


def running_statistics(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return a layer's running mean and variance, `[C]`."""
    assert layer.running_mean is not None
    assert layer.running_var is not None
    return layer.running_mean, layer.running_var


class Moments:
    """Sums over batches of one layer's inputs, in float64.

    Attributes:
        count: number of elements a channel, `[1]`.
        first: sum of count x mean, `[C]`.
        second: sum of count x (mean^2 + variance), `[C]`.
    """

    def __init__(self, layer: _BatchNorm) -> None:
        device = running_statistics(layer)[0].device
        # float64: sums of squares over a whole split lose the variance in float32.
        self.count = torch.zeros(1, dtype=torch.float64, device=device)
        self.first = torch.zeros(layer.num_features, dtype=torch.float64, device=device)
        self.second = torch.zeros(layer.num_features, dtype=torch.float64, device=device)

    def observe(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Add a batch of inputs, `[B, C, ...]`, as a forward pre-hook."""
        values = inputs[0]
        # Over batch, time and space: a statistic a channel.
        dims = [dim for dim in range(values.ndim) if dim != 1]
        batch_variance, batch_mean = torch.var_mean(values.detach(), dim=dims, correction=0)
        mean = batch_mean.double()
        variance = batch_variance.double()
        count = values.numel() // values.shape[1]
        self.count += count
        self.first += count * mean
        self.second += count * (mean.square() + variance)

    def reduced(self) -> tuple[Tensor, Tensor]:
        """Return the population mean and biased variance over all ranks, float64 `[C]`."""
        count = distributed.all_reduce_sum(self.count)
        mean = distributed.all_reduce_sum(self.first) / count
        second = distributed.all_reduce_sum(self.second) / count
        # Rounding may leave a constant channel slightly below zero.
        return mean, (second - mean.square()).clamp_min(0)


@contextlib.contextmanager
def _observed(model: nn.Module, layers: dict[str, _BatchNorm]) -> Iterator[dict[str, Moments]]:
    """Collect the moments of the layers' inputs during the block.

    All modules are in eval mode but the layers, which normalise by their batch: later layers see
    inputs normalised to the target domain. Modes and settings are restored at the end.
    """
    modes = {module: module.training for module in model.modules()}
    settings = {layer: (layer.momentum, layer.num_batches_tracked) for layer in layers.values()}
    moments = {}
    hooks = []
    model.eval()
    for name, layer in layers.items():
        moments[name] = Moments(layer)
        hooks.append(layer.register_forward_pre_hook(moments[name].observe))
        layer.train()
        # Running statistics stay as they are until the end.
        layer.momentum = 0.0
        layer.num_batches_tracked = None
    try:
        yield moments
    finally:
        for hook in hooks:
            hook.remove()
        for layer, (momentum, tracked) in settings.items():
            layer.momentum = momentum
            layer.num_batches_tracked = tracked
        for module, training in modes.items():
            module.training = training


class BatchNormAdapter:
    """Adapter that replaces running means and variances by those of unlabelled clips.

    The statistics of each layer are computed with all layers before it normalising by their batch,
    weights fixed, dropout and drop-path off. Batches are weighted by their number of elements and
    combined over ranks.

    Example:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.BatchNorm3d(3))
        >>> report = BatchNormAdapter().run(model, [torch.rand(4, 3, 2, 8, 8)])
        >>> report.num_clips, len(report.layers)
        (4, 1)

    Args:
        blend: share of the new statistics (1 replaces the old ones).
        allow_no_batchnorm: leave a model without BatchNorm as it is, instead of raising an error.
        hint: end of error messages, such as the configuration keys to look at.
    """

    name = "batchnorm"
    changes_weights = False

    def __init__(
        self, blend: float = 1.0, allow_no_batchnorm: bool = False, hint: str = ""
    ) -> None:
        self.blend = blend
        self.allow_no_batchnorm = allow_no_batchnorm
        self.hint = hint

    @torch.no_grad()
    def run(self, model: nn.Module, clips: Iterable[Tensor]) -> AdaptReport:
        """Adapt a model in place.

        Args:
            model: classifier of clips.
            clips: batches `[B, 3, T, H, W]` on the model's device, this rank's share.

        Raises:
            UserError: if there is no BatchNorm and that is not allowed, or there is no clip.
        """
        layers = batchnorm_layers(model)
        if not layers:
            note = (
                f"batchnorm: {type(model).__name__} has no BatchNorm layer, so nothing is adapted"
            )
            if self.allow_no_batchnorm:
                return AdaptReport(self.name, note=note)
            advice = "use the adapter tent or none"
            if not self.hint:
                # A hint names what the user sets in place of the argument.
                advice += ", or set allow_no_batchnorm"
            raise UserError(with_hint(f"{note}: {advice}", self.hint))
        # Outputs are not needed: the hooks of the layers collect the moments.
        num_clips = 0
        with _observed(model, layers) as moments:
            for clip in clips:
                num_clips += len(clip)
                with single_value_as_error("adapt to longer or larger clips"):
                    model(clip)
        # A rank may have no clip at all, others have some.
        device = next(model.parameters()).device
        num_clips = int(distributed.all_reduce_sum(torch.tensor(num_clips, device=device)).item())
        if num_clips == 0:
            raise UserError(
                with_hint("batchnorm: no dark clip to compute statistics from", self.hint)
            )
        report = [self._update(name, layer, moments[name]) for name, layer in layers.items()]
        return AdaptReport(self.name, num_clips=num_clips, layers=report)

    def _update(self, name: str, layer: _BatchNorm, moments: Moments) -> dict[str, float | str]:
        """Blend new statistics into a layer, and return its figures for the report."""
        mean, variance = moments.reduced()
        running_mean, running_var = running_statistics(layer)
        old_mean = running_mean.double()
        old_variance = running_var.double()
        shift = ((mean - old_mean).square() / (old_variance + layer.eps)).mean().sqrt()
        # Geometric mean over channels.
        ratio = ((variance + layer.eps) / (old_variance + layer.eps)).log().mean().exp()
        running_mean.copy_(torch.lerp(old_mean, mean, self.blend))
        running_var.copy_(torch.lerp(old_variance, variance, self.blend))
        return {"name": name, "shift": shift.item(), "var_ratio": ratio.item()}
