"""Entropy minimisation on the scale and shift of norm layers (TENT, Wang et al. 2021, section 3).

For models without BatchNorm too: LayerNorm's scale and shift are learned in the same way. Where there is BatchNorm, its
statistics are re-estimated first and kept during the steps. Weights change, so a trainer goes on from those it had.

It is off by default, for it has not helped: the demo's four models after adaptation, one seed, 330 labelled synthetic
dark clips (labels for this measurement alone), top-1 without and with steps of 1e-3: MViT 40.9 and 39.7 %, UniFormer
63.3 and 63.6 %, 58.2 and 60.0 %, SlowFast 66.1 and 67.0 %. All differences are within the 95 % interval of 5 points.
Steps of 1e-2 make MViT and SlowFast collapse, which the reset rule undoes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

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


def effective_classes(model: nn.Module, clips: Iterable[Tensor]) -> tuple[float, int]:
    """Effective number of classes that a model predicts of all ranks' clips, and the number of clips.

    It is exp(entropy) of the mean prediction: K where every class comes equally often, 1 where only one does.
    """
    total, num_clips = 0.0, 0
    with torch.no_grad():
        for clip in clips:
            total = total + model(clip).float().softmax(dim=-1).sum(dim=0).double().cpu()
            num_clips += len(clip)
    parts = [
        (part, count) for part, count in distributed.gather_objects((total, num_clips)) if count
    ]
    if not parts:
        return 0.0, 0
    num_clips = sum(count for _, count in parts)
    mean = sum(part for part, _ in parts) / num_clips
    return torch.special.entr(mean).sum().exp().item(), num_clips


def in_turn(clips: Iterator[Tensor]) -> Iterator[Tensor | None]:
    """The batches of all ranks, one after the other in the order of a single process; another rank's are `None`."""
    while True:
        clip = next(clips, None)
        there = distributed.gather_objects(clip is not None)
        if not any(there):
            return
        for rank, has_one in enumerate(there):
            if has_one:
                yield clip if rank == distributed.rank() else None


@contextlib.contextmanager
def _only(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Eval mode, and gradients for these parameters alone."""
    wanted, training = {id(parameter) for parameter in parameters}, model.training
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in wanted]
    model.eval()
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
        model.train(training)
        model.zero_grad(set_to_none=True)


class TentAdapter:
    """Makes a model surer of unlabelled clips by gradient steps on its norm layers' scales and shifts.

    A step per batch, by plain gradient descent with momentum. Ranks take turns, so that their number does not change
    the steps; loading, and the passes before and after, are shared. The reset rule: everything is put back where
    predictions are not finite afterwards, or have collapsed to few classes: their effective number has fallen below
    `min_classes` of what it was.

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
        """Adapt `model` in place, in eval mode; `clips` are gone through three times, four with BatchNorm.

        Raises:
            UserError: if the model has no norm layer with a scale, or no clip came.
        """
        parameters = affine_parameters(model)
        if not parameters:
            raise UserError(
                f"tent: {type(model).__name__} has no norm layer with scale and shift; set ADAPT.NAME none"
            )
        if batchnorm_layers(model):
            self.statistics.run(model, clips)
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        with _only(model, list(parameters.values())):
            first, num_clips = effective_classes(model, clips)
            if num_clips == 0:
                raise UserError("tent: no dark clip to adapt to: is ADAPT.SPLIT's list empty?")
            self._descend(model, list(parameters.values()), iter(clips))
            last, _ = effective_classes(model, clips)
        if not last >= self.min_classes * first:
            self._restore(parameters, before)
            note = f"tent: put back: {first:.1f} effective classes became {last:.1f} of {num_clips} dark clips"
            return AdaptReport(self.name, num_clips=num_clips, note=note)
        moved = [
            self._moved(name, parameter, before[name]) for name, parameter in parameters.items()
        ]
        return AdaptReport(self.name, num_clips=num_clips, layers=moved, unit="of its size")

    def _descend(
        self, model: nn.Module, parameters: Sequence[nn.Parameter], clips: Iterator[Tensor]
    ) -> None:
        """A step on each batch, alike on all ranks."""
        optimizer = torch.optim.SGD(parameters, lr=self.lr, momentum=0.9)
        for clip in in_turn(clips):
            optimizer.zero_grad(set_to_none=True)
            if clip is not None:
                with torch.enable_grad():
                    entropy(model(clip).float()).mean().backward()
            for parameter in parameters:
                grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = distributed.all_reduce_sum(grad)
            optimizer.step()

    @staticmethod
    def _restore(parameters: Mapping[str, nn.Parameter], before: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(before[name])

    @staticmethod
    def _moved(name: str, parameter: nn.Parameter, before: Tensor) -> dict[str, float | str]:
        shift = (parameter.detach() - before).double().square().mean().sqrt()
        scale = before.double().square().mean().sqrt().clamp_min(1e-6)
        return {"name": name, "shift": (shift / scale).item()}
