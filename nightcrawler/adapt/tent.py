"""TENT: entropy minimisation on the scales and shifts of norm layers.

Wang et al., "Tent: fully test-time adaptation by entropy minimization", ICLR 2021, section 3. Here
LayerNorm and GroupNorm are adapted as well, so that models without BatchNorm are covered. If there
is BatchNorm, its statistics are re-estimated first and kept during the steps. Weights change, so a
trainer goes on from those it had before.

TENT is off by default because it has not helped. Top-1 of the demo's four models without and with
steps of 1e-3 (one seed, 330 synthetic dark clips whose labels were used for this measurement
alone): MViT 40.9 and 39.7 %, UniFormer 63.3 and 63.6 %, 58.2 and 60.0 %, SlowFast 66.1 and 67.0 %.
All differences are within the 95 % interval of 5 points. Steps of 1e-2 make MViT and SlowFast
collapse, which the reset rule undoes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nightcrawler.adapt.base import AdaptReport, with_hint
from nightcrawler.adapt.batchnorm import BatchNormAdapter, batchnorm_layers
from nightcrawler.utils import distributed
from nightcrawler.utils.errors import UserError

# Layers whose scale and shift are adapted.
NORM_LAYERS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
# As the paper uses for ImageNet.
MOMENTUM = 0.9


def affine_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the scales and shifts of all norm layers (batch, layer, group), by name."""
    parameters = {}
    for module_name, module in model.named_modules():
        if isinstance(module, NORM_LAYERS):
            for name, parameter in module.named_parameters(recurse=False):
                parameters[f"{module_name}.{name}"] = parameter
    return parameters


def entropy(logits: Tensor) -> Tensor:
    """Return the Shannon entropy of each row's softmax, in nats.

    Args:
        logits: `[B, K]`.

    Returns:
        `[B]`.
    """
    log_probs = logits.log_softmax(dim=-1)
    return -(log_probs.exp() * log_probs).sum(dim=-1)


def logits_of(model: nn.Module, clip: Tensor) -> Tensor:
    """Return a model's logits `[B, K]` in float32, or float64 if they are."""
    logits = model(clip)
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def probabilities(logits: Tensor) -> Tensor:
    """Return the softmax of each row, `[B, K]`."""
    return logits.softmax(dim=-1)


@torch.no_grad()
def mean_over_clips(
    model: nn.Module, clips: Iterable[Tensor], figures: Callable[[Tensor], Tensor]
) -> tuple[Tensor, int]:
    """Return the mean of figures of the predictions, and the number of clips, of all ranks.

    Args:
        model: classifier in eval mode.
        clips: batches `[B, 3, T, H, W]`, this rank's share.
        figures: function from logits `[B, K]` to figures `[B, F]`.

    Returns:
        Means float64 `[F]` on the CPU, empty if there is no clip, and the number of clips.
    """
    total: float | Tensor = 0.0
    num_clips = 0
    for clip in clips:
        total = total + figures(logits_of(model, clip)).sum(dim=0).double().cpu()
        num_clips += len(clip)
    # A rank without clips has no number of figures to contribute.
    parts = []
    for part, count in distributed.gather_objects((total, num_clips)):
        if count:
            parts.append((part, count))
    if not parts:
        return torch.empty(0, dtype=torch.float64), 0
    num_clips = sum(count for _, count in parts)
    return sum(part for part, _ in parts) / num_clips, num_clips


def effective_classes(mean: Tensor) -> float:
    """Return the effective number of predicted classes.

    It is exp(entropy) of the mean prediction: K if every class is predicted equally often, 1 if
    only one is.

    Args:
        mean: mean of the probabilities over clips, `[K]`.
    """
    return torch.special.entr(mean).sum().exp().item()


def in_turn(clips: Iterator[Tensor]) -> Iterator[tuple[int, Tensor | None]]:
    """Yield the batches of all ranks in the order of a single process.

    Args:
        clips: batches of this rank.

    Yields:
        The number of clips in a batch, and the batch, or `None` if it is another rank's.
    """
    while True:
        clip = next(clips, None)
        # Ranks may have different numbers of batches: all go on until the last has none.
        sizes = distributed.gather_objects(0 if clip is None else len(clip))
        if not any(sizes):
            return
        for rank, size in enumerate(sizes):
            if size:
                yield size, clip if rank == distributed.rank() else None


def sum_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Add up each parameter's gradient over ranks, one without a gradient contributing nothing."""
    for parameter in parameters:
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        parameter.grad = distributed.all_reduce_sum(grad)


@contextlib.contextmanager
def _training_only(model: nn.Module, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Train these parameters, frozen or not, and no others, in eval mode during the block."""
    # Parameters are compared by identity: `in` would compare tensors elementwise.
    wanted = {id(parameter) for parameter in parameters}
    was_training = model.training
    frozen = []
    for parameter in model.parameters():
        if parameter.requires_grad and id(parameter) not in wanted:
            frozen.append(parameter)
    # Those of a frozen backbone.
    thawed = [parameter for parameter in parameters if not parameter.requires_grad]
    model.eval()
    for parameter in frozen:
        parameter.requires_grad_(False)
    for parameter in thawed:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in thawed:
            parameter.requires_grad_(False)
        for parameter in frozen:
            parameter.requires_grad_(True)
        model.train(was_training)
        model.zero_grad(set_to_none=True)


class TentAdapter:
    """Adapter that minimises the entropy of predictions on unlabelled clips.

    One step of gradient descent with momentum a batch, on the scales and shifts of norm layers.
    Ranks take turns, so that their number does not change the steps; loading, and the passes
    before and after, are shared.

    Reset rule: the parameters are restored if predictions are not finite afterwards, or have
    collapsed to few classes, that is, their effective number is below `min_classes` times the
    number before.

    Args:
        lr: learning rate of the steps.
        statistics: adapter that re-estimates BatchNorm statistics before the steps.
        min_classes: share of the effective number of predicted classes that must remain, 0 to 1.
        hint: end of error messages, such as the configuration keys to look at.
    """

    name = "tent"
    changes_weights = True

    def __init__(
        self, lr: float, statistics: BatchNormAdapter, min_classes: float = 0.5, hint: str = ""
    ) -> None:
        self.lr = lr
        self.statistics = statistics
        self.min_classes = min_classes
        self.hint = hint

    def run(self, model: nn.Module, clips: Iterable[Tensor]) -> AdaptReport:
        """Adapt a model in place, in eval mode.

        Args:
            model: classifier of clips.
            clips: batches `[B, 3, T, H, W]` on the model's device, this rank's share. They are
                iterated several times (three by tent, four if there is BatchNorm): see
                `ReplayableClips`.

        Raises:
            UserError: if the model has no norm layer with a scale, or there are too few clips.
        """
        parameters = affine_parameters(model)
        if not parameters:
            message = (
                f"{self.name}: {type(model).__name__} has no norm layer with scale and shift: "
                "use another adapter"
            )
            raise UserError(with_hint(message, self.hint))
        if batchnorm_layers(model):
            self.statistics.run(model, clips)
        # Copies for the reset rule.
        before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        with _training_only(model, list(parameters.values())):
            mean, num_clips = mean_over_clips(model, clips, probabilities)
            self._check_clips(num_clips, len(mean))
            # The model after all steps is judged, not the models on the way.
            no_step = self._descend(model, list(parameters.values()), clips, num_clips)
            first = effective_classes(mean)
            last = effective_classes(mean_over_clips(model, clips, probabilities)[0])
        if no_step:
            note = f"{self.name}: the model is left as it is: {no_step}"
            return AdaptReport(self.name, num_clips=num_clips, note=note)
        # Negated, so that it holds for NaN as well.
        if not last >= self.min_classes * first:
            self._restore(parameters, before)
            note = (
                f"{self.name}: put back: {first:.1f} effective classes became {last:.1f} "
                f"of {num_clips} dark clips"
            )
            return AdaptReport(self.name, num_clips=num_clips, note=note)
        moved = []
        for name, parameter in parameters.items():
            moved.append(self._relative_change(name, parameter, before[name]))
        return AdaptReport(self.name, num_clips=num_clips, layers=moved, unit="of its size")

    def _check_clips(self, num_clips: int, num_classes: int) -> None:
        """Raise an error if there are too few clips to learn from."""
        if num_clips == 0:
            raise UserError(with_hint(f"{self.name}: no dark clip to adapt to", self.hint))

    def _descend(
        self,
        model: nn.Module,
        parameters: Sequence[nn.Parameter],
        clips: Iterable[Tensor],
        num_clips: int,
    ) -> str:
        """Take a step on each batch, the same on all ranks.

        Args:
            model: classifier in eval mode.
            parameters: those that are changed.
            clips: batches of this rank.
            num_clips: number of clips of all ranks.

        Returns:
            The reason if no step was taken, else an empty string.
        """
        optimizer = torch.optim.SGD(parameters, lr=self.lr, momentum=MOMENTUM)
        for _, clip in in_turn(iter(clips)):
            optimizer.zero_grad(set_to_none=True)
            if clip is not None:
                with torch.enable_grad():
                    entropy(logits_of(model, clip)).mean().backward()
            sum_gradients(parameters)
            optimizer.step()
        return ""

    @staticmethod
    def _restore(parameters: Mapping[str, nn.Parameter], before: Mapping[str, Tensor]) -> None:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(before[name])

    @staticmethod
    def _relative_change(
        name: str, parameter: nn.Parameter, before: Tensor
    ) -> dict[str, float | str]:
        """Return the root mean square change of a parameter, over its root mean square."""
        shift = (parameter.detach() - before).double().square().mean().sqrt()
        scale = before.double().square().mean().sqrt().clamp_min(1e-6)
        return {"name": name, "shift": (shift / scale).item()}
