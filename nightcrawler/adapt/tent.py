"""Entropy minimisation on the scale and shift of norm layers (TENT, Wang et al. 2021, section 3).

For models without BatchNorm too: LayerNorm's scale and shift are learned in the same way. Where there is BatchNorm, its
statistics are re-estimated first and kept during the steps. Weights change, so a trainer goes on from those it had.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nightcrawler.adapt.base import AdaptReport
from nightcrawler.adapt.batchnorm import BatchNormAdapter, batchnorm_layers
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError


def affine_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Scales and shifts of all norm layers (batch, layer, group), by name."""
    kinds = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
    return {
        f"{module_name}.{name}": parameter
        for module_name, module in model.named_modules()
        if isinstance(module, kinds)
        for name, parameter in module.named_parameters(recurse=False)
    }


def entropy(logits: Tensor) -> Tensor:
    """Shannon entropy of each row's softmax, in nats; `[B, K]` to `[B]`."""
    log_probs = logits.log_softmax(dim=-1)
    return -(log_probs.exp() * log_probs).sum(dim=-1)


class TentAdapter:
    """Makes a model surer of unlabelled clips by gradient steps on its norm layers' scales and shifts.

    A step per batch, by plain gradient descent with momentum. The reset rule: everything is put back where a step is
    not finite, or predictions collapse to few classes: their effective number, the exponential of the mean
    prediction's entropy, falls below `min_classes` of what it was.

    Args:
        lr: step size.
        statistics: re-estimates BatchNorm statistics before the steps.
        min_classes: share of the effective number of predicted classes that must remain, 0 to 1.
    """

    name = "tent"
    changes_weights = True

    def __init__(self, lr: float, statistics: BatchNormAdapter, min_classes: float = 0.5) -> None:
        self.lr, self.statistics, self.min_classes = lr, statistics, min_classes

    def run(self, model: nn.Module, clips: Iterable[Tensor]) -> AdaptReport:
        """Adapt `model` in place, in eval mode; `clips` are gone through twice.

        Raises:
            UserError: if the model has no norm layer with a scale, or no clip came.
        """
        parameters = affine_parameters(model)
        if not parameters:
            raise UserError(f"tent: {type(model).__name__} has no norm layer with scale and shift; set ADAPT.NAME none")
        if batchnorm_layers(model):
            self.statistics.run(model, clips)
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        wanted = {id(parameter) for parameter in parameters.values()}
        frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in wanted]
        training = model.training
        model.eval()
        for parameter in frozen:
            parameter.requires_grad_(False)
        try:
            first, last, num_clips = self._descend(model, list(parameters.values()), iter(clips))
        finally:
            for parameter in frozen:
                parameter.requires_grad_(True)
            model.train(training)
            model.zero_grad(set_to_none=True)
        if num_clips == 0:
            raise UserError("tent: no dark clip to adapt to: is ADAPT.SPLIT's list empty?")
        if not last >= self.min_classes * first:
            self._restore(parameters, before)
            note = f"tent: put back: {first:.1f} effective classes became {last:.1f} of {num_clips} dark clips"
            return AdaptReport(self.name, num_clips=num_clips, note=note)
        moved = [self._moved(name, parameter, before[name]) for name, parameter in parameters.items()]
        return AdaptReport(self.name, num_clips=num_clips, layers=moved, unit="of its size")

    def _descend(
        self, model: nn.Module, parameters: list[nn.Parameter], clips: Iterator[Tensor]
    ) -> tuple[float, float, int]:
        """Effective numbers of classes over the first and the second half of the batches, and clips seen."""
        optimizer = torch.optim.SGD(parameters, lr=self.lr, momentum=0.9)
        device = parameters[0].device
        sums: list[Tensor] = []
        num_clips = 0
        while True:
            clip = next(clips, None)
            if not distributed.any_rank(clip is not None, device):
                break
            count = 0 if clip is None else len(clip)
            mean_probs, total = self._step(model, optimizer, parameters, clip, count)
            num_clips += total
            sums.append(mean_probs * total)
        if not sums:
            return math.nan, math.nan, 0
        half = max(len(sums) // 2, 1)
        return _effective(torch.stack(sums[:half])), _effective(torch.stack(sums[-half:])), num_clips

    def _step(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        clip: Tensor | None,
        count: int,
    ) -> tuple[Tensor, int]:
        """One step on all ranks' batches together; the mean prediction `[K]` and the number of clips."""
        optimizer.zero_grad(set_to_none=True)
        probs: Tensor | None = None
        if clip is not None:
            with torch.enable_grad():
                logits = model(clip).float()
                entropy(logits).sum().backward()
            probs = logits.detach().softmax(dim=-1).sum(dim=0).double()
        total = int(distributed.all_reduce_sum(torch.tensor(count, device=parameters[0].device)).item())
        for parameter in parameters:
            grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = distributed.all_reduce_sum(grad) / total
        optimizer.step()
        return _over_ranks(probs, parameters[0].device) / total, total

    @staticmethod
    def _restore(parameters: dict[str, nn.Parameter], before: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(before[name])

    @staticmethod
    def _moved(name: str, parameter: nn.Parameter, before: Tensor) -> dict[str, float | str]:
        shift = (parameter.detach() - before).double().square().mean().sqrt()
        scale = before.double().square().mean().sqrt().clamp_min(1e-6)
        return {"name": name, "shift": (shift / scale).item()}


def _over_ranks(probs: Tensor | None, device: torch.device) -> Tensor:
    """The sum of what ranks have; a rank without a batch gives nothing."""
    parts = [part for part in distributed.gather_objects(None if probs is None else probs.tolist()) if part is not None]
    return torch.tensor(parts, dtype=torch.float64, device=device).sum(dim=0)


def _effective(sums: Tensor) -> float:
    """exp(entropy) of the mean prediction over batches `[n, K]`: how many classes are predicted, NaN if not finite."""
    mean = sums.sum(dim=0) / sums.sum()
    return torch.exp(-(mean * mean.clamp_min(1e-12).log()).sum()).item()
