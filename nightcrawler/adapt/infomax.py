"""Information maximisation on the scales and shifts of norm layers.

Each prediction is made certain, and the mean prediction of a step's clips even over the classes:
SHOT, Liang et al., "Do we really need to access the source data? Source hypothesis transfer for
unsupervised domain adaptation", ICML 2020, section 3.2. Only clips that are certain already are
made more so, the most certain most, as in EATA: Niu et al., "Efficient test-time model adaptation
without forgetting", ICML 2022, section 4.1. Unlike in SHOT, norm layers alone are trained, and
there are no pseudo-labels.

The method assumes that the unlabelled clips show all classes about equally often.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from nightcrawler.adapt.base import with_hint
from nightcrawler.adapt.tent import (
    TentAdapter,
    entropy,
    in_turn,
    logits_of,
    mean_over_clips,
    probabilities,
    sum_gradients,
)
from nightcrawler.utils.errors import UserError

# Clips whose mean prediction is made even, and that a step learns from.
STEP_CLIPS = 16
PASSES = 2
# Largest entropy of a certain clip, over that of a uniform prediction, as in EATA.
CERTAIN = 0.4


def certainty(logits: Tensor) -> Tensor:
    """Return the weight of each clip: 1 at the largest entropy of a certain clip, 0 above it.

    It grows with certainty to K to the power of `CERTAIN`.

    Args:
        logits: `[B, K]`.

    Returns:
        `[B]`, without a gradient.
    """
    limit = CERTAIN * math.log(logits.shape[-1])
    entropies = entropy(logits.detach())
    return torch.where(entropies < limit, (limit - entropies).exp(), 0.0)


def step_batches(clips: Iterator[Tensor], num_clips: int) -> Iterator[list[Tensor]]:
    """Yield the batches of each step, in the order of a single process.

    Args:
        clips: batches of this rank.
        num_clips: number of clips of all ranks.

    Yields:
        This rank's batches of a step, which may be none. Over all ranks, a step has at least
        `STEP_CLIPS` clips, or all if there are fewer: the last takes the rest.
    """
    batches = []
    size = 0
    remaining = num_clips
    for batch_size, clip in in_turn(clips):
        size += batch_size
        remaining -= batch_size
        if clip is not None:
            batches.append(clip)
        if size >= STEP_CLIPS and remaining >= STEP_CLIPS:
            yield batches
            batches = []
            size = 0
    if size:
        yield batches


def add_gradients(model: nn.Module, batches: Sequence[Tensor]) -> bool:
    """Add this rank's part of a step's gradient to the parameters.

    The loss of a step is the weighted mean of the entropies of its clips, less the entropy of
    their mean prediction. It does not depend on how the clips are batched: their means are
    computed first, so that no more than a batch is held in memory.

    Args:
        model: classifier in eval mode.
        batches: clips `[B, 3, T, H, W]`, this rank's share of the step.

    Returns:
        Whether there is a certain clip on any rank. If not, nothing is added.
    """
    means, num_clips = mean_over_clips(model, batches, _probabilities_and_certainty)
    mean_prediction = means[:-1]
    weight = means[-1].item() * num_clips
    if weight == 0:
        return False
    for clip in batches:
        with torch.enable_grad():
            logits = logits_of(model, clip)
            certain = (certainty(logits) * entropy(logits)).sum() / weight
            # The derivative of the sum of m log m is log m + 1. The ones cancel, since the
            # probabilities of a clip add up to 1.
            slope = mean_prediction.clamp_min(torch.finfo(torch.float32).tiny).log().to(logits)
            even = (probabilities(logits) * slope).sum() / num_clips
            (certain + even).backward()
    return True


def _probabilities_and_certainty(logits: Tensor) -> Tensor:
    return torch.cat([probabilities(logits), certainty(logits).unsqueeze(-1)], dim=-1)


class InfomaxAdapter(TentAdapter):
    """Adapter that makes predictions certain, and even over the classes, on unlabelled clips.

    Two passes over the clips with Adam, a step on `STEP_CLIPS` clips. If there is BatchNorm, its
    statistics are re-estimated first and kept during the steps. Up to rounding, the steps depend
    neither on the number of ranks nor on how clips are batched. They do depend on the order of
    clips, which should not go by class.

    Where a class is far more frequent than the others, clips of it are pushed to others.

    Example:
        >>> from nightcrawler.adapt.batchnorm import BatchNormAdapter
        >>> model = nn.Sequential(nn.Flatten(), nn.LayerNorm(24), nn.Linear(24, 3))
        >>> adapter = InfomaxAdapter(lr=1e-3, statistics=BatchNormAdapter())
        >>> adapter.run(model, [torch.rand(8, 3, 2, 2, 2)]).num_clips
        8

    Args:
        lr: learning rate of the steps.
        statistics: adapter that re-estimates BatchNorm statistics before the steps.
        min_classes: share of the effective number of predicted classes that must remain, 0 to 1.
        hint: end of error messages, such as the configuration keys to look at.
    """

    name = "infomax"

    def _check_clips(self, num_clips: int, num_classes: int) -> None:
        super()._check_clips(num_clips, num_classes)
        if num_clips < num_classes:
            message = (
                f"{self.name}: {num_clips} dark clips cannot show {num_classes} classes equally "
                f"often: give {num_classes} clips or more, or use another adapter"
            )
            raise UserError(with_hint(message, self.hint))

    def _descend(
        self,
        model: nn.Module,
        parameters: Sequence[nn.Parameter],
        clips: Iterable[Tensor],
        num_clips: int,
    ) -> str:
        """Take steps, the same on all ranks. See `TentAdapter`."""
        optimizer = torch.optim.Adam(parameters, lr=self.lr)
        is_changed = False
        for _ in range(PASSES):
            for batches in step_batches(iter(clips), num_clips):
                optimizer.zero_grad(set_to_none=True)
                if add_gradients(model, batches):
                    sum_gradients(parameters)
                    optimizer.step()
                    is_changed = True
        if is_changed:
            return ""
        return f"none of {num_clips} dark clips is certain (entropy below {CERTAIN} log K)"
