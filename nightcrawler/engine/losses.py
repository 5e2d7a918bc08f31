"""Losses on logits and soft targets; `utils.registries.LOSSES` names their builders."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

# Logits `[B, K]` and target `[B, K]` to a scalar.
Loss = Callable[[Tensor, Tensor], Tensor]
# The losses that train on one label per clip; all others need probabilities of every class.
HARD_LABEL_LOSSES = ("hard",)


def soft_cross_entropy(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the mean over the batch of -sum_k t_k log softmax(z / T)_k.

    Args:
        logits: z, float `[B, K]`.
        target: t, float `[B, K]`, rows sum to 1.
        temperature: T, above 0.

    Returns:
        A scalar.
    """
    return -(target * functional.log_softmax(logits / temperature, dim=1)).sum(dim=1).mean()


def distillation(logits: Tensor, target: Tensor, temperature: float = 1.0) -> Tensor:
    """Return T^2 KL(p_T || q_T), mean over the batch (Hinton et al. 2015, section 2).

    q_T is softmax(z / T) of the student's logits z. The teacher's logits are not known, but
    its probabilities p are: softmax(log(p) / T), that is p^(1/T) normalised, equals the softmax
    of the teacher's logits over T. The factor T^2 keeps the gradient's size at any T.

    Args:
        logits: z, float `[B, K]`.
        target: p, float `[B, K]`, the teacher's probabilities at T = 1.
        temperature: T, above 0.

    Returns:
        A scalar.
    """
    # The smallest normal number in place of 0, whose logarithm would be -inf.
    log_teacher = target.clamp_min(torch.finfo(target.dtype).tiny).log() / temperature
    log_teacher = functional.log_softmax(log_teacher, dim=1)
    log_student = functional.log_softmax(logits / temperature, dim=1)
    loss = functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return temperature**2 * loss


def distillation_published(
    logits: Tensor,
    target: Tensor,
    temperature: float = 1.0,
    teacher_dtype: torch.dtype = torch.float16,
) -> Tensor:
    """Return the distillation loss as the published method computes it, for comparison.

    Unlike `distillation`, it casts the teacher's probabilities to float16, divides them by T, so
    they no longer sum to 1, and takes the mean over all B x K elements instead of the batch.

    Args:
        logits: the student's, float `[B, K]`.
        target: the teacher's probabilities, float `[B, K]`.
        temperature: T, above 0.
        teacher_dtype: dtype that the teacher is cast to. The rounding of float16, with which the
            published method trains, moves the loss by about 1e-4 of itself.

    Returns:
        A scalar of the logits' dtype.
    """
    log_student = functional.log_softmax(logits / temperature, dim=1)
    teacher = target.to(teacher_dtype) / temperature
    return temperature**2 * functional.kl_div(log_student, teacher, reduction="none").mean()


def weighted_cross_entropy(
    logits: Tensor, target: Tensor, weights: Tensor, smoothing: float = 0.0
) -> Tensor:
    """Return the mean over the batch of cross entropies weighted by class.

    A clip of mixed classes weighs as the mean of these.

    Args:
        logits: float `[B, K]`.
        target: float `[B, K]`, rows sum to 1.
        weights: of each class, float `[K]`.
        smoothing: label smoothing of the targets, below 1. Its share of other classes does not
            weigh: a rare class would lend its weight to every clip.

    Returns:
        A scalar.
    """
    losses = -(target * functional.log_softmax(logits, dim=1)).sum(dim=1)
    classes = (target - smoothing / target.shape[1]) / (1 - smoothing)
    return (losses * (classes @ weights.to(target))).mean()


def adjusted_cross_entropy(logits: Tensor, target: Tensor, shares: Tensor) -> Tensor:
    """Return the cross entropy of logits to which the logarithms of the classes' shares are added.

    A model that fits z + log(share) gives the logits z of classes that are equally frequent (Menon
    et al. 2021, "Long-tail learning via logit adjustment", equation 10 with tau 1).

    Args:
        logits: z, float `[B, K]`.
        target: float `[B, K]`, rows sum to 1.
        shares: of each class among the clips, above 0, float `[K]`.

    Returns:
        A scalar.
    """
    return soft_cross_entropy(logits + shares.log().to(logits), target)


def labelled_loss(balance: str, counts: Tensor, smoothing: float = 0.0) -> Loss:
    """Return the loss of labelled clips.

    Args:
        balance: `weights`, `logits`, or another text for plain cross entropy.
        counts: number of clips of each class, int64 `[K]`. A class without clips counts as one.
        smoothing: label smoothing of the targets, below 1.
    """
    numbers = counts.clamp(min=1).float()
    if balance == "weights":
        # Of mean 1 over the clips.
        weights = counts.sum() / (counts.count_nonzero() * numbers)
        return functools.partial(weighted_cross_entropy, weights=weights, smoothing=smoothing)
    if balance == "logits":
        return functools.partial(adjusted_cross_entropy, shares=numbers / numbers.sum())
    return soft_cross_entropy


def cross_entropy_loss(temperature: float) -> Loss:
    """Return cross entropy with labels (`hard`) or probabilities (`soft`), at T = 1 always."""
    return soft_cross_entropy


def distillation_loss(temperature: float) -> Loss:
    """Return `distillation` at a temperature."""
    return functools.partial(distillation, temperature=temperature)


def distillation_published_loss(temperature: float) -> Loss:
    """Return `distillation_published` at a temperature."""
    return functools.partial(distillation_published, temperature=temperature)
